"""What is done another way where tensors lie in the memory of the host: values may be looked at, caches count.

On a GPU every operation is a launch, and looking at a value waits for all launches before it. On a CPU looking costs a
microsecond, and time goes into moving temporaries that no cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core.utils.autograd import transforms_active

# torch's own count; where a future torch lacks it, nothing is ever taken to lie on the host
_modes_active = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_PLAIN = frozenset((Tensor, torch.nn.Parameter))

BLOCK = 1 << 17
"""How many elements are handled together, half a megabyte in float32, so that what is made of them stays in a cache."""

SOUND = 1e-30
"""A probability above it has a logarithm in full precision; below it, it may have underflowed."""

LOG2E = 1 / math.log(2)
"""What turns powers of e into powers of 2, which torch computes as fast where they underflow as anywhere."""


def on_host(*tensors: Tensor) -> bool:
    """Whether these are plain tensors in the memory of the host, in eager mode, outside of transforms and tracers."""
    if torch.compiler.is_compiling() or transforms_active() or _modes_active():
        return False
    for tensor in tensors:  # noqa: SIM110  # a generator would take as long as all the rest
        if type(tensor) not in _PLAIN or not tensor.is_cpu:
            return False
    return True


def compiling_for_host(*tensors: Tensor) -> bool:
    """Whether code is being made for tensors in the memory of the host, and not to be exported to another machine.

    An operator that the compiler does not look into may do there what is done on the host in eager mode.
    """
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    return all(tensor.is_cpu for tensor in tensors)


def absent(value: float, tensor: Tensor) -> bool:
    """Whether a value certainly stands nowhere in a tensor on the host; False if that takes more than a glance."""
    if tensor.dtype == torch.bool:
        return value not in (0, 1)
    if not tensor.is_floating_point():
        limits = torch.iinfo(tensor.dtype)
        if not limits.min <= value <= limits.max:
            return True
    # a NaN compares as false, and so leaves the question open
    return tensor.numel() == 0 or value < tensor.amin().item() or value > tensor.amax().item()


def zero_where_(x: Tensor, where: Tensor) -> Tensor:
    """``x.masked_fill_(where, 0)`` for a mask that broadcasts; ``x`` is a fresh temporary."""
    if torch.compiler.is_compiling() or not x.is_cpu:
        return x.masked_fill_(where, 0)
    # the same on the bits: on the CPU, masked_fill_ with a mask that broadcasts takes as long as a softmax
    bits = torch.int64 if x.dtype == torch.float64 else torch.int32
    x.view(bits).bitwise_and_(where.to(bits).sub_(1))
    return x


_LEAST, _MOST = 1e-6, 1e20
"""A sum of exponentials between these comes of numbers of which those that count did not underflow, and its reciprocal
has room for a small factor."""


def softmax(x: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The softmax along axis 1, and the factor of each place that is still to be multiplied with it.

    They are the exponentials, and the reciprocals of their sums: torch's own softmax takes longer, and what else is
    multiplied into the factor costs nothing. Where those may not be taken as they are, torch's softmax and 1.

    Args:
        x: logits.
        out: where to write; None: a new tensor.
    """
    numbers = torch.exp(x, out=out)
    sums = numbers.sum(1, keepdim=True)
    low, high = (end.item() for end in sums.aminmax()) if sums.numel() else (1.0, 1.0)
    if low > _LEAST and high < _MOST:  # NaN is neither
        return numbers, sums.reciprocal_()
    good = (sums > _LEAST) & (sums < _MOST)
    poor = ~good.squeeze(1)
    # place by place, so that none changes the digits of another
    numbers.movedim(1, -1)[poor] = torch.softmax(x.movedim(1, -1)[poor], 1)
    return numbers, torch.where(good, sums.reciprocal_(), 1)


_DOT = 1 << 18


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b over all elements of two tensors of one shape, without their product.

    In parts, as a dot product adds one after the other: over more float32 numbers that costs digits.
    """
    a, b = a.reshape(-1), b.reshape(-1)
    if a.numel() <= _DOT:
        return torch.dot(a, b)
    return torch.stack([torch.dot(*pair) for pair in zip(a.split(_DOT), b.split(_DOT), strict=True)]).sum()


def rows_per_block(shape: Sequence[int]) -> int:
    """How many entries of the first axis make a block."""
    return max(1, BLOCK // max(1, math.prod(shape[1:])))


class HostFunction(torch.autograd.Function):
    """An ``autograd.Function`` for tensors on the host, where no transform is active: in the classic form, with ctx.

    Arguments are positional, without defaults. A backward that is itself being differentiated is to compute in
    differentiable operations from the inputs, whatever was kept for the usual one.
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]
