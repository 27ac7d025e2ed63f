"""Losses of boxes and of their scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.case import Function, Inputs
from bench.edges import exact
from bench.edges.inputs import BFLOAT, HALF, cast, changed, compiled, half, nothing, one, random, saturated
from bench.edges.libraries import always, having
from bench.edges.subject import Edge, Implementation, Subject
from bench.peers import load
from losses_core import build_loss


def pairs(n: int = 6) -> Inputs:
    """Boxes of an image, and targets that overlap them."""
    corner, size = 50 + 350 * random(n, 2, scale=0.1).abs(), 60 + 30 * random(n, 2, seed=1, scale=0.5).abs()
    target = torch.cat((corner, corner + size), 1)
    return Inputs(target + random(n, 4, seed=2, scale=6.0), target)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def _one_nan(given: Inputs) -> Tensor:
    pred = given.pred.clone()
    pred[-1] = math.nan
    return pred


def _weighted() -> Inputs:
    given = pairs()
    weight = torch.ones(len(given.target))
    weight[-1] = 0
    return dataclasses.replace(given, pred=_one_nan(given), call={"weight": weight})


def _edges(most: float, *flat: str) -> tuple[Edge, ...]:
    """``most``: the largest loss of a pair; ``flat``: rows where its slope is zero."""
    shape, far = boxes((10, 10, 40, 50), (5, 20, 60, 30)), boxes((10, 10, 40, 50), (500, 400, 510, 420))
    points = boxes((10, 20, 10, 20), (30, 30, 30, 30))

    def given(pred: Tensor, target: Tensor) -> Callable[[], Inputs]:
        return lambda: Inputs(pred, target)

    inverted = (
        ("both sides inverted", shape[:, [2, 3, 0, 1]]),
        ("one side inverted", shape[:, [2, 1, 0, 3]]),
    )
    return (
        *half(pairs, ", pixels"),
        Edge("equal boxes", given(shape, shape), still=True),
        Edge("apart", given(far, far.flip(0)), still="apart" in flat),
        Edge("pred a point", given(points, shape), still="point" in flat),
        Edge("pred a line", given(boxes((10, 10, 10, 50), (5, 25, 60, 25)), shape), still="point" in flat),
        Edge("both points, apart", given(points, points.flip(0)), bounds=(0, most), still="points" in flat),
        Edge("the same point", given(points, points), bounds=(0, most), still=True),
        *(Edge(f"pred with {name}", given(pred, shape), bounds=(0, most), still=True) for name, pred in inverted),
        Edge("NaN in another pair", changed(pairs, _one_nan), "none"),
        Edge("NaN at weight 0", _weighted, "weight"),
        Edge("empty batch", nothing(pairs), still=True),
        Edge("one pair", one(pairs)),
        compiled(pairs),
    )


def _reduction(option: str | None) -> str:
    return "none" if option == "none" else "mean"


def _ours(name: str, right: exact.Exact, **options: object) -> Implementation:
    def make(option: str | None) -> Function:
        return build_loss({"type": name, "reduction": _reduction(option), **options})

    return having("none weight", make, right)


def _function(target: str, right: exact.Exact) -> Implementation:
    return having("none", lambda option: partial(load(target), reduction=_reduction(option)), right)


def _mmdet(name: str, right: exact.Exact, **options: object) -> Implementation:
    def make(option: str | None) -> Function:
        loss = load(f"mmdet.models.losses.iou_loss:{name}")
        return loss(reduction=_reduction(option), **options)  # type: ignore[no-any-return]

    return having("none weight", make, right)


def _monai(right: exact.Exact) -> Implementation:
    def make(option: str | None) -> Function:
        return load("monai.losses.giou_loss:BoxGIoULoss")(_reduction(option))  # type: ignore[no-any-return]

    return having("none", make, right)


IOU, GIOU, DIOU, CIOU = (partial(exact.box_loss, kind) for kind in ("iou", "giou", "diou", "ciou"))

BOXES: dict[str, tuple[tuple[Any, ...], dict[str, Implementation]]] = {
    "IoU": (
        (1, "apart", "point", "points"),
        {"losses": _ours("IoULoss", IOU, mode="linear"), "mmdet": _mmdet("IoULoss", IOU, mode="linear")},
    ),
    "GIoU": (
        (2, "points"),
        {
            "losses": _ours("GIoULoss", GIOU),
            "torchvision": _function("torchvision.ops.giou_loss:generalized_box_iou_loss", GIOU),
            "fvcore": _function("fvcore.nn.giou_loss:giou_loss", GIOU),
            "monai": _monai(GIOU),
            "mmdet": _mmdet("GIoULoss", GIOU),
        },
    ),
    "DIoU": (
        (2,),
        {
            "losses": _ours("DIoULoss", DIOU),
            "torchvision": _function("torchvision.ops.diou_loss:distance_box_iou_loss", DIOU),
            "mmdet": _mmdet("DIoULoss", DIOU),
        },
    ),
    "CIoU": (
        (3,),
        {
            "losses": _ours("CIoULoss", CIOU),
            "torchvision": _function("torchvision.ops.ciou_loss:complete_box_iou_loss", CIOU),
            "mmdet": _mmdet("CIoULoss", partial(exact.box_loss, "gated ciou")),
        },
    ),
}


def turned(n: int = 6) -> Inputs:
    """Rotated boxes, and targets that overlap them."""
    centre, size = 50 + 350 * random(n, 2, scale=0.1).abs(), 60 + 30 * random(n, 2, seed=1, scale=0.5).abs()
    target = torch.cat((centre, size, random(n, 1, seed=3, scale=0.5)), 1)
    return Inputs(target + random(n, 5, seed=2) * torch.tensor([3.0, 3.0, 3.0, 3.0, 0.1]), target)


def _turned_edges() -> tuple[Edge, ...]:
    shape = boxes((10, 10, 40, 50, 0.3), (5, 20, 60, 30, -1.0))
    line, point = shape * torch.tensor([1.0, 1, 1, 0, 1]), shape * torch.tensor([1.0, 1, 0, 0, 1])
    thin = boxes((100, 100, 400, 0.5, 0.3), (100, 100, 400, 0.5, 0.3))
    return (
        *half(turned, ", pixels"),
        Edge("equal boxes", lambda: Inputs(shape, shape.clone()), still=True),
        Edge("pred a line", lambda: Inputs(line, shape)),
        Edge("pred a point", lambda: Inputs(point, shape)),
        Edge("target a line", lambda: Inputs(shape, line)),
        Edge("thin boxes", lambda: Inputs(thin + torch.tensor([1.0, 0, 5, 0.1, 0]), thin)),
        Edge("empty batch", nothing(turned), still=True),
        Edge("one pair", one(turned)),
        compiled(turned),
    )


def offsets() -> Inputs:
    return Inputs(random(6, 4), random(6, 4, seed=1))


def _far() -> Inputs:
    return Inputs(6e4 * random(6, 4).sign(), 6e4 * random(6, 4, seed=1).sign())


def _same(given: Inputs) -> Tensor:
    pred: Tensor = given.target.clone()
    return pred


OFFSETS = (
    *half(offsets),
    Edge("±6e4, float16", cast(_far, HALF)),
    Edge("±6e4, bfloat16", cast(_far, BFLOAT)),
    Edge("equal", changed(offsets, _same), still=True),
    Edge("empty batch", nothing(offsets), still=True),
    compiled(offsets),
)


def scored() -> Inputs:
    """Logits (N,C), and for each anchor a label and an IoU; most are background, C."""
    label = torch.tensor([0, 4, 4, 2, 4, 4])
    return Inputs(random(6, 4), (label, random(6, seed=1, scale=1.0).sigmoid() * (label < 4)))


def dense() -> Inputs:
    return Inputs(random(6, 4), random(6, 4, seed=1).relu().clamp(max=1))


def bins() -> Inputs:
    return Inputs(random(6, 17), 15.9 * random(6, seed=1).sigmoid())


def heatmap() -> Inputs:
    target = random(6, 4, seed=1).abs().clamp(max=1)
    return Inputs(random(6, 4), target)


def fine_bins() -> Inputs:
    return Inputs(random(6, 33), random(6, seed=1, scale=1.0))


def _beyond(given: Inputs) -> Tensor:
    target: Tensor = given.target
    return target.sign() * 9


def _last_bin(given: Inputs) -> Tensor:
    return torch.full_like(given.target, 16.0)


def _scores(make: Callable[[], Inputs]) -> tuple[Edge, ...]:
    return (*half(make), *saturated(make), Edge("empty batch", nothing(make), still=True), compiled(make))


def _probabilities(make: Callable[[], Function]) -> Callable[[], Function]:
    def of_logits() -> Function:
        loss = make()
        return lambda x, target: loss(torch.sigmoid(x), target)

    return of_logits


def _both(name: str, theirs: str, right: exact.Exact) -> dict[str, Implementation]:
    return {
        "losses": always(lambda: build_loss({"type": name}), right),
        "mmdet": always(lambda: load(f"mmdet.models.losses.{theirs}")(), right),
    }


SUBJECTS = [
    *(Subject(name, "Boxes", pairs, _edges(*limits), libraries) for name, (limits, libraries) in BOXES.items()),
    Subject(
        "NWD",
        "Boxes",
        pairs,
        (
            *half(pairs, ", pixels"),
            Edge("equal boxes", changed(pairs, lambda given: given.target.clone()), still=True),
            Edge("empty batch", nothing(pairs), still=True),
            Edge("one pair", one(pairs)),
            compiled(pairs),
        ),
        {"losses": always(lambda: build_loss("NWDLoss"), exact.wasserstein)},
    ),
    *(
        Subject(
            name,
            "Boxes",
            turned,
            _turned_edges(),
            {"losses": always(partial(build_loss, f"{name}Loss"), partial(exact.rotated, name.lower()))},
        )
        for name in ("ProbIoU", "GWD", "KLD")
    ),
    Subject(
        "Smooth L1",
        "Offsets and scores",
        offsets,
        OFFSETS,
        {
            "torch": always(lambda: F.smooth_l1_loss, exact.smooth_l1),
            "fvcore": always(
                lambda: partial(load("fvcore.nn.smooth_l1_loss:smooth_l1_loss"), beta=1.0, reduction="mean"),
                exact.smooth_l1,
            ),
            **_both("SmoothL1Loss", "smooth_l1_loss:SmoothL1Loss", exact.smooth_l1),
        },
    ),
    Subject(
        "L1",
        "Offsets and scores",
        offsets,
        OFFSETS,
        {
            "torch": always(lambda: F.l1_loss, exact.absolute),
            **_both("L1Loss", "smooth_l1_loss:L1Loss", exact.absolute),
        },
    ),
    Subject(
        "Quality focal",
        "Offsets and scores",
        scored,
        _scores(scored),
        _both("QualityFocalLoss", "gfocal_loss:QualityFocalLoss", exact.quality_focal),
    ),
    Subject(
        "Varifocal",
        "Offsets and scores",
        dense,
        _scores(dense),
        _both("VariFocalLoss", "varifocal_loss:VarifocalLoss", exact.varifocal),
    ),
    Subject(
        "Distribution focal",
        "Offsets and scores",
        bins,
        (*_scores(bins), Edge("target in the last bin", changed(bins, target=_last_bin))),
        _both("DistributionFocalLoss", "gfocal_loss:DistributionFocalLoss", exact.distribution_focal),
    ),
    Subject(
        "Matchability-aware",
        "Offsets and scores",
        scored,
        _scores(scored),
        {"losses": always(lambda: build_loss("MatchabilityAwareLoss"), exact.matchability_aware)},
    ),
    Subject(
        "IoU-aware BCE",
        "Offsets and scores",
        scored,
        _scores(scored),
        {"losses": always(lambda: build_loss("IoUAwareBCELoss"), exact.iou_aware)},
    ),
    Subject(
        "Fine-grained localization",
        "Offsets and scores",
        fine_bins,
        (*_scores(fine_bins), Edge("target beyond the last bin", changed(fine_bins, target=_beyond))),
        {"losses": always(lambda: build_loss("FineGrainedLocalizationLoss"), exact.fine_grained)},
    ),
    Subject(
        "Gaussian focal",
        "Offsets and scores",
        heatmap,
        _scores(heatmap),
        {
            "losses": always(lambda: build_loss("GaussianFocalLoss"), exact.gaussian_focal),
            "mmdet": always(
                _probabilities(lambda: load("mmdet.models.losses.gaussian_focal_loss:GaussianFocalLoss")()),
                exact.gaussian_focal,
            ),
        },
    ),
]
