"""Definitions and kernels: how a loss function is declared, and which implementation of it runs.

A *definition* is the public function of a loss in plain torch operations. A *kernel* computes the same loss together
with its gradient, block by block, for speed and memory; it is registered for a definition and holds no mathematics of
its own. The rule that chooses between them is `why_definition`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from losses_core import _fused, _two_passes
from losses_core._blocks import Layout
from losses_core.errors import InputError
from losses_core.utils.autograd import transforms_active
from losses_core.utils.precision import autocast_active, first_tensor, match_dtype, upcast, without_autocast
from losses_core.utils.weight_reduce import Unreduced

__all__ = ["Definition", "Kernel", "LossCall", "definition", "definition_of", "explain", "kernel", "use_definitions"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])

Prepared: TypeAlias = "tuple[Tensor, Any, dict[str, Any]]"
_PLAIN = frozenset((Tensor, torch.nn.Parameter))


class Prepare(Protocol):
    """Check the arguments of a call, and bring them to the one form that definition and kernels take."""

    def __call__(self, pred: Any, target: Any, **options: Any) -> Prepared:
        """Return pred, target and options."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """An implementation of a definition for blocks of rows.

    Attributes:
        function: ``function(x, target, *, needs_grad, **options)`` → loss and gradient of a block (`losses_core.kernels`
            describes the blocks); with ``passes=2`` an object with ``forward`` and ``backward``.
        bound: largest magnitude of the gradient of one element, or a function of the options that gives it; None where
            it is not known. In fp16 a gradient with a bound is kept in fp16, any other in float32.
        supports: tells from pred, target and options whether the kernel can run.
        device: device type it is for; None: any.
        passes: 1: loss and gradient in one pass. 2: sums in the forward, the gradient in the backward.
        layout: its rows, where an element of the definition depends on a whole row: ``classes`` or ``last``. It returns
            the sum of each row, and runs for a reduced loss whose weight is the same for all elements of a row.
    """

    function: Any
    bound: float | Callable[..., float | None] | None = None
    supports: Callable[..., bool] | None = None
    device: str | None = None
    passes: int = 1
    layout: Layout | None = None

    @property
    def name(self) -> str:
        """Module and name of the function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


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
        defaults: options and their defaults.
    """

    name: str
    body: Callable[..., Any]
    layout: Layout
    prepare: Prepare | None
    normalizer: Callable[..., Tensor | None] | None
    rows: tuple[str, ...]
    cast: bool
    defaults: Mapping[str, Any]
    kernels: list[Kernel] = dataclasses.field(default_factory=list)

    def bind(self, pred: Any, target: Any, options: Mapping[str, Any]) -> LossCall:
        """Check the arguments of a call, without computing anything of the loss."""
        complete = {**self.defaults, **options}
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

    def unreduced(self) -> Any:
        """The unreduced loss, by a kernel where one may run."""
        chosen, _ = select(self, None, reduced=False)
        if chosen is None:
            value = self.body()
        elif chosen.passes == 2:
            return _two_passes.two_passes(self, chosen)
        else:
            value = _fused.elements(self, chosen)
        return value if self.definition.normalizer is None else Unreduced(value, self.normalizer())


def definition(
    *,
    layout: Layout = "whole",
    prepare: Prepare | None = None,
    normalizer: Callable[..., Tensor | None] | None = None,
    rows: tuple[str, ...] = (),
    cast: bool = True,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Declare a loss function as a definition; arguments as of `Definition`.

    The function takes ``pred``, ``target`` and keyword-only options and returns the unreduced loss. What is declared
    checks the arguments, casts half precision to float32, switches autocast off, attaches the normalizer, names the
    function in the errors it raises, and runs a kernel where one is registered and may run.

    Example:
        >>> import torch
        >>> @definition(layout="elements")
        ... def squared(pred, target, *, scale=1.0):
        ...     return scale * (pred - target).square()
        >>> squared(torch.tensor([3.0]), torch.tensor([1.0]), scale=0.5)
        tensor([2.])
    """

    def decorate(body: Callable[_P, _R]) -> Callable[_P, _R]:
        options = list(inspect.signature(body).parameters.values())[2:]
        defaults = {p.name: p.default for p in options if p.default is not inspect.Parameter.empty}
        name = getattr(body, "__name__", "")
        declared = Definition(name, body, layout, prepare, normalizer, rows, cast, defaults)

        @functools.wraps(body)
        def function(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            pred, target = args if len(args) == 2 else (*args, *(kwargs.pop(k) for k in ("pred", "target")[len(args) :]))
            for unknown in kwargs.keys() - {p.name for p in options}:
                raise TypeError(f"{name}() got an unexpected keyword argument {unknown!r}")
            try:
                reference = first_tensor(pred)
                if reference is None or not autocast_active(reference):
                    return declared.bind(pred, target, kwargs).unreduced()  # type: ignore[no-any-return]
                with without_autocast(reference.device.type):
                    return declared.bind(pred, target, kwargs).unreduced()  # type: ignore[no-any-return]
            except InputError as error:
                error.where = error.where or name
                raise

        function.__losses_definition__ = declared  # type: ignore[attr-defined]
        return function

    return decorate


def definition_of(function: Callable[..., Any]) -> Definition:
    """What was declared of a function.

    Raises:
        TypeError: it is no definition.
    """
    declared = getattr(function, "__losses_definition__", None)
    if not isinstance(declared, Definition):
        raise TypeError(f"{function!r} is not declared with @losses_core.kernels.definition.")
    return declared


def kernel(
    function: Callable[..., Any],
    *,
    bound: float | Callable[..., float | None] | None = None,
    supports: Callable[..., bool] | None = None,
    device: str | None = None,
    passes: int = 1,
    layout: Layout | None = None,
) -> Callable[[_F], _F]:
    """Register a kernel for a definition; arguments as of `Kernel`. The last one that fits a call is chosen.

    Example:
        >>> import torch
        >>> @definition(layout="elements")
        ... def squared(pred, target):
        ...     return (pred - target).square()
        >>> @kernel(squared)
        ... def squared_kernel(x, target, *, needs_grad):
        ...     error = x - target
        ...     return error.square(), 2 * error if needs_grad else None
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> squared(x, torch.tensor([1.0])).sum().backward()
        >>> x.grad
        tensor([4.])
    """

    def register(implementation: _F) -> _F:
        definition_of(function).kernels.append(Kernel(implementation, bound, supports, device, passes, layout))
        return implementation

    return register


class _Forced:
    """Whether definitions run everywhere: for the whole process, so that a compiler can guard on it."""

    definitions = bool(os.environ.get("LOSSES_USE_DEFINITIONS"))


@contextlib.contextmanager
def use_definitions() -> Iterator[None]:
    """Run definitions instead of kernels inside the context, in every thread.

    The environment variable ``LOSSES_USE_DEFINITIONS=1`` does the same for a process.

    Example:
        >>> with use_definitions():
        ...     pass
    """
    before = _Forced.definitions
    _Forced.definitions = True
    try:
        yield
    finally:
        _Forced.definitions = before


def why_definition(call: LossCall, weight: Tensor | None, *, reduced: bool) -> str:
    """The reason why a definition runs and no kernel does; empty where a kernel may run."""
    declared, pred = call.definition, call.pred
    if not declared.kernels:
        return "it has no kernel"
    if _Forced.definitions:
        return "use_definitions() is active"
    if type(pred) not in _PLAIN:
        return "pred is not a plain tensor"
    if torch.compiler.is_compiling():
        if torch.compiler.is_exporting():
            return "the loss is being exported"
    elif transforms_active():
        return "a torch.func transform is active"
    for tensor in _tensors(call.target, call.options):
        if tensor.requires_grad:
            return "the target or an option requires a gradient"
        if type(tensor) not in _PLAIN:
            return "the target or an option is not a plain tensor"
    if weight is not None and weight.requires_grad:
        return "the weight requires a gradient"
    if declared.layout in ("batch", "whole") and (not reduced or (weight is not None and weight.ndim > 1)):
        return "its gradient is known for the sum of a sample only"
    return ""


def select(call: LossCall, weight: Tensor | None, *, reduced: bool) -> tuple[Kernel | None, str]:
    """Choose the kernel that runs, or None for the definition, with the reason."""
    two_passes = bool(call.definition.kernels) and call.definition.kernels[-1].passes == 2
    reason = why_definition(call, weight, reduced=reduced or two_passes)
    chosen = None
    if not reason:
        reason = "no kernel supports these inputs"
        for candidate in reversed(call.definition.kernels):
            if candidate.device is not None and candidate.device != call.pred.device.type:
                continue
            if candidate.layout is not None and not (reduced and _fused.weighs_rows(candidate.layout, weight, call.pred)):
                continue
            if candidate.supports is None or candidate.supports(call.pred, call.target, **call.options):
                chosen, reason = candidate, ""
                break
    if _Record.choices is not None:
        _Record.choices.append(f"{call.definition.name}: {f'definition, as {reason}' if reason else chosen.name}")  # type: ignore[union-attr]
    return chosen, reason


def _tensors(target: Any, options: Mapping[str, Any]) -> Iterator[Tensor]:
    for item in (*(target if isinstance(target, list | tuple) else (target,)), *options.values()):
        if isinstance(item, Tensor):
            yield item


class _Record:
    """What `select` has chosen, while `explain` runs."""

    choices: list[str] | None = None


def explain(loss: Callable[..., Any], pred: Any, target: Any, **keywords: Any) -> str:
    """Say which implementation of each definition a call runs, and why; the loss is computed once.

    Args:
        loss: a loss, or a function such as ``losses_det.functional.giou_loss``.
        pred: as for the loss.
        target: as for the loss.
        **keywords: as for the loss.

    Returns:
        A line for each definition that was reached.
    """
    before, _Record.choices = _Record.choices, []
    try:
        loss(pred, target, **keywords)
        return "\n".join(_Record.choices) or "no definition of losses_core.kernels is reached"
    finally:
        _Record.choices = before
