"""A loss of the IoU family: a function of the overlap plus terms, with one backward for all of them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.autograd import Function
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat, corners
from losses_det._geometry import Geometry, Slopes, corner_slopes, where_above
from losses_det._penalties import Term

Mode = Literal["iou", "linear", "log", "square"]
MODES: tuple[str, ...] = get_args(Mode)
KEPT = 1 << 16
"""Coordinates up to which the slope is computed in the forward pass and kept."""


@dataclasses.dataclass(frozen=True)
class BoxLoss:
    """f(IoU) + terms, and its derivative in the numbers of the prediction."""

    terms: tuple[Term, ...]
    mode: Mode
    eps: float
    bbox_format: BoxFormat

    def __call__(self, pred: Tensor, target: Tensor, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        """The loss (…) and, if asked for, its slope (4,…)."""
        g = Geometry(
            corners(pred, self.bbox_format), corners(target, self.bbox_format), self.eps, hull=bool(self.terms)
        )
        value, by_iou = self._of_iou(g.iou)
        slopes = Slopes()
        for term in self.terms:
            more, slope = term(g)
            value, slopes = value + more, slopes + slope
        return value, self._to_box(*corner_slopes(g, by_iou, slopes)) if with_slope else None

    def _of_iou(self, iou: Tensor) -> tuple[Tensor, Tensor | None]:
        """f and its derivative, None for the constant -1."""
        if self.mode == "log":
            clamped = iou.clamp(min=self.eps)
            return -clamped.log(), where_above(self.eps, iou, -clamped.reciprocal())
        if self.mode == "square":
            return 1 - iou.square(), -2 * iou
        return 1 - iou, None

    def _to_box(self, low: Tensor, high: Tensor) -> Tensor:
        """From slopes in the corners to slopes in the four numbers of a box."""
        if self.bbox_format == "xyxy":
            return torch.cat((low, high))
        return torch.cat((low + high, high if self.bbox_format == "ltwh" else (high - low) / 2))


class _BoxLossFunction(Function):
    """One pass for value and slope. Keeps the boxes, and the slope where that is small."""

    @staticmethod
    def forward(loss: BoxLoss, pred: Tensor, target: Tensor, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        return loss(pred, target, with_slope)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[BoxLoss, Tensor, Tensor, bool], output: tuple[Tensor, Tensor | None]
    ) -> None:
        ctx.loss, pred, target, _ = inputs
        _, slope = output
        if slope is not None:
            ctx.mark_non_differentiable(slope)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(pred, target, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[None, Tensor | None, Tensor | None, None]:
        pred, target, slope = ctx.saved_tensors
        of_pred = of_target = None
        if grad is not None and ctx.needs_input_grad[1]:
            if slope is None or torch.is_grad_enabled():
                _, slope = ctx.loss(pred, target, True)
            of_pred = (slope * grad).movedim(0, -1)
        if grad is not None and ctx.needs_input_grad[2]:
            # every loss of the family is symmetric in its two boxes
            _, slope = ctx.loss(target, pred, True)
            of_target = (slope * grad).movedim(0, -1)
        return None, of_pred, of_target, None


def box_loss(
    pred: Tensor, target: Tensor, *terms: Term, mode: Mode, eps: float, bbox_format: BoxFormat
) -> Tensor:
    """Evaluate f(IoU) + terms on boxes (…,4)."""
    for name, known, given in (("mode", MODES, mode), ("bbox_format", BOX_FORMATS, bbox_format)):
        if given not in known:
            raise InputError(f"{name}: expected one of {', '.join(map(repr, known))}; got {given!r}.")
    checks.tensor("target", target)
    if pred.ndim == 0 or pred.shape[-1] != 4:
        raise InputError(f"expected pred with boxes of shape (…, 4); got {tuple(pred.shape)}.")
    if pred.shape != target.shape:
        raise InputError(
            f"expected target of the shape of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            "Boxes are compared row by row: match them first, with compute_iou(pred, target, pairwise=True) for one."
        )
    loss = BoxLoss(terms, mode, eps, bbox_format)
    with_slope = pred.requires_grad and not torch.compiler.is_compiling() and pred.numel() <= KEPT
    value, _ = _BoxLossFunction.apply(loss, pred, target.to(pred.dtype), with_slope)
    return value  # type: ignore[no-any-return]
