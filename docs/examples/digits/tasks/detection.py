"""Where are the digits, and which ones? A small anchor-free detector on canvases of one to three digits.

Every location of a feature map scores the ten digits and gives, for each side of a box, a distribution over the
distance to it, as in generalised focal loss (Li et al. 2020).
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from losses_core import CombinedLoss, LossTerms, compute_iou

from ..canvas import SIZE, Canvases, paste
from ..data import load
from ..plot import CLASSES, GRID, INK
from ..training import Task

STRIDE = 4
BINS = 8  # distances of 0 … 7 strides: reg_max 7 in the YAML file
BACKGROUND = 10
SHOWN, GAP = 4, 4
"""Canvases in the picture, and the pixels between them."""


class Detector(nn.Module):
    """(N, 1, SIZE, SIZE) → logits (N, L, 10) and distances (N, L, 4, BINS) at L locations."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(1, 16, stride=2),
            *_layer(16, width, stride=2),
            *_layer(width, 2 * width),
            *_layer(2 * width, 2 * width, dilation=2),
            *_layer(2 * width, 2 * width),
        )
        self.head = nn.Conv2d(2 * width, 10 + 4 * BINS, 1)
        nn.init.constant_(self.head.bias[:10], -3.0)  # almost every location is background

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.head(self.body(images)).flatten(2).transpose(1, 2)
        return maps[..., :10], maps[..., 10:].unflatten(2, (4, BINS))


def _layer(channels: int, width: int, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU()


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


@functools.cache
def _data() -> tuple[Canvases, Canvases]:
    """Canvases to train on and to test on."""
    train, test = load()
    return paste(*train, count=800, seed=0), paste(*test, count=150, seed=1)


class Detection(Task):
    title = "boxes of one to three digits on a canvas"
    metric = "box IoU"
    goal = 0.7
    epochs = 8
    batch_size = 32
    learning_rate = 1e-2

    def __init__(self) -> None:
        made, self.test = _data()
        self.train = TensorDataset(made.images, made.boxes, made.labels)
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

    def draw(self, axes: Axes, trained: Mapping[str, Task]) -> None:
        """The fullest canvases with the detected boxes in the colour of their digit, the true ones dashed."""
        found, step = self._detect(), SIZE + GAP
        order = (self.test.labels >= 0).sum(1).argsort(descending=True, stable=True)
        for place, index in enumerate(order[:SHOWN].tolist()):
            left, top = place % 2 * step, place // 2 * step
            axes.imshow(1 - self.test.images[index, 0], cmap="gray", extent=(left, left + SIZE, top + SIZE, top))
            axes.add_patch(Rectangle((left, top), SIZE, SIZE, fill=False, edgecolor=GRID))
            for box in self.test.boxes[index]:
                axes.add_patch(_frame(box, left, top, edgecolor=INK, linestyle=(0, (3, 3)), linewidth=0.8))
            for box, digit, score in zip(*found[index], strict=True):
                colour = CLASSES[int(digit)]
                axes.add_patch(_frame(box, left, top, edgecolor=colour, linewidth=1.6))
                corner = left + float(box[0]), top + float(box[1]) - 0.5
                text = axes.text(*corner, f"{digit} {score:.2f}", color=colour, va="bottom", fontsize=8)
                text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        limits = (-1, step + SIZE + 1)
        axes.set(xlim=limits, ylim=limits[::-1], title="test canvases: digit, score; dashed: truth")
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


def _frame(box: Tensor, left: int, top: int, **style: Any) -> Rectangle:
    x1, y1, x2, y2 = box.tolist()
    return Rectangle((left + x1, top + y1), x2 - x1, y2 - y1, fill=False, **style)


def build() -> Task:
    return Detection()
