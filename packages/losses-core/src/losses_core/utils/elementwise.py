"""Losses of single elements: a value and a derivative, from which the one pass and the backward are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from losses_core.utils import host, temporaries
from losses_core.utils.autograd import Function, hide_gradient, transforms_active
from losses_core.utils.deferred import Deferred
from losses_core.utils.weight_reduce import Unreduced, total_normalizer


class Evaluated(NamedTuple):
    """A formula at one place. What the two share is computed already; what only one needs is not.

    Attributes:
        value: gives the loss of each element, a new tensor.
        slope: gives dl/dx of each element, a new tensor. Asked for after ``value``, if both are: it may overwrite what
            the two share.
    """

    value: Callable[[], Tensor]
    slope: Callable[[], Tensor]


class Formula(Protocol):
    """An elementwise loss ``l(x, t)`` and its derivative, in differentiable operations.

    ``x`` has the shape of the result. ``t`` has that shape too, or is an index into axis 1 of ``x`` for each row.
    ``constants`` are the further tensors given to `elementwise`: 0-d, or one number per entry of axis 1 of ``x``.
    Instances hold plain numbers only.
    """

    @property
    def index(self) -> bool:
        """Whether ``t`` holds indices instead of elements."""

    @property
    def ignore_index(self) -> float | None:
        """Elements, or rows, whose target is this have loss and gradient 0; None if there are none."""

    def __call__(self, *args: Any, **kwargs: Any) -> Evaluated:
        """``formula(x, t, *constants)``: the loss and its derivative at ``x``."""


def elementwise(formula: Formula, x: Tensor, t: Tensor, *constants: Tensor | None) -> Tensor:
    """Evaluate an elementwise loss that keeps only ``x``, ``t`` and ``constants`` for its backward.

    Composed from torch operations, a focal loss keeps seven to eleven tensors of the size of ``x``. Here the derivative
    is computed anew from the inputs. Where ``t`` equals ``formula.ignore_index``, value and gradient are exactly zero
    whatever stands in ``x``. Where the target itself asks for a gradient, the operations of the value are recorded
    instead.

    Args:
        formula: the loss and its derivative.
        x: predictions, floating.
        t: targets.
        constants: further tensors that the formula needs (class weights).

    Returns:
        The loss of each element, of the shape of ``x``.
    """
    return Elements(formula, x, t, *constants).elements()


class Elements(Deferred):
    """An elementwise loss that is not computed yet; arguments as of `elementwise`."""

    def __init__(self, formula: Formula, x: Tensor, t: Tensor, *constants: Tensor | None) -> None:
        self.formula, self.x, self.t, self.constants = formula, x, t, constants
        self._host = host.on_host(x, t) and not self._records()
        ignore = formula.ignore_index
        self._complete = ignore is None or (self._host and host.absent(ignore, t))
        """Whether it is known that no element is ignored."""

    def _records(self) -> bool:
        """Whether a target or constant asks for a gradient, so that the operations of the value are recorded."""
        return self.t.requires_grad or any(c is not None and c.requires_grad for c in self.constants)

    @property
    def summable(self) -> bool:
        return self._host

    @property
    def plain(self) -> bool:
        """Whether this is on the host, and no element is ignored."""
        return self._host and self._complete

    def elements(self) -> Tensor:
        """The loss of each element."""
        if self._records():
            return self.recorded()
        if self._host:
            return _OnHost.apply(self._plan(), None, self.x, self.t, *self.constants)  # type: ignore[no-any-return]
        return _Elementwise.apply(self.formula, self.x, self.t, *self.constants)  # type: ignore[no-any-return]

    def recorded(self) -> Tensor:
        """The same by the operations of the value, each recorded by autograd."""
        hidden = _hidden(self.formula, self.t)
        x = self.x if hidden is None else hide_gradient(self.x, hidden)
        value = self.formula(x, self.t, *self.constants).value()
        return value if hidden is None else value.masked_fill(hidden, 0)

    def mask(self) -> Tensor | None:
        """True where an element, or row, is not ignored; None where none is."""
        return None if self._complete else torch.ne(self.t, self.formula.ignore_index)  # type: ignore[arg-type]  # not None

    def unreduced(self) -> Unreduced:
        return Unreduced(self.elements(), self.mask())

    def total(self, scale: float | Tensor) -> Tensor:
        return _OnHost.apply(self._plan(), scale, self.x, self.t, *self.constants)  # type: ignore[no-any-return]

    def normalizer(self) -> float | Tensor:
        return total_normalizer(self.x, self.mask())

    def _plan(self) -> _Plan:
        wanted = self.x.requires_grad and torch.is_grad_enabled()
        return _Plan(self.formula, self._complete, wanted and (self.formula.index or self.x.numel() <= host.BLOCK))


def _hidden(formula: Formula, t: Tensor) -> Tensor | None:
    """True where an element is ignored, broadcastable to ``x``; None where nothing can be."""
    if formula.ignore_index is None:
        return None
    hidden = t == formula.ignore_index
    return hidden.unsqueeze(1) if formula.index else hidden


class _Elementwise(Function):
    """On any device: keeps the inputs, and computes the derivative anew in the backward."""

    @staticmethod
    def forward(formula: Formula, x: Tensor, t: Tensor, *constants: Tensor | None) -> Tensor:
        return _masked(formula(x, t, *constants).value(), _hidden(formula, t))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.formula, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, t, *constants = ctx.saved_tensors
        slope = _gradient(ctx.formula, grad, x, t, constants, _hidden(ctx.formula, t))
        return (None, slope, None, *(None for _ in constants))


def _gradient(
    formula: Formula, grad: Tensor, x: Tensor, t: Tensor, constants: Sequence[Tensor | None], hidden: Tensor | None
) -> Tensor:
    # masked first: a compiler that computes the derivative with the value then keeps it, and no mask
    return temporaries.mul(_masked(formula(x, t, *constants).slope(), hidden), grad)


def _masked(value: Tensor, hidden: Tensor | None) -> Tensor:
    return value if hidden is None else temporaries.masked_fill(value, hidden)


class _Plan(NamedTuple):
    """How to go over the elements on the host.

    Attributes:
        formula: what to evaluate.
        complete: whether it is known that nothing is ignored.
        keep: whether to compute the derivative with the value and keep it, beside ``x`` and ``t``. Where ``t`` are
            indices, or where ``x`` is one block: there the number of operations is what takes time.
    """

    formula: Formula
    complete: bool
    keep: bool

    def blocks(self, *tensors: Tensor, constants: Sequence[Tensor | None]) -> Iterator[tuple[Tensor, ...]]:
        """The tensors, all of one length, in parts that fit a cache."""
        x = tensors[0]
        if not self.formula.index and all(c is None or c.ndim == 0 for c in constants):
            # no axis means anything
            parts = [tensor.reshape(-1).split(host.BLOCK) for tensor in tensors]
        else:
            parts = [tensor.split(host.rows_per_block(x.shape)) for tensor in tensors]
        return zip(*parts, strict=True)

    def hidden(self, t: Tensor) -> Tensor | None:
        return None if self.complete else _hidden(self.formula, t)


class _OnHost(host.HostFunction):
    """On the host: block by block, so that no temporary leaves the cache; with a scale, nothing but the sum."""

    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, scale: float | Tensor | None, x: Tensor, t: Tensor, *constants: Tensor | None
    ) -> Tensor:
        run = _whole if x.numel() <= host.BLOCK else _by_block
        result, slope = run(plan, scale is not None, x, t, constants)
        ctx.plan, ctx.scale = plan, scale
        ctx.save_for_backward(x, t, slope, *constants)
        return result if scale is None else result * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, t, slope, *constants = ctx.saved_tensors
        plan: _Plan = ctx.plan
        if ctx.scale is not None:
            grad = grad * ctx.scale
        if torch.is_grad_enabled() or (slope is None and x.numel() <= host.BLOCK):
            gradient = _gradient(plan.formula, grad, x, t, constants, plan.hidden(t))
        elif slope is not None:
            gradient = slope * grad
        else:
            gradient = torch.empty(x.shape, dtype=x.dtype)
            grads = () if grad.ndim == 0 else (grad,)
            for x_part, t_part, part, *given in plan.blocks(x, t, gradient, *grads, constants=constants):
                torch.mul(plan.formula(x_part, t_part, *constants).slope(), given[0] if given else grad, out=part)
                hidden = plan.hidden(t_part)
                if hidden is not None:
                    part.masked_fill_(hidden, 0)
        return (None, None, gradient, None, *(None for _ in constants))


_Found = tuple[Tensor, Tensor | None]
"""The elements or their sum; and the derivative, if it is to be kept."""


def _whole(plan: _Plan, summed: bool, x: Tensor, t: Tensor, constants: Sequence[Tensor | None]) -> _Found:
    evaluated, hidden = plan.formula(x, t, *constants), plan.hidden(t)
    value = _masked(evaluated.value(), hidden)
    return value.sum() if summed else value, _masked(evaluated.slope(), hidden) if plan.keep else None


def _by_block(plan: _Plan, summed: bool, x: Tensor, t: Tensor, constants: Sequence[Tensor | None]) -> _Found:
    slope = torch.empty(x.shape, dtype=x.dtype) if plan.keep else None
    value = None if summed else torch.empty(x.shape, dtype=x.dtype)
    sums = []
    to_fill = [tensor for tensor in (value, slope) if tensor is not None]
    for x_part, t_part, *parts in plan.blocks(x, t, *to_fill, constants=constants):
        evaluated, hidden = plan.formula(x_part, t_part, *constants), plan.hidden(t_part)
        part = _masked(evaluated.value(), hidden)
        if value is None:
            sums.append(part.sum())
        else:
            parts.pop(0).copy_(part)
        if slope is not None:
            parts.pop(0).copy_(_masked(evaluated.slope(), hidden))
    return torch.stack(sums).sum() if value is None else value, slope


def power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` of numbers ≥ 0, with a finite derivative at 0 for every exponent ≥ 0.

    Small whole exponents are products: on a CPU a power takes twenty times as long.
    """
    if exponent == 0:
        return torch.ones_like(base)
    if exponent == 1:
        return base
    if exponent == 2:
        return base * base
    if exponent == 3:
        return base * base * base
    if exponent == 4:
        square = base * base
        return square * square
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)


def set_at(rows: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """``rows`` (…,C), a temporary, with ``values`` (…,1) at one index (…,1) of each row."""
    if torch.is_grad_enabled() or transforms_active():
        return rows.scatter(-1, index, values)
    return rows.scatter_(-1, index, values)
