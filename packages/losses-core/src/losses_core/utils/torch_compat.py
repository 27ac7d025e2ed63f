"""The names of torch that are not public, or not in every version; no other file uses such names.

For each there is nothing public that serves. Where a torch lacks one, what takes its place is right, but slower or more
cautious: the tests require the name itself of every version that they run on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from losses_core.distributed import ProcessGroup

try:
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
except ImportError:

    class TorchDispatchMode:  # type: ignore[no-redef]  # in its place
        """What says that this torch shows no operations, where memory is to be counted."""

        def __init__(self) -> None:
            raise RuntimeError(f"torch {torch.__version__} does not show its operations: memory cannot be counted.")


transforms_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether a transform of ``torch.func`` is active; where torch cannot tell, the way that suits both is taken."""

is_legacy_batched: Callable[[Tensor], bool] = getattr(
    getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _: True
)
"""Whether a tensor holds several incoming gradients, of ``is_grads_batched=True``."""


def _exporting() -> Callable[[], bool]:
    for flag in ("_is_exporting_flag", "_is_compiling_flag"):  # before torch 2.7 export alone sets the second
        if hasattr(torch.compiler, flag):
            return lambda: bool(getattr(torch.compiler, flag))
    return torch.compiler.is_exporting


is_exporting = _exporting()
"""Whether ``torch.export`` traces, without ``strict=True`` in torch 2.6.

Before torch 2.13 ``torch.compiler.is_exporting()`` is true in graphs of ``torch.compile`` too, where definitions would
take the place of kernels.
"""


def sym_max(a: int, b: int) -> int:
    """The larger size; while it is not known, of a graph for all sizes, without a branch."""
    if torch.compiler.is_dynamo_compiling():  # traces max() as this, and before torch 2.8 not torch.sym_max of numbers
        return max(a, b)
    return torch.sym_max(a, b)  # type: ignore[no-any-return]


def group_of_name(name: str) -> ProcessGroup:
    """The process group with that name; where torch does not look it up, the default one or an error."""
    import torch.distributed as dist  # not part of every build
    from torch.distributed import distributed_c10d

    resolve: Any = getattr(distributed_c10d, "_resolve_process_group", None)
    if resolve is not None:
        return resolve(name)
    world: Any = dist.group.WORLD
    if world.group_name != name:
        raise RuntimeError(f"torch {torch.__version__} finds no process group by its name: use the default group.")
    return world


def softmax_grad(grad: Tensor, p: Tensor, dim: int) -> Tensor:
    """The gradient of logits from that of their probabilities ``p``, by torch's own operator where there is one."""
    if _softmax_backward is None:
        return p * (grad - (grad * p).sum(dim, keepdim=True))
    return _softmax_backward(grad, p, dim, p.dtype)  # type: ignore[no-any-return]


_softmax_backward = getattr(torch, "_softmax_backward_data", None)
