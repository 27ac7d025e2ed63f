"""Losses of the overlap of prediction and truth, not computed yet: on the host in one pass each way."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from losses_core.utils import host
from losses_core.utils.deferred import Deferred
from losses_core.utils.weight_reduce import Unreduced, total_normalizer
from losses_seg._activation import probabilities, slope_of_activation
from losses_seg._ranks import Ranks
from losses_seg._sums import Sums, class_sums
from losses_seg._sums_host import Plan, find_slope, find_sums
from losses_seg._targets import Activation, Target, has_pixels, held, left_out, read_form, read_target, resolve


class Formula(Protocol):
    """A loss of the sums of each image and class (N,C).

    ``seen`` says whether there is a pixel that is not ignored, (N,1) or (N,C); None: nothing is ignored.
    """

    @property
    def ranks(self) -> Ranks | None:
        """The processes that hold the batch together, where it is spread."""

    def __call__(self, sums: Sums, seen: Tensor | None) -> Unreduced:
        """The loss and its normalizer, in differentiable operations: (N,C) or (N,), or without N over the batch."""

    def slope(self, sums: Sums, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """The derivatives with respect to Σ p g and Σ p^e of the loss that each is in, (N,C), or (C,) over the batch.

        The loss is a number per image and class, or one per image; then the derivatives of that.
        """


class _Known(NamedTuple):
    """What a pass over the logits has found: sums without a gradient, and the loss of these."""

    sums: Sums
    p: Tensor
    seen: Tensor | None
    loss: Unreduced


class Overlap(Deferred):
    """A loss of logits and a target by way of their sums.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        formula: the loss of the sums.
        exponent: e ≥ 1 of the sums of ``pred`` and of a soft target.
        ignore_index: label whose pixels leave every sum.
        activation: what makes probabilities of ``pred``.
    """

    def __init__(
        self,
        pred: Tensor,
        target: Tensor,
        formula: Formula,
        *,
        exponent: float,
        ignore_index: int,
        activation: Activation,
    ) -> None:
        self.x, self.target, self.formula = pred, target, formula
        self.exponent, self.ignore_index, self.activation = exponent, ignore_index, activation
        self._known: _Known | None = None
        if host.on_host(pred, target) and not target.requires_grad and formula.ranks is None and pred.numel():
            self._look()

    def _look(self) -> None:
        self.values, index = read_form(self.x, self.target)
        kind = resolve(self.activation, self.x.shape[1])
        if kind == "none":
            return
        self.plan = Plan(kind == "softmax", index, self.exponent, self.ignore_index)
        with torch.no_grad():
            inter, pred, true, p, seen = find_sums(self.x, self.values, self.plan)
            sums = Sums(inter, pred, true)
            self._known = _Known(sums, p, seen, self.formula(sums, seen))

    @property
    def summable(self) -> bool:
        return self._known is not None

    def unreduced(self) -> Unreduced:
        if self._known is not None:
            return self._known.loss._replace(value=self._on_host(None))
        goal = read_target(self.x, self.target, self.ignore_index, self.activation)
        p = probabilities(self.x, goal.ignored, self.activation)
        return self.formula(class_sums(p, goal, self.exponent), has_pixels(goal))

    def total(self, scale: float | Tensor) -> Tensor:
        return self._on_host(scale)

    def normalizer(self) -> float | Tensor:
        assert self._known is not None
        return total_normalizer(self._known.loss.value, self._known.loss.normalizer)

    def _on_host(self, scale: float | Tensor | None) -> Tensor:
        result, _ = _OnHost.apply(self.x, self.values, self._known, self.plan, self.formula, scale)
        return result  # type: ignore[no-any-return]


class _OnHost(host.HostFunction):
    """The loss of sums that are known, with a backward to the logits; the probabilities are what is kept.

    They are an output as well, so that a double backward finds them in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        known: _Known,
        plan: Plan,
        formula: Formula,
        scale: float | Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.sums, ctx.seen, ctx.shape = known.sums, known.seen, x.shape
        ctx.plan, ctx.formula, ctx.scale = plan, formula, scale
        ctx.save_for_backward(known.p, values)
        ctx.set_materialize_grads(False)
        value = known.loss.value
        return value if scale is None else value.sum() * scale, known.p

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_p: Tensor | None) -> tuple[Tensor | None, ...]:
        p, values = ctx.saved_tensors
        plan: Plan = ctx.plan
        if grad is None or grad_p is not None or torch.is_grad_enabled():
            of_p = torch.zeros_like(p) if grad is None else _recorded(ctx, p, values, grad)
            result = slope_of_activation(of_p if grad_p is None else of_p + grad_p, p, plan.softmax)
        else:
            grad = grad if ctx.scale is None else grad * ctx.scale
            slopes = ctx.formula.slope(ctx.sums, ctx.seen)
            if grad.ndim and grad.ndim < slopes[0].ndim:
                grad = grad.unsqueeze(-1)
            of_inter, of_pred = ((slope * grad).expand(p.shape[:2]) for slope in slopes)
            result = find_slope(p, values, of_inter, of_pred, plan)
        return result.view(ctx.shape), None, None, None, None, None


def _recorded(ctx: Any, p: Tensor, values: Tensor, grad: Tensor) -> Tensor:
    """The derivative with respect to the probabilities, by the operations of the loss."""
    plan: Plan = ctx.plan
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        point = p if recording else p.detach().requires_grad_()
        at = point.view(ctx.shape)
        ignored = None
        if ctx.seen is not None:
            whole = held(values, plan.ignore_index) if plan.labels else None
            ignored = whole.unsqueeze(1) if whole is not None else left_out(values, plan.ignore_index, plan.softmax)
        goal = Target(values, plan.labels, ignored, plan.ignore_index)
        value = ctx.formula(class_sums(at, goal, plan.exponent), ctx.seen).value
        value = value if ctx.scale is None else value.sum() * ctx.scale
        (slope,) = torch.autograd.grad(value, point, grad, create_graph=recording)
    return slope
