"""Float32 values on hard inputs: the error against float64 is at most 4 times that of plain torch operations."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from losses_core import build_loss
from losses_core.kernels import use_definitions

ROUNDING = 16
"""Units in the last place that any result may be off: a sum of rounded terms is, in one order or another."""


@dataclass
class Hard:
    """Inputs on which a careless formula loses precision.

    Attributes:
        config: of the loss.
        pred: in float32; its exact value is that of these numbers in float64.
        target: likewise.
        call: keywords of the call.
        other: the same value by torch's own operator.
    """

    config: dict[str, Any]
    pred: Any
    target: Any
    call: dict[str, Any] = field(default_factory=dict)
    other: Callable[[Any, Any], Tensor] | None = None


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _normal(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=_generator()) * scale


def _labels(*shape: int, classes: int) -> Tensor:
    return torch.randint(classes, shape, generator=_generator())


def _confident(n: int, c: int, right: bool) -> tuple[Tensor, Tensor]:
    """Logits with one class 30 above the others, and that label, or another one."""
    labels = _labels(n, classes=c)
    return _normal(n, c) + 30 * F.one_hot(labels, c), labels if right else (labels + 1) % c


def _logits() -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, logits, labels)."""
    yield "confident right", *_confident(300, 20, True)
    yield "confident wrong", *_confident(300, 20, False)
    yield "shared offset", _normal(600, 1000) + 1000, _labels(600, classes=1000)
    yield "offset of ten", _normal(600, 1000) + 10, _labels(600, classes=1000)
    yield "32,000 classes", _normal(40, 32000, scale=3.0), _labels(40, classes=32000)
    yield "one class", _normal(50, 1), torch.zeros(50, dtype=torch.long)
    yield "large", _normal(100, 50, scale=200.0), _labels(100, classes=50)


def _softmax_cases() -> Iterator[tuple[str, Hard]]:
    for name, x, y in _logits():
        q = F.one_hot(y, x.shape[1]).float()
        soft = q * 0.9 + 0.1 / x.shape[1]
        yield f"CE, {name}", Hard({"type": "CrossEntropyLoss"}, x, y, other=F.cross_entropy)
        yield f"LabelSmooth, {name}", Hard({"type": "LabelSmoothLoss"}, x, y)
        yield f"SoftCE, {name}", Hard({"type": "SoftCrossEntropyLoss"}, x, soft, other=F.cross_entropy)
        yield f"Focal, {name}", Hard({"type": "FocalLoss"}, x, y)
        yield f"Focal, gamma 0.5, {name}", Hard({"type": "FocalLoss", "gamma": 0.5}, x, y)
        others = x.flip(0)
        for t in (0.1, 1.0, 20.0):
            yield f"KD, T={t}, {name}", Hard({"type": "KnowledgeDistillationLoss", "temperature": t}, x, others)
        if x.shape[1] > 1:
            yield f"DKD, {name}", Hard({"type": "DKDLoss"}, x, others, {"labels": y})
            yield f"DIST, {name}", Hard({"type": "DISTLoss"}, x, others)
        yield f"KD, near teacher, {name}", Hard({"type": "KnowledgeDistillationLoss"}, x, x + 1e-3 * _normal(*x.shape))


def _elementwise_cases() -> Iterator[tuple[str, Hard]]:
    t = (_normal(400, 20) > 0.5).float()
    for name, x in {
        "confident right": (2 * t - 1) * (30 + _normal(400, 20)),
        "confident wrong": (1 - 2 * t) * (30 + _normal(400, 20)),
        "near zero": _normal(400, 20, scale=1e-4),
        "moderate": _normal(400, 20, scale=4.0),
        "large": _normal(400, 20, scale=1000.0),
    }.items():
        native = F.binary_cross_entropy_with_logits
        yield f"BCE, {name}", Hard({"type": "BinaryCrossEntropyLoss"}, x, t, other=native)
        for kind in ("BinaryFocalLoss", "MultiLabelFocalLoss", "AsymmetricLoss", "AsymmetricLossOptimized"):
            yield f"{kind}, {name}", Hard({"type": kind}, x, t)
        yield f"QFL, {name}", Hard({"type": "QualityFocalLoss"}, x, t * 0.7)
        yield f"VFL, {name}", Hard({"type": "VariFocalLoss"}, x, t * 0.7)


def _box_cases() -> Iterator[tuple[str, Hard]]:
    corner, size = _normal(500, 2).abs() * 100, _normal(500, 2).abs() * 50 + 1
    boxes = torch.cat([corner, corner + size], 1)
    for name, pred, target in (
        ("moved", boxes, boxes + _normal(500, 4)),
        ("nearly equal", boxes, boxes * (1 + 1e-5 * _normal(500, 4))),
        ("tiny", boxes * 1e-3, boxes * 1e-3 + 1e-3 * _normal(500, 4)),
        ("huge", boxes * 100, boxes * 100 + 100 * _normal(500, 4)),
        ("far apart", boxes, boxes + 5000),
    ):
        for kind in ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "EIoULoss", "SIoULoss"):
            yield f"{kind}, {name}", Hard({"type": kind}, pred, target)
        yield f"SmoothL1, {name}", Hard({"type": "SmoothL1Loss"}, pred, target, other=F.smooth_l1_loss)
        yield f"L1, {name}", Hard({"type": "L1Loss"}, pred, target, other=F.l1_loss)
        yield f"BalancedL1, {name}", Hard({"type": "BalancedL1Loss"}, pred, target)
    bins, distance = _normal(200, 17), torch.rand(200, generator=_generator()) * 16
    gap = bins.clone()
    gap[:, :4] += 100
    for name, x in {"plain": bins, "a gap of 100": gap, "offset": bins + 1000}.items():
        yield f"DFL, {name}", Hard({"type": "DistributionFocalLoss"}, x, distance)


def _dense_cases() -> Iterator[tuple[str, Hard]]:
    one, mask = torch.zeros(1, 512, 512, dtype=torch.long), torch.zeros(1, 1, 512, 512)
    one[0, 100, 200], mask[0, 0, 100, 200] = 1, 1.0
    for name, scale in (("weak", 1.0), ("confident", 20.0)):
        x = _normal(1, 2, 512, 512)
        x[:, 0] += scale
        binary = _normal(1, 1, 512, 512) - scale
        for kind in ("DiceLoss", "GeneralizedDiceLoss", "LovaszLoss", "OHEMCrossEntropyLoss"):
            yield f"{kind}, one pixel, {name}", Hard({"type": kind}, x, one)
        for kind in ("BinaryDiceLoss", "LovaszHingeLoss", "OHEMBinaryLoss"):
            yield f"{kind}, one pixel, {name}", Hard({"type": kind}, binary, mask)
        small, label = x[..., :96, 150:246], one[:, :96, 150:246].clone()
        label[0, 40, 50] = 1
        yield f"HD, one pixel, {name}", Hard({"type": "HDLoss"}, small, label)
        yield f"Boundary, one pixel, {name}", Hard({"type": "BoundaryLoss"}, small, label)


def _feature_cases() -> Iterator[tuple[str, Hard]]:
    features = _normal(8, 32, 14, 14)
    for name, pred, target in (
        ("apart", features, features.flip(0)),
        ("nearly equal", features, features + 1e-4 * features.flip(0)),
        ("large", features * 1e4, features.flip(0) * 1e4),
        ("small", features * 1e-4, features.flip(0) * 1e-4),
    ):
        yield f"FeatureMSE, {name}", Hard({"type": "FeatureMSELoss"}, pred, target, other=F.mse_loss)
        for kind in ("FeatureL1Loss", "FeatureCosineLoss", "AttentionLoss"):
            yield f"{kind}, {name}", Hard({"type": kind}, pred, target)
        rows = pred.flatten(1)[:, :64].contiguous(), target.flatten(1)[:, :64].contiguous()
        for kind in ("RKDDistanceLoss", "RKDAngleLoss", "PKTLoss"):
            yield f"{kind}, {name}", Hard({"type": kind}, *rows)


TABLE = dict([*_softmax_cases(), *_elementwise_cases(), *_box_cases(), *_dense_cases(), *_feature_cases()])


def _value(hard: Hard, dtype: torch.dtype) -> Tensor:
    def cast(item: Any) -> Any:
        return item.to(dtype) if isinstance(item, Tensor) and item.is_floating_point() else item

    pred, target, call = tree_map(cast, (hard.pred, hard.target, hard.call))
    return build_loss(hard.config)(pred.clone().requires_grad_(), target, **call).detach()


def _error(value: Tensor, exact: Tensor) -> float:
    return abs(float(value.double() - exact))


@pytest.mark.parametrize("name", TABLE)
def test_a_value_is_as_exact_as_plain_operations_allow(name: str) -> None:
    hard = TABLE[name]
    with use_definitions():
        exact = _value(hard, torch.float64)
        plain = _error(_value(hard, torch.float32), exact)
    assert math.isfinite(exact)
    if hard.other is not None:
        plain = max(plain, _error(hard.other(hard.pred, hard.target), exact))
    rounding = ROUNDING * torch.finfo(torch.float32).eps * abs(float(exact))
    assert _error(_value(hard, torch.float32), exact) <= max(4 * plain, rounding)
