"""Where are the digits, and which ones? A small anchor-free detector on canvases of one to three digits.

Every location of a feature map scores the ten digits and gives, for each side of a box, a distribution over the distance
to it, as in generalised focal loss (Li et al. 2020).
"""

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms, compute_iou

from ..canvas import SIZE, paste
from ..data import load
from ..plot import CLASSES
from ..training import Task

STRIDE = 4
BINS = 8  # distances of 0 … 7 strides: reg_max 7 in the YAML file
BACKGROUND = 10
SHOWN = 4


class Detector(nn.Module):
    """(N, 1, SIZE, SIZE) → logits (N, L, 10) and distances (N, L, 4, BINS) at L locations."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(1, 16),
            nn.MaxPool2d(2),
            *_layer(16, width),
            nn.MaxPool2d(2),
            *_layer(width, 2 * width),
            *_layer(2 * width, 2 * width, dilation=2),
            *_layer(2 * width, 2 * width),
        )
        self.head = nn.Conv2d(2 * width, 10 + 4 * BINS, 1)
        nn.init.constant_(self.head.bias[:10], -3.0)  # almost every location is background

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.head(self.body(images)).flatten(2).transpose(1, 2)
        return maps[..., :10], maps[..., 10:].unflatten(2, (4, BINS))


def _layer(channels: int, width: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(width), nn.ReLU()


def _points() -> Tensor:
    steps = (torch.arange(SIZE // STRIDE) + 0.5) * STRIDE
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


POINTS = _points()


def decode(distances: Tensor) -> Tensor:
    """Boxes (…, L, 4) from distributions (…, L, 4, BINS): the expected distance to each side."""
    sides = (distances.softmax(-1) * torch.arange(BINS)).sum(-1) * STRIDE
    return torch.cat([POINTS - sides[..., :2], POINTS + sides[..., 2:]], -1)


def assign(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each location's digit (N, L), BACKGROUND for most, and its box (N, L, 4): the box whose centre it is near."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    away = (POINTS[:, None] - centre[:, None]).abs().amax(-1)  # (N, L, boxes)
    near = (away < 1.5 * STRIDE) & (labels >= 0)[:, None]
    nearest = away.masked_fill(~near, torch.inf).argmin(-1)
    found = labels.gather(1, nearest).masked_fill(~near.any(-1), BACKGROUND)
    return found, boxes.gather(1, nearest[..., None].expand(-1, -1, 4))


class Detection(Task):
    metric = "mean IoU of the boxes"
    goal = 0.7
    epochs = 14
    batch_size = 32
    learning_rate = 6e-3

    def __init__(self) -> None:
        train, test = load()
        made = paste(*train, count=800, seed=0)
        self.train = TensorDataset(made.images, made.boxes, made.labels)
        self.test = paste(*test, count=150, seed=1)
        self.model = Detector()

    def terms(self, criterion: CombinedLoss, batch: tuple[Tensor, ...]) -> LossTerms:
        images, boxes, labels = batch
        logits, distances = self.model(images)
        digit, box = assign(boxes, labels)
        positive = digit < BACKGROUND
        predicted = decode(distances)
        # the score to learn is how well the box at that place fits
        quality = compute_iou(predicted.detach(), box) * positive
        sides = torch.cat([POINTS - box[..., :2], box[..., 2:] - POINTS], -1)[positive] / STRIDE
        return criterion.terms(
            {"quality": logits.flatten(0, 1), "distribution": distances[positive], "box": predicted[positive]},
            {"quality": (digit.flatten(), quality.flatten()), "distribution": sides, "box": box[positive]},
            avg_factor={"quality": positive.sum()},
        )

    def score(self) -> float:
        """IoU of every true box with the best detection of its digit, 0 where there is none; averaged."""
        found = self._detect()
        overlaps = []
        for index, (boxes, digits, _) in enumerate(found):
            for box, digit in zip(self.test.boxes[index], self.test.labels[index], strict=True):
                if digit >= 0:
                    same = compute_iou(box[None], boxes[digits == digit], pairwise=True)
                    overlaps.append(float(same.max()) if same.numel() else 0.0)
        return sum(overlaps) / len(overlaps)

    def draw(self, axes: Axes) -> None:
        """Canvases with the detected boxes in the colour of their digit, the true ones dashed."""
        for index, (boxes, digits, scores) in enumerate(self._detect()[:SHOWN]):
            left, top = index % 2 * (SIZE + 2), index // 2 * (SIZE + 2)
            axes.imshow(1 - self.test.images[index, 0], cmap="gray", extent=(left, left + SIZE, top + SIZE, top))
            for box, label in zip(self.test.boxes[index], self.test.labels[index], strict=True):
                if label >= 0:
                    axes.add_patch(_frame(box, left, top, "#888888", "--"))
            for box, digit, score in zip(boxes, digits.tolist(), scores.tolist(), strict=True):
                axes.add_patch(_frame(box, left, top, CLASSES[digit], "-"))
                place = (left + float(box[0]), top + float(box[1]) - 0.5)
                axes.text(*place, f"{digit} {score:.2f}", color=CLASSES[digit], va="bottom", fontsize=8)
        axes.set(xlim=(0, 2 * SIZE + 2), ylim=(2 * SIZE + 2, -2), title="four test canvases (dashed: truth)")
        axes.axis("off")

    @torch.no_grad()
    def _detect(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(boxes, digits, scores) of each test canvas, overlapping ones of lower score left out."""
        self.model.eval()
        logits, distances = self.model(self.test.images)
        scores, digits = logits.sigmoid().max(-1)
        return [_suppress(*one) for one in zip(decode(distances), digits, scores, strict=True)]


def _suppress(boxes: Tensor, digits: Tensor, scores: Tensor, least: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    order = scores.argsort(descending=True)[: int((scores > least).sum())]
    overlap = compute_iou(boxes[order], boxes[order], pairwise=True)
    kept: list[int] = []
    for index in range(len(order)):
        if all(overlap[index, other] < 0.4 for other in kept):
            kept.append(index)
    order = order[kept]
    return boxes[order], digits[order], scores[order]


def _frame(box: Tensor, left: int, top: int, colour: str, line: str) -> Rectangle:
    x1, y1, x2, y2 = box.tolist()
    return Rectangle((left + x1, top + y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=line)


def build() -> Task:
    return Detection()
