"""A loss of the IoU family: a function of the overlap plus terms, with one backward for all of them."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.autograd import Function
from losses_core.utils.boxes import BOX_FORMATS, BoxFormat, Corners, corners
from losses_det._geometry import Geometry, Slopes, add, to_corners, where_above
from losses_det._penalties import Term

Mode = Literal["iou", "linear", "log", "square"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclasses.dataclass(frozen=True)
class BoxLoss:
    """f(IoU) + terms, and its derivative in the coordinates of the prediction."""

    terms: tuple[Term, ...]
    mode: Mode
    eps: float
    bbox_format: BoxFormat

    def value(self, pred: Tensor, target: Tensor) -> Tensor:
        g = self._geometry(pred, target)
        value = self._overlap_value(g.iou)
        for term in self.terms:
            value = value + term.value(g)
        return value

    def slope(self, pred: Tensor, target: Tensor, grad: Tensor) -> Tensor:
        """``grad`` times the derivative."""
        g = self._geometry(pred, target)
        slopes = Slopes()
        for term in self.terms:
            slopes = Slopes(*(add(a, b) for a, b in zip(slopes, term.slopes(g), strict=True)))
        low, high = to_corners(g, self._overlap_slope(g.iou), slopes)
        return self._to_box(low, high, grad)

    def _geometry(self, pred: Tensor, target: Tensor) -> Geometry:
        return Geometry(corners(pred, self.bbox_format), corners(target, self.bbox_format), self.eps)

    def _overlap_value(self, iou: Tensor) -> Tensor:
        if self.mode == "log":
            return -iou.clamp(min=self.eps).log()
        return 1 - iou.square() if self.mode == "square" else 1 - iou

    def _overlap_slope(self, iou: Tensor) -> Tensor | float:
        if self.mode == "log":
            return where_above(self.eps, iou, -1 / iou.clamp(min=self.eps))
        return -2 * iou if self.mode == "square" else -1.0

    def _to_box(self, low: Tensor, high: Tensor, grad: Tensor) -> Tensor:
        """From slopes in the corners to slopes in the numbers of the box."""
        if self.bbox_format == "xyxy":
            parts = low, high
        elif self.bbox_format == "ltwh":
            parts = low + high, high
        else:
            parts = low + high, (high - low) / 2
        return (torch.cat(parts) * grad).movedim(0, -1)


class _BoxLossFunction(Function):
    """Keeps the two sets of boxes; composed from torch operations the losses keep four to twelve times as much."""

    @staticmethod
    def forward(loss: BoxLoss, pred: Tensor, target: Tensor) -> Tensor:
        return loss.value(pred, target)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[BoxLoss, Tensor, Tensor], output: Tensor) -> None:
        ctx.loss, *boxes = inputs
        ctx.save_for_backward(*boxes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        pred, target = ctx.saved_tensors
        _, of_pred, of_target = ctx.needs_input_grad
        return (
            None,
            ctx.loss.slope(pred, target, grad) if of_pred else None,
            # every loss of the family is symmetric
            ctx.loss.slope(target, pred, grad) if of_target else None,
        )


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
    return _BoxLossFunction.apply(loss, pred, target.to(pred.dtype))  # type: ignore[no-any-return]
