"""Kernels of the feature distances."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.feature_loss.elementwise import feature_cosine_loss, feature_l1_loss, feature_mse_loss

_Result = tuple[Tensor, Tensor | None]


def _plain(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> bool:
    return not normalize


def _plain_half(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> bool:
    # on an accelerator, F.mse_loss in full precision needs no more memory, and moves fewer bytes
    return not normalize and pred.dtype in (torch.float16, torch.bfloat16)


def _normalized_maps(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> bool:
    return normalize and pred.ndim != 3


def _normalized_tokens(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> bool:
    return normalize and pred.ndim == 3


@kernel(feature_mse_loss, device="accelerator", supports=_plain_half, temporaries=5)
@kernel(feature_mse_loss, device="cpu", supports=_plain, temporaries=5)
def squared(x: Tensor, t: Tensor, *, needs_grad: bool, **_: Any) -> _Result:
    """Squared difference of each element."""
    difference = x - t
    return difference * difference, difference.mul_(2) if needs_grad else None


@kernel(feature_l1_loss, supports=_plain, bound=1.0, temporaries=5)
def absolute(x: Tensor, t: Tensor, *, needs_grad: bool, **_: Any) -> _Result:
    """Absolute difference of each element."""
    difference = x - t
    return difference.abs(), difference.sign_() if needs_grad else None


def _sum(x: Tensor) -> Tensor:
    return x.sum(1, keepdim=True)


def _inverse_length(x: Tensor, eps: float) -> Tensor:
    """1/‖x‖ of each row, 0 where ‖x‖ ≤ eps."""
    return F.threshold(_sum(x * x), eps * eps, torch.inf).rsqrt_()  # NaN stays


def _cosine(x: Tensor, t: Tensor, eps: float, factor: float, needs_grad: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """|u - v|² and 1 - cos of each row, with u = x/‖x‖ and v = t/‖t‖, and ``factor`` times the gradient of 1 - cos.

    The gradient is (u cos - v)/‖x‖ = ((u - v) - u (1 - cos))/‖x‖, of which nothing cancels.
    """
    scale_x, scale_t = _inverse_length(x, eps), _inverse_length(t, eps)
    difference = (x * scale_x).addcmul_(t, scale_t, value=-1)
    squared = _sum(difference * difference)
    value = (squared / 2).masked_fill_(scale_x * scale_t == 0, 1)
    if not needs_grad:
        return squared, value, None
    return squared, value, difference.addcmul_(x, value * scale_x, value=-1).mul_(factor * scale_x)


@kernel(feature_cosine_loss, temporaries=4, large_blocks=True)
def cosine(x: Tensor, t: Tensor, *, needs_grad: bool, eps: float, **_: Any) -> _Result:
    """1 - cosine of each row."""
    _squared, value, grad = _cosine(x, t, eps, 1.0, needs_grad)
    return value.squeeze(1), grad


@kernel(feature_mse_loss, supports=_normalized_maps, layout="classes", temporaries=4, large_blocks=True)
@kernel(feature_mse_loss, supports=_normalized_tokens, layout="last", temporaries=4, large_blocks=True)
def squared_of_unit(x: Tensor, t: Tensor, *, needs_grad: bool, eps: float, **_: Any) -> _Result:
    """|u - v|² of each row: 2 (1 - cos), and a constant where u or v is 0."""
    value, _cosine_distance, grad = _cosine(x, t, eps, 2.0, needs_grad)
    return value.squeeze(1), grad


@kernel(feature_l1_loss, supports=_normalized_maps, layout="classes", temporaries=4, large_blocks=True)
@kernel(feature_l1_loss, supports=_normalized_tokens, layout="last", temporaries=4, large_blocks=True)
def absolute_of_unit(x: Tensor, t: Tensor, *, needs_grad: bool, eps: float, **_: Any) -> _Result:
    """Σ|u - v| of each row; with s the signs of u - v, its gradient is (s - u (u·s))/‖x‖."""
    scale_x, scale_t = _inverse_length(x, eps), _inverse_length(t, eps)
    difference = (x * scale_x).addcmul_(t, scale_t, value=-1)
    value = difference.abs().sum(1)
    if not needs_grad:
        return value, None
    sign = difference.sign_()
    along = _sum(x * sign).mul_(scale_x).mul_(scale_x)
    return value, sign.addcmul_(x, along, value=-1).mul_(scale_x)
