"""Every loss on a device against the CPU in float64: `losses doctor --device`."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from losses_core._dispatch import kernels_for_small_inputs
from losses_core.base_loss import BaseLoss
from losses_core.builder import build_loss
from losses_core.errors import LossesError
from losses_core.examples import Example, Inputs, example_config
from losses_core.kernels import use_definitions
from losses_core.registry import LOSSES
from losses_core.utils.precision import map_tensors
from losses_core.utils.torch_compat import TorchDispatchMode

ROUNDINGS = 256
"""The tolerance, in units of the dtype's relative rounding error.

On a CPU the losses of these packages deviate by at most 10. The rest is for the exp and log of accelerators.
"""


class Deviation(NamedTuple):
    """How far a value and a gradient are from the reference, relative to it."""

    value: float
    gradient: float


class Computed(NamedTuple):
    """A value, and the gradients with respect to pred and to the parameters of the loss: on the CPU, in float64."""

    value: Tensor
    gradients: list[Tensor]


class Trial(NamedTuple):
    """A loss and its inputs, in float32 on the CPU."""

    loss: BaseLoss
    inputs: Inputs


class CpuRandom(TorchDispatchMode):
    """Random numbers that are the same on every device and in every precision: those of the CPU in float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        given = next((arg for arg in args if isinstance(arg, Tensor)), None)
        drawn = func(*map_tensors(_plain, args), **{name: _of_cpu(value) for name, value in kwargs.items()})
        device = kwargs.get("device") or (given.device if given is not None else None)
        dtype = kwargs.get("dtype") or (given.dtype if given is not None else None)
        if func._schema.is_mutable and given is not None:
            return given.copy_(drawn)
        return map_tensors(lambda x: x.to(device, dtype if x.is_floating_point() else None), drawn)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.float32 if tensor.is_floating_point() else None)


def _of_cpu(value: Any) -> Any:
    """A keyword of an operation that draws numbers, for the CPU and float32."""
    if isinstance(value, torch.dtype) and value.is_floating_point:
        return torch.float32
    if isinstance(value, torch.Generator) and value.device.type != "cpu":
        return None
    return torch.device("cpu") if isinstance(value, torch.device) else map_tensors(_plain, value)


def dtypes_of(device: torch.device) -> tuple[torch.dtype, ...]:
    """Float32, and float64 where the device has it."""
    try:
        torch.ones(2, dtype=torch.float64, device=device).exp().sum().item()
    except Exception:  # MPS raises TypeError, others RuntimeError
        return (torch.float32,)
    return (torch.float32, torch.float64)


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative deviation that is rounding."""
    return ROUNDINGS * torch.finfo(dtype).eps


def answers(device: torch.device) -> bool:
    """Whether a device still computes: after some errors it does not, for this process."""
    try:
        return torch.ones(1, device=device).item() == 1
    except Exception:  # whatever its driver raises
        return False


def compare(name: str, device: torch.device, dtypes: tuple[torch.dtype, ...]) -> dict[torch.dtype, Deviation] | None:
    """The deviations of a loss from its definition on the CPU in float64; None where it declares no example.

    The loss is run as it is, and with the kernel that large inputs get; the larger deviation counts.
    """
    if LOSSES[name].example is None:
        return None
    with torch.random.fork_rng(devices=[]), _exact_convolutions():
        trial = make_trial(name)
        with use_definitions():
            reference = run(trial, torch.device("cpu"), torch.float64)
        found = {}
        for dtype in dtypes:
            small = deviation(run(trial, device, dtype), reference)
            with kernels_for_small_inputs():
                large = deviation(run(trial, device, dtype), reference)
            # not Python's max, which may drop a NaN
            found[dtype] = Deviation(*torch.tensor([small, large], dtype=torch.float64).amax(0).tolist())
    return found


def make_trial(name: str) -> Trial:
    """A loss with its inputs; what it makes at the first call is made."""
    torch.manual_seed(0)
    with warnings.catch_warnings():  # the options are not the user's
        warnings.simplefilter("ignore")
        loss = cast("BaseLoss", build_loss(example_config(name)))  # one type makes no combination
        inputs = cast("Example", loss.example).inputs(loss)
        loss(map_tensors(torch.clone, inputs.pred), inputs.target, **inputs.call)
    return Trial(loss, inputs)


def run(trial: Trial, device: torch.device, dtype: torch.dtype) -> Computed:
    """Value and gradients of a copy of the loss on a device."""
    preds: list[Tensor] = []

    def placed(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    def leaf(tensor: Tensor) -> Tensor:
        tensor = placed(tensor.detach().clone())
        if tensor.is_floating_point():
            preds.append(tensor.requires_grad_())
        return tensor

    loss = copy.deepcopy(trial.loss).to(device, dtype)
    pred, target, call = map_tensors(leaf, trial.inputs.pred), trial.inputs.target, dict(trial.inputs.call)
    torch.manual_seed(0)
    with CpuRandom():  # type: ignore[no-untyped-call]
        value = loss(pred, map_tensors(placed, target), **map_tensors(placed, call)).sum()
        wanted = [*preds, *(parameter for parameter in loss.parameters() if parameter.requires_grad)]
        if value.requires_grad:
            gradients = torch.autograd.grad(value, wanted, materialize_grads=True)
        else:
            gradients = tuple(map(torch.zeros_like, wanted))
    return Computed(value.detach().cpu().double(), [gradient.cpu().double() for gradient in gradients])


def deviation(computed: Computed, reference: Computed) -> Deviation:
    """The deviation of the value from the reference, and the largest of a gradient, over the largest gradient."""
    pairs = list(zip(computed.gradients, reference.gradients, strict=True))
    error = _max((one - other).abs() for one, other in pairs)
    return Deviation(
        _ratio(abs(computed.value - reference.value).item(), abs(reference.value).item()),
        _ratio(error, _max(map(torch.abs, reference.gradients))),
    )


def _max(tensors: Iterable[Tensor]) -> float:
    """The largest element, NaN where one is; 0 of none."""
    maxima = [tensor.max() for tensor in tensors if tensor.numel()]
    return torch.stack(maxima).max().item() if maxima else 0.0


def _ratio(error: float, size: float) -> float:
    if size:
        return error / size
    return 0.0 if error == 0 else float("inf")


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Without TF32, which rounds to 10 bits, and is on for convolutions."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Checked(NamedTuple):
    """The result of checking a loss.

    Attributes:
        name: The loss.
        found: The deviation for each dtype; empty where there is none.
        verdict: In words; `ok`, or what is wrong.
        failed: Whether it is a fault.
    """

    name: str
    found: dict[torch.dtype, Deviation]
    verdict: str
    failed: bool


def check_all(names: list[str], device: torch.device, step: Callable[[str], None]) -> Iterator[Checked]:
    """Check losses on a device, one after another; `step` is told before each."""
    dtypes, known, broken_by = dtypes_of(device), dict[type, Checked](), ""
    for name in names:
        step(name)
        if broken_by:
            yield Checked(name, {}, f"not run: the device does not answer after {broken_by}", True)
            continue
        cls: type | None = None
        try:
            cls = LOSSES[name]
            if cls not in known:  # else another name of a class
                known[cls] = verdict_of(name, compare(name, device, dtypes))
            yield known[cls]._replace(name=name)
        except Exception as error:  # whatever a loss raises: the others are checked as well
            kind = "" if isinstance(error, LossesError) else f"{type(error).__name__}: "
            failed = Checked(name, {}, f"{kind}{error}", True)
            if cls is not None:
                known[cls] = failed
            broken_by = "" if answers(device) else name
            yield failed


def verdict_of(name: str, found: dict[torch.dtype, Deviation] | None) -> Checked:
    """A verdict on deviations."""
    if found is None:
        return Checked(name, {}, "skipped: it declares no example", False)
    wrong = [
        f"{what} in {str(dtype).removeprefix('torch.')}"
        for dtype, deviation in found.items()
        for what, figure in deviation._asdict().items()
        if not figure <= tolerance(dtype)  # NaN deviates
    ]
    return Checked(name, found, f"deviates: {', '.join(wrong)}" if wrong else "ok", bool(wrong))
