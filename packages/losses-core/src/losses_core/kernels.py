"""Definitions and kernels: how a loss function is declared, and which implementation of it runs.

A *definition* is the public function of a loss in plain torch operations. A *kernel* computes the same loss together
with its gradient, block by block, for speed and memory; it is registered for a definition and holds no mathematics of
its own. Which of the two runs is one rule: under ``torch.export``, inside ``torch.func`` transforms, for tensor
subclasses, when the target, an option or the weight requires a gradient, where no kernel supports the inputs, and
under `use_definitions`, the definition; otherwise the kernel.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from losses_core._blocks import Layout
from losses_core._definitions import Definition, Kernel, LossCall, Prepare, Prepared
from losses_core._dispatch import explain, unreduced, use_definitions
from losses_core.errors import InputError
from losses_core.utils.precision import autocast_active, first_tensor, without_autocast

__all__ = [
    "Definition",
    "Kernel",
    "LossCall",
    "Prepared",
    "definition",
    "definition_of",
    "delegate",
    "explain",
    "kernel",
    "use_definitions",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])


def definition(
    *,
    layout: Layout = "whole",
    prepare: Prepare | None = None,
    normalizer: Callable[..., Tensor | None] | None = None,
    rows: tuple[str, ...] = (),
    cast: bool = True,
    delegates: bool = False,
    denominator: Callable[..., float] | None = None,
    mean: Callable[..., Tensor | None] | None = None,
    large_mean: bool = False,
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
        signature = inspect.signature(body)
        options = list(signature.parameters.values())[2:]
        known = {p.name for p in options}
        defaults = {p.name: p.default for p in options if p.default is not inspect.Parameter.empty}
        name = getattr(body, "__name__", "")
        declared = Definition(
            name, body, layout, prepare, normalizer, rows, cast, delegates, denominator, mean, large_mean, defaults
        )

        @functools.wraps(body)
        def function(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if len(args) != 2 or not kwargs.keys() <= known:
                args, kwargs = _sorted_out(signature, args, kwargs)
            pred, target = args
            try:
                reference = first_tensor(pred)
                if reference is None or not autocast_active(reference):
                    return unreduced(declared.bind(pred, target, kwargs))  # type: ignore[no-any-return]
                with without_autocast(reference.device.type):
                    return unreduced(declared.bind(pred, target, kwargs))  # type: ignore[no-any-return]
            except InputError as error:
                error.where = error.where or name
                raise

        function.__losses_definition__ = declared  # type: ignore[attr-defined]
        return function

    return decorate


def _sorted_out(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pred and target, and the options, however they were given; raises Python's own TypeError for wrong ones."""
    given = dict(signature.bind(*args, **kwargs).arguments)
    first, second = list(signature.parameters)[:2]
    return (given.pop(first), given.pop(second)), given


def delegate(function: Callable[..., _R], pred: Any, target: Any, **options: Any) -> _R:
    """A call of a definition as the result of another one, which is declared with ``delegates=True``."""
    return definition_of(function).bind(pred, target, options)  # type: ignore[return-value]  # stands for the result


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
    temporaries: float = 16,
    large_blocks: bool = False,
    cast: bool = True,
    compiled: bool | None = None,
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
        made = Kernel(
            implementation, bound, supports, device, passes, layout, temporaries, large_blocks, cast, compiled
        )
        definition_of(function).kernels.append(made)
        return implementation

    return register
