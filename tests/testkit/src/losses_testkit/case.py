"""What the contract needs to know of a loss: options, inputs, an oracle, and how its elements relate to its inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from losses_core import LOSSES, BaseLoss

Array: TypeAlias = npt.NDArray[Any]
Reference: TypeAlias = tuple[Array, Array]


@dataclasses.dataclass
class Inputs:
    """The arguments of one call; floating tensors in float64, tensors may stand in tuples and lists."""

    pred: Any
    target: Any
    call: dict[str, Any] = dataclasses.field(default_factory=dict)


SWITCHES = ("gradcheck", "gradgradcheck", "empty", "dynamic", "distributed", "documentation")
"""Fields of a case that skip tests where they are False, with `why` as the reason."""


def one_sum(inputs: Inputs, sizes: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """What most losses send: one numerator and one denominator in float64, forward only."""
    return [16], []


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss with one set of options, as an entry of a package's table of cases.

    Attributes:
        loss: name in the registry.
        make: ``make(generator, n)`` gives inputs of batch size n, away from ties and kinks.
        oracle: ``oracle(pred, target, **options, **call)`` in NumPy float64, written from the published formula: the
            unreduced value, and each element's share of the denominator of ``mean``. Only the case's own options are
            passed, so its defaults must be the published ones.
        options: constructor options.
        id: what tells this case from others of the same loss.
        ignore: ``ignore(inputs)`` ignores some places: the changed inputs, and a bool tensor of pred's shape (a tuple
            for a tuple) that is true there. None: the loss ignores nothing.
        ignore_all: ``ignore_all(inputs)`` ignores everything.
        weight: whether a sample weight (N,) is accepted and row i of pred alone decides row i of the loss.
        logits: pred holds logits: it is also run at ±6e4.
        edges: further inputs by name at which value and gradient must be finite.
        empty: whether a batch of size 0 is accepted (it is unless there is a reason).
        saved: most bytes saved for backward, in units of a float32 pred (integer targets not counted). None: not
            bounded.
        saved_size: batch size at which the saved bytes are measured; more than a loss may count as small.
        peak: most bytes of forward and backward beyond pred and target, in units of pred's bytes, for 256 MiB of bf16.
            None: not bounded.
        gradcheck: whether the gradient is the derivative of the value (it is not where a factor is detached).
        gradgradcheck: whether the double backward is checked by finite differences.
        half_tolerance: difference from the float32 result on the same rounded input.
        dynamic: whether one compilation must serve all batch sizes.
        avg_factor: whether ``avg_factor`` is accepted.
        normalizer: whether the target alone tells what ``mean`` divides by; not asked of a loss coupled over a batch.
        stateful: a call in training mode changes the result of the next one.
        draws: a call takes numbers from torch's global generator.
        distributed: whether ``sync_dist`` makes it exact over several ranks.
        ranks_compile_from: oldest release of torch whose compiler makes one graph of it with ``sync_dist``.
        sent: ``sent(inputs, sizes)`` gives the bytes that a rank sends with ``sync_dist`` in each collective of the
            forward and of the backward, where the ranks hold ``sizes`` rows of the float64 inputs.
        documentation: whether the docstring of the class has the sections of this library's.
        why: the reason for every test that is switched off; needed where ``gradcheck``, ``gradgradcheck``, ``empty``,
            ``dynamic``, ``distributed`` or ``documentation`` is False.
    """

    loss: str
    make: Callable[[torch.Generator, int], Inputs]
    oracle: Callable[..., Reference]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    id: str = ""
    ignore: Callable[[Inputs], tuple[Inputs, Any]] | None = None
    ignore_all: Callable[[Inputs], Inputs] | None = None
    weight: bool = True
    logits: bool = True
    edges: Mapping[str, Callable[[], Inputs]] = dataclasses.field(default_factory=dict)
    empty: bool = True
    saved: float | None = None
    saved_size: int = 1 << 16
    peak: float | None = None
    gradcheck: bool = True
    gradgradcheck: bool = True
    half_tolerance: float = 1e-3
    dynamic: bool = True
    avg_factor: bool = True
    normalizer: bool = True
    stateful: bool = False
    draws: bool = False
    distributed: bool = True
    ranks_compile_from: tuple[int, int] = (2, 6)
    sent: Callable[[Inputs, tuple[int, ...]], tuple[list[int], list[int]]] = one_sum
    documentation: bool = True
    why: str = ""

    def __post_init__(self) -> None:
        off = [name for name in SWITCHES if not getattr(self, name)]
        if off and not self.why:
            raise ValueError(f"case {self}: {', '.join(off)} switched off: give the reason in `why`.")

    def __str__(self) -> str:
        return f"{self.loss}-{self.id}" if self.id else self.loss

    def build(self, **options: Any) -> BaseLoss:
        """The loss of this case; ``options`` beat the case's own."""
        torch.manual_seed(0)
        return LOSSES[self.loss](**{**self.options, **options})

    def inputs(self, n: int = 3, seed: int = 0) -> Inputs:
        """Inputs of batch size n, in float64."""
        return self.make(torch.Generator().manual_seed(seed), n)

    def reference(self, inputs: Inputs) -> Reference:
        """Value and normalizer by the oracle."""
        pred, target, call = (to_numpy(x) for x in (inputs.pred, inputs.target, inputs.call))
        value, normalizer = self.oracle(pred, target, **to_numpy(dict(self.options)), **call)
        value = np.asarray(value, dtype=np.float64)
        return value, np.broadcast_to(np.asarray(normalizer, dtype=np.float64), value.shape)


def to_numpy(inputs: Any) -> Any:
    """Tensors to arrays, also inside tuples, lists and mappings."""
    if isinstance(inputs, torch.Tensor):
        return inputs.detach().numpy().copy()
    if isinstance(inputs, list | tuple):
        return type(inputs)(to_numpy(item) for item in inputs)
    if isinstance(inputs, dict):
        return {key: to_numpy(item) for key, item in inputs.items()}
    return inputs
