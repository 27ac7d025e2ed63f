"""Inputs of the cases, at the sizes and with the statistics of real training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bench.case import Inputs

Make = Callable[[Generator], Inputs]


def logits(generator: Generator, *shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator)


def labels(generator: Generator, classes: int, *shape: int) -> Tensor:
    return torch.randint(classes, shape, generator=generator)


def labelled(n: int, c: int, *spatial: int) -> Make:
    """Logits (N,C,*S) and labels (N,*S)."""
    return lambda g: Inputs(logits(g, n, c, *spatial), labels(g, c, n, *spatial))


def split(number: int, n: int, c: int) -> Make:
    """Logits of a batch and of its augmented copies, (number·n,C), and labels (n,)."""

    def make(g: Generator) -> Inputs:
        clean = logits(g, n, c)
        copies = [clean + logits(g, n, c, scale=0.5) for _ in range(number - 1)]
        return Inputs(torch.cat([clean, *copies]), labels(g, c, n))

    return make


def mixed(n: int, c: int) -> Make:
    """Logits (N,C), and distributions over two classes each, as MixUp makes them."""

    def make(g: Generator) -> Inputs:
        share = torch.rand(n, 1, generator=g)
        first, second = (F.one_hot(labels(g, c, n), c).float() for _ in range(2))
        return Inputs(logits(g, n, c), first * share + second * (1 - share))

    return make


def tags(n: int, c: int, positive: float) -> Make:
    """Logits (N,C) and 0 or 1 for each, of which a share is 1."""
    return lambda g: Inputs(logits(g, n, c), (torch.rand(n, c, generator=g) < positive).float())


def anchors(n: int, c: int, positive: float) -> Make:
    """Logits (N,C), and a label for each anchor, of which most are background, C."""

    def make(g: Generator) -> Inputs:
        label = labels(g, c, n).masked_fill(torch.rand(n, generator=g) >= positive, c)
        return Inputs(logits(g, n, c), label)

    return make


def scored_anchors(n: int, c: int, positive: float) -> Make:
    """Logits (N,C), and for each anchor a label and an IoU."""

    def make(g: Generator) -> Inputs:
        given = anchors(n, c, positive)(g)
        score = torch.rand(n, generator=g).masked_fill(given.target == c, 0)
        return Inputs(given.pred, (given.target, score))

    return make


def scores(n: int, c: int, positive: float) -> Make:
    """Logits (N,C) and scores, most of them 0."""

    def make(g: Generator) -> Inputs:
        score = torch.rand(n, c, generator=g)
        return Inputs(logits(g, n, c), score.masked_fill(torch.rand(n, c, generator=g) >= positive, 0))

    return make


def lines(n: int, side: int) -> Make:
    """Logits (N,1,side,side) that follow a mask of thin curves with noise, and the mask."""

    def make(g: Generator) -> Inputs:
        coarse = F.interpolate(torch.randn(n, 1, 9, 9, generator=g), (side, side), mode="bilinear", align_corners=True)
        mask = (coarse.abs() < 0.06).float()
        return Inputs(4 * mask - 2 + logits(g, n, 1, side, side), mask)

    return make


def sampled_masks(n: int, side: int, points: int) -> Make:
    """Logits (N,side,side), masks of four times the resolution, and the points to look at."""

    def make(g: Generator) -> Inputs:
        coarse = F.interpolate(
            torch.randn(n, 1, 5, 5, generator=g), (4 * side,) * 2, mode="bilinear", align_corners=True
        )
        mask = (coarse.squeeze(1) > 0.3).float()
        pred = F.avg_pool2d(4 * mask - 2, 4) + logits(g, n, side, side)
        return Inputs(pred, mask, {"point_coords": torch.rand(n, points, 2, generator=g)})

    return make


def boxes(n: int) -> Make:
    """Boxes in an image of 640 pixels, and targets that overlap most of them."""

    def make(g: Generator) -> Inputs:
        corner, size = 500 * torch.rand(n, 2, generator=g), 10 + 100 * torch.rand(n, 2, generator=g)
        # a box that keeps its corners in order, as every library wants them
        half = size * (0.2 * torch.randn(n, 2, generator=g)).exp() / 2
        centre = corner + size / 2 + 0.25 * size * torch.randn(n, 2, generator=g)
        return Inputs(torch.cat((centre - half, centre + half), 1), torch.cat((corner, corner + size), 1))

    return make


def rotated(n: int) -> Make:
    """Rotated boxes in an image of 640 pixels, and targets that overlap most of them."""

    def make(g: Generator) -> Inputs:
        corner, size = 500 * torch.rand(n, 2, generator=g), 10 + 100 * torch.rand(n, 2, generator=g)
        target = torch.cat((corner, size, 3 * torch.rand(n, 1, generator=g) - 1.5), 1)
        centre = corner + 0.25 * size * torch.randn(n, 2, generator=g)
        side = size * (0.2 * torch.randn(n, 2, generator=g)).exp()
        return Inputs(torch.cat((centre, side, target[:, 4:] + 0.2 * torch.randn(n, 1, generator=g)), 1), target)

    return make


def offsets(n: int) -> Make:
    """Predicted and true box offsets."""
    return lambda g: Inputs(torch.randn(n, 4, generator=g), torch.randn(n, 4, generator=g))


def bins(n: int, sides: int, number: int) -> Make:
    """Logits (N·sides, bins) and distances."""
    return lambda g: Inputs(logits(g, n * sides, number), (number - 1) * torch.rand(n * sides, generator=g))


def fine_distances(n: int, number: int) -> Make:
    """Logits (N,bins) and distances, most of them near 0."""
    return lambda g: Inputs(logits(g, n, number), torch.randn(n, generator=g))


def two_layers(n: int, number: int, matched: float) -> Make:
    """Logits (N,4,bins) of two layers, which boxes are matched, and the quality of each."""

    def make(g: Generator) -> Inputs:
        call = {"matched": torch.rand(n, generator=g) < matched, "quality": torch.rand(n, generator=g)}
        return Inputs(logits(g, n, 4, number), logits(g, n, 4, number), call)

    return make


def heatmaps(n: int, c: int, size: int, peaks: float) -> Make:
    """Logits (N,C,H,W), and heatmaps with peaks of 1 and Gaussians around them."""

    def make(g: Generator) -> Inputs:
        centre = (torch.rand(n, c, size, size, generator=g) < peaks).float()
        place = torch.arange(-3, 4, dtype=torch.float32)
        bell = torch.exp(-(place[:, None] ** 2 + place**2) / 4).expand(c, 1, 7, 7)
        around = F.conv2d(centre, bell, padding=3, groups=c).clamp(max=0.99)
        return Inputs(logits(g, n, c, size, size) - 3, torch.maximum(centre, around))

    return make


def keypoints(n: int, points: int) -> Make:
    """Keypoints of objects of about 100 pixels, a fifth of them without a label."""

    def make(g: Generator) -> Inputs:
        target = 100 * torch.rand(n, points, 2, generator=g)
        call = {
            "area": 2e3 + 8e3 * torch.rand(n, generator=g),
            "visibility": (torch.rand(n, points, generator=g) > 0.2).to(torch.int8),
        }
        return Inputs(target + 8 * torch.randn(n, points, 2, generator=g), target, call)

    return make


def blobs(n: int, c: int, size: int, present: int | None = None) -> Make:
    """Logits (N,C,H,W) and a map of labels in connected regions, which the logits follow with noise."""

    def make(g: Generator) -> Inputs:
        coarse = torch.randn(n, present or c, 9, 9, generator=g)
        label = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True).argmax(1)
        truth = F.one_hot(label, c).movedim(-1, 1).float()
        return Inputs(logits(g, n, c, size, size) + 2 * truth, label)

    return make


def masks(n: int, size: int) -> Make:
    """Logits (N,1,H,W) and masks of 0 and 1 in connected regions."""

    def make(g: Generator) -> Inputs:
        coarse = torch.randn(n, 1, 9, 9, generator=g)
        mask = (F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True) > 0.5).float()
        return Inputs(logits(g, n, 1, size, size) + 4 * mask - 2, mask)

    return make


def pair(*shape: int, scale: float = 1.0) -> Make:
    """Two tensors of one shape, of student and teacher."""
    return lambda g: Inputs(logits(g, *shape, scale=scale), logits(g, *shape, scale=scale))


def features(*shape: int) -> Make:
    """Features after a ReLU, as the blocks of a network give them."""
    return lambda g: Inputs(logits(g, *shape, scale=1.0).relu(), logits(g, *shape, scale=1.0).relu())


def embeddings(n: int, width: int, teacher_width: int | None = None) -> Make:
    """Two sets of N vectors of length 1."""

    def make(g: Generator) -> Inputs:
        student, teacher = torch.randn(n, width, generator=g), torch.randn(n, teacher_width or width, generator=g)
        return Inputs(F.normalize(student), F.normalize(teacher))

    return make
