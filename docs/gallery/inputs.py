"""Inputs of the losses as functions of one number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def double(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def margin(t: Tensor) -> Tensor:
    """Two logits (1,2), the true class's first."""
    return torch.stack([t, torch.zeros_like(t)])[None]


def label(t: Tensor) -> tuple[Tensor, Tensor]:
    return margin(t), torch.tensor([0])


def element(target: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One logit (1,1) and its target."""
    return lambda t: (t.reshape(1, 1), double([target]))


def tags(*targets: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A logit among those of other classes, which are 0, and the targets of all."""
    return lambda t: (torch.stack([t, *(torch.zeros_like(t) for _ in targets[1:])])[None], double(targets))


def labels_of(first: int, second: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Two logits of a sample of class 0, in a batch with so many samples of each class."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        rest = torch.zeros(first + second - 1, 2, dtype=torch.float64)
        return torch.cat([margin(t), rest]), torch.tensor([0] * first + [1] * second)

    return at


def in_a_batch(target: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Logits of three samples and three classes, all 0 but one, whose target is this."""
    first, second = [target, 1 - target, 1 - target], [1 - target, target, target]

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.nn.functional.pad(t.reshape(1, 1), (0, 2, 0, 2))
        return logits, double(first, second, second)

    return at


def distribution(q: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda t: (margin(t), double([q, 1 - q]))


def copies(clean: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Logits (2,2) of an image of this margin, and of its copy."""
    return lambda t: (torch.cat([margin(torch.full_like(t, clean)), margin(t)]), torch.tensor([0]))


def box(width: float, height: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A box of this size, its centre t to the right of that of a unit square."""
    half = double(width / 2, height / 2)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        centre = torch.stack([t, torch.zeros_like(t)])
        return torch.cat([centre - half, centre + half])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def towards(degrees: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A unit square, t away from another in this direction."""
    direction = double(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([t * direction - 0.5, t * direction + 0.5])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def aspect(shift: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A box of area 1 with width / height = 2ᵗ, beside a unit square."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        half, centre = torch.stack([2 ** (t / 2), 2 ** (-t / 2)]) / 2, double(shift, 0)
        return torch.cat([centre - half, centre + half])[None], double([-0.5, -0.5, 0.5, 0.5])

    return at


def error(t: Tensor) -> tuple[Tensor, Tensor]:
    return t.reshape(1, 1), torch.zeros(1, 1, dtype=torch.float64)


def bins(target: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """17 logits of a bell around t, and a target position."""
    return lambda t: (-((torch.arange(17) - t) ** 2)[None] / 2, double(target))


def distances(target: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """33 logits of a bell around t, and a target distance."""
    return lambda t: (-((torch.arange(33) - t) ** 2)[None] / 2, double(target))


def layers(matched: bool) -> Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """Four boxes, one of them matched: bells of a teacher, and of a student t aside in one of the two groups."""
    is_matched = torch.tensor([True, False, False, False])

    def at(t: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        bins = (torch.arange(33, dtype=torch.float64) - 16).expand(4, 4, -1)
        shift = torch.where(is_matched == matched, t, 0).reshape(4, 1, 1)
        return -((bins - shift) ** 2) / 8, -(bins**2) / 8, {"matched": is_matched}

    return at


def keypoint(t: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """One point, t to the right of its target, of an object of area 1."""
    pred = torch.stack([t, torch.zeros_like(t)])[None, None]
    return pred, torch.zeros(1, 1, 2, dtype=torch.float64), {"area": double(1)}


def image_box(width: float, height: float) -> Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """As `box`, in an image of four by four."""
    at = box(width, height)
    return lambda t: (*at(t), {"image_size": double(4, 4)})


def rotated(stretch: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A rotated box of area 16, t degrees from its target."""
    square = double(0, 0, 4 * stretch, 4 / stretch, 0)
    return lambda t: ((square + t * double(0, 0, 0, 0, math.pi / 180))[None], square[None])


def shifted(degrees: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A rotated box, 4 by 1, t from its target in a direction."""
    direction = double(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0, 0, 0)
    return lambda t: ((double(0, 0, 4, 1, 0) + t * direction)[None], double(0, 0, 4, 1, 0)[None])


SIDE = 48


def disc(radius: float, shift: Tensor | float = 0.0) -> Tensor:
    """Signed distance (1,1,48,48) to the rim of a disc that is moved to the right: positive inside."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    return (radius - ((place[None, :] - shift) ** 2 + place[:, None] ** 2 + 1e-12).sqrt())[None, None]


def one_channel(radius: float, sharpness: float = 2.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda t: (sharpness * disc(radius, t), (disc(radius) > 0).double())


def growing(radius: float, sharpness: float = 2.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A predicted disc of radius t at the place of the true one."""
    return lambda t: (sharpness * (disc(0.0) + t), (disc(radius) > 0).double())


def two_channels(radius: float, sharpness: float = 2.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Background and object, with class indices as target."""

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        logits = sharpness * disc(radius, t)
        return torch.cat([torch.zeros_like(logits), logits], 1), (disc(radius) > 0)[:, 0].long()

    return at


def bar(width: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A line from left to right that is moved downwards, one channel, and the line in the middle."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) // 2

    def inside(shift: Tensor | float) -> Tensor:
        return (width / 2 - ((place - shift) ** 2 + 1e-12).sqrt())[:, None].expand(SIDE, SIDE)[None, None]

    return lambda t: (4 * inside(t), (inside(0.0) > 0).long())


def at_points(radius: float) -> Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """A disc as `one_channel`, and uniform points."""
    coords = torch.rand(1, 2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return lambda t: (*one_channel(radius)(t), {"point_coords": coords})


def mined(t: Tensor) -> tuple[Tensor, Tensor]:
    """Four pixels of class 0: one with margin t, three that are badly wrong, so that the first need not be kept."""
    rows = torch.stack([t, *double(-3, -3, -3)])
    return torch.stack([rows, torch.zeros_like(rows)]).reshape(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)


def mined_binary(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([t, *double(-3, -3, -3)]).reshape(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.float64)


def against_teacher(t: Tensor) -> tuple[Tensor, Tensor]:
    return margin(t), double([2, 0])


def listed(t: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Four classes, of which the teacher lists two; the student's logit of the first is varied."""
    zero = torch.zeros_like(t)
    log_p = double([2, 1, 0, 0]).log_softmax(1)
    return torch.stack([t, zero + 1, zero, zero])[None], (torch.tensor([[0, 1]]), log_p[:, :2])


def teacher_logit(value: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One logit, and the teacher's."""
    return lambda t: (t.reshape(1), double(value))


def with_label(t: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Three classes; the target class's logit is varied."""
    zero = torch.zeros_like(t)
    return torch.stack([t, zero + 1, zero])[None], double([3, 0, 1]), {"labels": torch.tensor([0])}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(teacher: Tensor, other: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A student whose rows stand t degrees from the teacher's."""
    base = teacher / teacher.norm(dim=1, keepdim=True)
    side = other - (other * base).sum(1, keepdim=True) * base
    side = side / side.norm(dim=1, keepdim=True)
    return lambda t: (torch.cos(t * math.pi / 180) * base + torch.sin(t * math.pi / 180) * side, base)


def beside(t: Tensor) -> tuple[Tensor, Tensor]:
    """A feature t away from a teacher's unit vector, at a right angle."""
    return torch.stack([torch.ones_like(t), t])[None], double([1, 0])


MAP = normal(1, 4, 4, 4, seed=1)


def one_location(t: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's feature map with one location scaled by t."""
    place = torch.zeros(4, 4, dtype=torch.float64)
    place[1, 2] = 1
    return MAP * (1 + (t - 1) * place), MAP


def noisy_map(t: Tensor) -> tuple[Tensor, Tensor]:
    return MAP + t * normal(1, 4, 4, 4, seed=2), MAP


POINTS = double([0, -0.4], [1, 0], [0.2, 1], [1.2, 1.3])


def one_point(t: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's four points in the plane, the first moved to the right by t."""
    return POINTS + torch.zeros_like(POINTS).index_put(
        (torch.tensor(0), torch.tensor(0)), torch.ones(()).double()
    ) * t, POINTS
