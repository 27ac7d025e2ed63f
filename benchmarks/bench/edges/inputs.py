"""The inputs of the rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.case import Inputs
from bench.checks import replaced
from bench.edges.exact import IGNORED
from bench.edges.subject import Edge

Make = Callable[[], Inputs]
ANY = (-math.inf, math.inf)
HALF, BFLOAT = torch.float16, torch.bfloat16


def random(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cast(make: Make, dtype: torch.dtype) -> Make:
    """The same in another precision."""
    return lambda: replaced(make(), lambda t: t.to(dtype) if t.is_floating_point() else t)


def changed(make: Make, pred: Callable[[Inputs], Tensor] | None = None, target: object = None) -> Make:
    """The same with another pred or target, each made from the inputs."""

    def make_changed() -> Inputs:
        given = make()
        new = dataclasses.replace(given, target=target(given) if callable(target) else given.target)
        return dataclasses.replace(new, pred=pred(new) if pred else given.pred)

    return make_changed


def nothing(make: Make) -> Make:
    """An empty batch."""
    return lambda: replaced(make(), lambda t: t[:0])


def one(make: Make) -> Make:
    """One sample."""
    return lambda: replaced(make(), lambda t: t[:1])


def compiled(make: Make) -> Edge:
    return Edge("torch.compile", make, compiled=True)


def half(make: Make, where: str = "") -> tuple[Edge, ...]:
    return tuple(Edge(f"{name}{where}", cast(make, dtype)) for name, dtype in (("float16", HALF), ("bfloat16", BFLOAT)))


def saturated(make: Make, *, still: bool = False) -> tuple[Edge, ...]:
    """Logits as far out as they get, most of them right; ``still``: where the slope of the loss is zero."""

    def out(limit: float) -> Callable[[Inputs], Tensor]:
        return lambda given: limit * given.pred.sign()

    return (
        Edge("logits ±6e4, float16", cast(changed(make, out(6e4)), HALF), still=still),
        Edge("logits ±1e4", changed(make, out(1e4)), still=still),
    )


# ------------------------------------------------------------------------------------------------------------- images


def labelled(n: int, c: int, side: int) -> Make:
    """Logits (N,C,H,W) and labels in connected regions, which the logits follow with noise."""

    def make() -> Inputs:
        coarse = random(n, c, 5, 5, seed=1)
        label = F.interpolate(coarse, (side, side), mode="bilinear", align_corners=True).argmax(1)
        return Inputs(random(n, c, side, side) + 2 * F.one_hot(label, c).movedim(-1, 1), label)

    return make


def labelled_rows(n: int, c: int) -> Make:
    """Logits (N,C) and labels (N,), which the logits follow with noise."""

    def make() -> Inputs:
        label = random(n, c, seed=1).argmax(1)
        return Inputs(random(n, c) + 2 * F.one_hot(label, c), label)

    return make


def paired(make: Make) -> Make:
    """The same with a copy of each row, with noise: logits (2N,C), and all labels twice."""

    def make_pairs() -> Inputs:
        given = make()
        copy = given.pred + random(*given.pred.shape, seed=2, scale=0.5)
        return Inputs(torch.cat([given.pred, copy]), given.target.repeat(2))

    return make_pairs


def masked(n: int, side: int) -> Make:
    """Logits (N,1,H,W) and masks of 0 and 1."""

    def make() -> Inputs:
        coarse = F.interpolate(random(n, 1, 5, 5, seed=1), (side, side), mode="bilinear", align_corners=True)
        mask = (coarse > 0.3).float()
        return Inputs(random(n, 1, side, side) + 4 * mask - 2, mask)

    return make


def some_ignored(given: Inputs) -> Tensor:
    """The upper half of the first image does not count."""
    target: Tensor = given.target.clone()
    target[0, ..., : target.shape[-2] // 2, :] = IGNORED
    return target


def all_ignored(given: Inputs) -> Tensor:
    return torch.full_like(given.target, IGNORED)


def poisoned(given: Inputs) -> Tensor:
    """NaN where the target is ignored."""
    target: Tensor = given.target
    ignored = target == IGNORED
    return given.pred.masked_fill(ignored if target.ndim == given.pred.ndim else ignored.unsqueeze(1), math.nan)


def ignoring(make: Make) -> tuple[Edge, ...]:
    partly = changed(make, target=some_ignored)
    return (
        Edge("255 ignored", partly, "ignore"),
        Edge("NaN where ignored", changed(partly, poisoned), "ignore"),
        Edge("all ignored", changed(make, target=all_ignored), "ignore", still=True),
    )


def typed(make: Make, *dtypes: torch.dtype) -> tuple[Edge, ...]:
    """Targets of other dtypes."""

    def as_type(dtype: torch.dtype) -> Callable[[Inputs], Tensor]:
        return lambda given: given.target.to(dtype)

    return tuple(
        Edge(f"{str(dtype).removeprefix('torch.')} target", changed(make, target=as_type(dtype))) for dtype in dtypes
    )


def label_edges(small: Make, large: Make) -> tuple[Edge, ...]:
    """What all losses of logits with labels are given."""
    return (
        *half(large, ", 512²"),
        *saturated(small),
        *ignoring(small),
        Edge("empty batch", nothing(small), still=True),
        Edge("one image", one(small)),
        *typed(small, torch.uint8, torch.int32),
        compiled(small),
    )


def tagged(n: int, c: int) -> Make:
    """Logits (N,C) and 0 or 1 for each, which the logits follow with noise; no row is without a 1."""

    def make() -> Inputs:
        score = random(n, c, seed=1)
        tags = ((score > 1.5) | (score == score.amax(1, keepdim=True))).float()
        return Inputs(random(n, c) + 2 * tags - 1, tags)

    return make


def tag_edges(small: Make, large: Make) -> tuple[Edge, ...]:
    """What all losses of rows (N,C) with multi-hot targets are given."""

    def some(given: Inputs) -> Tensor:
        target: Tensor = given.target.clone()
        target[0] = IGNORED
        target[:, 1] = IGNORED
        return target

    partly = changed(small, target=some)
    return (
        *half(large, ", 4096 rows"),
        *saturated(small),
        Edge("255 ignored", partly, "ignore"),
        Edge("NaN where ignored", changed(partly, poisoned), "ignore"),
        Edge("all ignored", changed(small, target=all_ignored), "ignore", still=True),
        Edge("empty batch", nothing(small), still=True),
        Edge("one row", one(small)),
        Edge("no positive", changed(small, target=lambda given: torch.zeros_like(given.target)), still=True),
        Edge("no negative", changed(small, target=lambda given: torch.ones_like(given.target)), still=True),
        *typed(small, torch.uint8, torch.int64),
        compiled(small),
    )


def row_edges(small: Make, large: Make) -> tuple[Edge, ...]:
    """What all losses of rows (N,C) with labels (N,) are given."""

    def half_ignored(given: Inputs) -> Tensor:
        target: Tensor = given.target.clone()
        target[::2] = IGNORED
        return target

    partly = changed(small, target=half_ignored)
    return (
        *half(large, ", 4096 rows"),
        *saturated(small),
        Edge("255 ignored", partly, "ignore"),
        Edge("NaN where ignored", changed(partly, poisoned), "ignore"),
        Edge("all ignored", changed(small, target=all_ignored), "ignore", still=True),
        Edge("empty batch", nothing(small), still=True),
        Edge("one row", one(small)),
        *typed(small, torch.uint8, torch.int32),
        compiled(small),
    )


def mask_edges(small: Make, large: Make, *, flat: bool = False) -> tuple[Edge, ...]:
    """What all losses of logits with masks are given; ``flat``: those whose slope is that of a sigmoid."""
    return (
        *half(large, ", 512²"),
        *saturated(small, still=flat),
        *ignoring(small),
        Edge("empty batch", nothing(small), still=True),
        Edge("one image", one(small)),
        Edge("empty mask", changed(small, target=lambda given: torch.zeros_like(given.target))),
        Edge("full mask", changed(small, target=lambda given: torch.ones_like(given.target))),
        *typed(small, torch.uint8, torch.int64),
        compiled(small),
    )
