"""The names of torch that are not public, or not in every version; no other file uses such names.

For each there is nothing public that serves. Where a torch lacks one, what takes its place is right, but slower or more
cautious: the tests require the name itself of every version that they run on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

transforms_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
"""Whether a transform of ``torch.func`` is active; where torch cannot tell, the way that suits both is taken."""

is_legacy_batched: Callable[[Tensor], bool] = getattr(
    getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _: True
)
"""Whether a tensor holds several incoming gradients, of ``is_grads_batched=True``."""

is_exporting: Callable[[], bool] = getattr(
    torch.compiler, "is_exporting", lambda: not torch.compiler.is_dynamo_compiling()
)
"""Whether ``torch.export`` traces, where ``torch.compiler.is_compiling()``: public from torch 2.7."""


def sym_max(a: int, b: int) -> int:
    """The larger size; while it is not known, of a graph for all sizes, without a branch."""
    if torch.compiler.is_dynamo_compiling():  # traces max() as this, and before torch 2.8 not torch.sym_max of numbers
        return max(a, b)
    return torch.sym_max(a, b)  # type: ignore[no-any-return]


def softmax_grad(grad: Tensor, p: Tensor, dim: int) -> Tensor:
    """The gradient of logits from that of their probabilities ``p``, by torch's own operator where there is one."""
    if _softmax_backward is None:
        return p * (grad - (grad * p).sum(dim, keepdim=True))
    return _softmax_backward(grad, p, dim, p.dtype)  # type: ignore[no-any-return]


_softmax_backward = getattr(torch, "_softmax_backward_data", None)
