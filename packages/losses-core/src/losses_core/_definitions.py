"""What core knows of a loss: its definition, its kernels, and a call of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from losses_core._blocks import Layout
from losses_core.utils.precision import first_tensor, match_dtype, upcast

Prepared: TypeAlias = "tuple[Tensor, Any, dict[str, Any]]"


class Prepare(Protocol):
    """Check the arguments of a call, and bring them to the one form that definition and kernels take."""

    def __call__(self, pred: Any, target: Any, **options: Any) -> Prepared:
        """Return pred, target and options."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """An implementation of a definition for blocks of rows.

    Attributes:
        function: ``function(x, target, *, needs_grad, **options)`` gives loss and gradient of a block; for two passes
            an object with ``forward`` and ``backward``, which give the sums of a block, and their gradient.
        bound: largest magnitude of the gradient of one element, or a function of the options that gives it; None where
            it is not known. In fp16 a gradient with a bound is kept in fp16, any other in float32.
        supports: tells from pred, target and options whether the kernel can run.
        device: device type it is for; ``'accelerator'``: any but the CPU; None: any.
        compiled: True: for a compiler alone; False: for eager code alone; None: for both.
        passes: 1: loss and gradient in one pass. 2: sums in the forward, the gradient in the backward.
        layout: its rows, where an element of the definition depends on a whole row: ``classes`` or ``last``. It returns
            the sum of each row, and runs for a reduced loss whose weight is the same for all elements of a row.
        temporaries: float32 tensors of the size of a block that are alive at once, casts included: what bounds the
            blocks on an accelerator.
        large_blocks: whether blocks on a CPU are larger than its caches suggest.
        cast: whether pred and target are cast to float32; a kernel that gets everything may do that in blocks of its
            own, and returns a gradient in the dtype of pred, or in float32.
    """

    function: Any
    bound: float | Callable[..., float | None] | None = None
    supports: Callable[..., bool] | None = None
    device: str | None = None
    passes: int = 1
    layout: Layout | None = None
    temporaries: float = 16
    large_blocks: bool = False
    cast: bool = True
    compiled: bool | None = None

    def fits(self, pred: Tensor) -> bool:
        """Whether it is meant for the device of ``pred``, and for eager code or a compiler, whichever runs."""
        device = pred.device.type
        if self.device not in (None, device) and not (self.device == "accelerator" and device != "cpu"):
            return False
        return self.compiled is None or self.compiled == torch.compiler.is_compiling()

    @property
    def name(self) -> str:
        """Module and name of the function."""
        function = self.function.func if isinstance(self.function, functools.partial) else self.function
        return f"{function.__module__}.{function.__qualname__}"


@dataclasses.dataclass(frozen=True, eq=False)
class Definition:
    """A loss function, and what core knows of it beside its formula.

    Attributes:
        name: of the public function.
        body: the formula: the unreduced loss of prepared arguments.
        layout: the rows it may be cut into.
        prepare: checks the arguments; None: nothing to check.
        normalizer: each element's share of the denominator of ``mean``; None: 1 each.
        rows: options that are cut with the rows of pred, as the target is.
        cast: whether half-precision inputs are cast to float32 before the body; a body that is composed of other
            definitions leaves this to them.
        denominator: ``denominator(pred, target, **options)`` gives the denominator of ``mean`` for a layout ``whole``
            whose value is one number; None: that of the normalizer.
        delegates: the body returns `delegate(another definition, pred, target, **options)`, which takes its place.
        mean: ``mean(pred, target, **options)`` gives the mean of a small input by torch's own reduced operator, as
            operations are what takes the time there; None for a call that it does not suit.
        large_mean: whether it does so of any input on an accelerator, as it moves the fewest bytes too.
        defaults: options and their defaults.
    """

    name: str
    body: Callable[..., Any]
    layout: Layout
    prepare: Prepare | None = None
    normalizer: Callable[..., Tensor | None] | None = None
    rows: tuple[str, ...] = ()
    cast: bool = True
    delegates: bool = False
    denominator: Callable[..., float] | None = None
    mean: Callable[..., Tensor | None] | None = None
    large_mean: bool = False
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kernels: list[Kernel] = dataclasses.field(default_factory=list)

    def bind(self, pred: Any, target: Any, options: Mapping[str, Any]) -> LossCall:
        """Check the arguments of a call, without computing anything of the loss."""
        complete = {**self.defaults, **options}
        if self.delegates:
            return self.body(pred, target, **complete)  # type: ignore[no-any-return]
        if self.prepare is not None:
            return LossCall(self, *self.prepare(pred, target, **complete))
        return LossCall(self, pred, target, complete)


class LossCall(NamedTuple):
    """A definition with the arguments of one call, in the form that `Definition.prepare` gives them."""

    definition: Definition
    pred: Any
    target: Any
    options: dict[str, Any]

    def body(self, mask: Callable[[Any], Any] | None = None) -> Any:
        """Evaluate the definition; ``mask`` is applied to pred once it is in full precision."""
        pred, target, options = self.pred, self.target, self.options
        if self.definition.cast:
            pred = upcast(pred)
            reference = first_tensor(pred)
            if reference is not None:
                target, options = (match_dtype(upcast(part), reference.dtype) for part in (target, options))
        return self.definition.body(pred if mask is None else mask(pred), target, **options)

    def normalizer(self) -> Tensor | None:
        """Each element's share of the denominator of ``mean``; None: 1 each."""
        of = self.definition.normalizer
        return None if of is None else of(self.pred, self.target, **self.options)
