"""How `ChunkedLoss` computes: what is cut into chunks, and the gradients that a chunk leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses_core.errors import InputError
from losses_core.utils.precision import map_tensors

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

ACCUMULATED_AT_ONCE = 1 << 24
"""Elements of a linear head's weight whose gradient is computed at once where it is added up in another dtype."""


class LinearHead(NamedTuple):
    """A head without hooks, of which the gradient is known: a product of matrices."""

    weight: Tensor
    bias: Tensor | None


Head = Callable[[Tensor], Tensor] | LinearHead


class Cut(NamedTuple):
    """The chunks of a call: ``size`` rows, or samples, of the leading axes ``lead``."""

    lead: torch.Size
    size: int

    def bounds(self) -> Iterator[tuple[int, int]]:
        """First and last of each chunk; one empty chunk where there is nothing."""
        total = self.lead.numel()
        for start in range(0, max(total, 1), self.size):
            yield start, min(start + self.size, total)

    def check(self, name: str, tree: Any) -> None:
        """Refuse a tensor without the leading axes: a chunk could have as many rows as it has by chance."""

        def check(tensor: Tensor) -> Tensor:
            if tensor.shape[: len(self.lead)] != self.lead:
                raise InputError(
                    f"{name}: expected the leading axes of the features, {tuple(self.lead)}; got {tuple(tensor.shape)}."
                )
            return tensor

        map_tensors(check, tree)

    def part(self, tree: Any, start: int, end: int) -> Any:
        """A chunk of every tensor that has the leading axes; others are passed whole."""

        def cut(tensor: Tensor) -> Tensor:
            fits = tensor.shape[: len(self.lead)] == self.lead
            return tensor.reshape(-1, *tensor.shape[len(self.lead) :])[start:end] if fits else tensor

        return map_tensors(cut, tree)


class Grads:
    """The gradients of the sum of all chunks in the features and in what is learned."""

    def __init__(self, features: Tensor | None, learned: Sequence[Tensor]) -> None:
        self.features = None if features is None else torch.empty_like(features, memory_format=torch.contiguous_format)
        # half precision is added up in float32, in pieces, so that casting the sum needs one piece more
        self.learned = [
            [torch.zeros_like(part, dtype=_wide(part.dtype)) for part in _pieces(tensor)] for tensor in learned
        ]

    def put(self, start: int, end: int, lead: int, grad: Tensor) -> None:
        """Store the gradient of a chunk of the features."""
        if self.features is not None:
            self.features.view(-1, *self.features.shape[lead:])[start:end] = grad

    def add(self, index: int, grad: Tensor) -> None:
        """Add the gradient of a chunk in one learned tensor."""
        for total, part in zip(self.learned[index], _pieces(grad), strict=True):
            total.add_(part)

    def add_product(self, index: int, grad: Tensor, rows: Tensor) -> None:
        """Add ``gradᵀ rows``, the gradient of a chunk in the weight of a linear head."""
        start = 0
        for total in self.learned[index]:
            part = grad[:, start : start + total.shape[0]].T
            start += total.shape[0]
            if total.dtype == grad.dtype == rows.dtype:
                total.addmm_(part, rows)
            else:
                total.add_(part @ rows.to(grad.dtype))

    def cast(self, learned: Sequence[Tensor]) -> None:
        """Give the sums the dtype of what they belong to, freeing each piece as its successor is made."""
        for pieces, tensor in zip(self.learned, learned, strict=True):
            for index, piece in enumerate(pieces):
                pieces[index] = piece.to(tensor.dtype)

    def times(self, factor: Tensor, learned: Sequence[Tensor]) -> list[Tensor | None]:
        """All of them times the incoming gradient; new tensors, for a graph may be kept."""
        features = None if self.features is None else _scaled([self.features], factor, self.features)
        return [features, *(_scaled(pieces, factor, t) for pieces, t in zip(self.learned, learned, strict=True))]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.ndim < 2 or _wide(tensor.dtype) == tensor.dtype:
        return (tensor,)
    pieces: Sequence[Tensor] = tensor.split(max(1, ACCUMULATED_AT_ONCE // tensor[0].numel()))
    return pieces


def _scaled(pieces: Sequence[Tensor], factor: Tensor, like: Tensor) -> Tensor:
    """The pieces of a gradient times a factor, in one new tensor."""
    result = torch.empty_like(like, memory_format=torch.contiguous_format)
    factor, start = factor.reshape(1), 0  # 0-d it would be rounded to half precision, or overflow there
    flat = result.view(-1)
    for piece in pieces:
        for part in piece.view(-1).split(ACCUMULATED_AT_ONCE):  # a CPU casts all of what it multiplies
            torch.mul(part, factor, out=flat[start : start + part.numel()])
            start += part.numel()
    return result


class ChunkJob:
    """One call: value and denominator of all chunks, and their gradients.

    Args:
        compute: ``compute(logits, start, end)`` gives the sum of a chunk's loss, and its share of the denominator.
        head: from features to logits.
        cut: what the chunks are.
        learned: parameters that get a gradient: those of the head, then those of the loss.
    """

    denominator: Tensor | float | None = None

    def __init__(
        self,
        compute: Callable[[Tensor, int, int], tuple[Tensor, Tensor | float | None]],
        head: Head,
        cut: Cut,
        learned: Sequence[Tensor],
    ) -> None:
        self.compute, self.head, self.cut, self.learned = compute, head, cut, learned

    def run(self, features: Tensor, needs_grad: bool) -> tuple[Tensor, Grads | None]:
        """The sum over all chunks; sets the denominator."""
        wanted = features if features.requires_grad else None
        grads, values = Grads(wanted, self.learned) if needs_grad else None, []
        for start, end in self.cut.bounds():
            part = self.cut.part(features.detach(), start, end)
            if grads is None:
                value, denominator = self.compute(apply_head(self.head, part), start, end)
            elif isinstance(self.head, LinearHead):
                value, denominator = self._through_linear(self.head, part, start, end, grads)
            else:
                value, denominator = self._through_module(self.head, part, start, end, grads)
            values.append(value.detach())
            if denominator is not None:
                self.denominator = denominator if self.denominator is None else self.denominator + denominator
        if grads is not None:
            grads.cast(self.learned)
        return torch.stack(values).sum(), grads

    def _through_linear(
        self, head: LinearHead, part: Tensor, start: int, end: int, grads: Grads
    ) -> tuple[Tensor, Tensor | float | None]:
        logits = apply_head(head, part).requires_grad_()
        own = [tensor for tensor in self.learned if tensor is not head.weight and tensor is not head.bias]
        with torch.enable_grad():
            value, denominator = self.compute(logits, start, end)
        grad, *rest = _gradients(value, [logits, *own])
        del logits
        others = iter(rest)
        if grads.features is not None:
            grads.put(start, end, len(self.cut.lead), grad @ head.weight.to(grad.dtype))
        for index, tensor in enumerate(self.learned):
            if tensor is head.weight:
                grads.add_product(index, grad, part)
            elif tensor is head.bias:
                grads.add(index, grad.sum(0, dtype=_wide(grad.dtype)))
            else:
                grads.add(index, next(others))
        return value, denominator

    def _through_module(
        self, head: Callable[[Tensor], Tensor], part: Tensor, start: int, end: int, grads: Grads
    ) -> tuple[Tensor, Tensor | float | None]:
        wanted = list(self.learned)
        if grads.features is not None:
            wanted.append(part.requires_grad_())
        with torch.enable_grad():
            value, denominator = self.compute(head(part), start, end)
        given = _gradients(value, wanted)
        for index, grad in enumerate(given[: len(self.learned)]):
            grads.add(index, grad)
        if grads.features is not None:
            grads.put(start, end, len(self.cut.lead), given[-1])
        return value, denominator


def _gradients(value: Tensor, wanted: Sequence[Tensor]) -> Sequence[Tensor]:
    if not value.requires_grad:  # a constant
        return [torch.zeros_like(tensor) for tensor in wanted]
    return torch.autograd.grad(value, wanted, materialize_grads=True)


def apply_head(head: Head, part: Tensor) -> Tensor:
    """The logits of a chunk."""
    return F.linear(part, head.weight, head.bias) if isinstance(head, LinearHead) else head(part)


class ChunkedSum(torch.autograd.Function):
    """The sum of a loss over all chunks, whose gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, job: ChunkJob, features: Tensor, *learned: Tensor) -> Tensor:
        value, ctx.grads = job.run(features, needs_grad=True)
        ctx.job = job
        return value

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise InputError(
                "the gradient of a chunked loss cannot be differentiated again: the logits are gone. Call the loss on "
                "head(features) for create_graph=True.",
                "ChunkedLoss",
            )
        return None, *ctx.grads.times(grad_output, ctx.job.learned)


def as_head(head: Any) -> tuple[Head, list[Tensor]]:
    """The head of a call, and its parameters.

    Raises:
        InputError: neither a module nor a weight and a bias, or a module that couples the chunks.
    """
    if isinstance(head, (tuple, list)) and len(head) == 2 and isinstance(head[0], Tensor):
        weight, bias = head
        if weight.ndim != 2 or not (bias is None or (isinstance(bias, Tensor) and bias.shape == weight.shape[:1])):
            shapes = f"{tuple(weight.shape)} and {None if bias is None else tuple(getattr(bias, 'shape', ()))}"
            raise InputError(f"head: expected a weight (C,D) and a bias (C,) or None; got {shapes}.")
        return LinearHead(weight, bias), [tensor for tensor in (weight, bias) if tensor is not None]
    if not isinstance(head, nn.Module):
        raise InputError(
            f"head: expected a module, or a pair (weight, bias) with bias None where there is none; got "
            f"{type(head).__name__}."
        )
    for name, module in head.named_modules():
        if isinstance(module, BATCH_NORMS) and (module.training or module.running_mean is None):
            raise InputError(
                f"head: {name or 'it'} is a {type(module).__name__} in training mode, whose statistics would be those "
                "of a chunk. Call head.eval(), or normalise before the head."
            )
    if type(head) is nn.Linear and not _has_hooks(head):
        return LinearHead(head.weight, head.bias), list(head.parameters())
    return head, list(head.parameters())


def _has_hooks(module: nn.Module) -> bool:
    of_all = nn.modules.module
    return any(
        hooks
        for owner, names in (
            (module, ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")),
            (of_all, ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")),
        )
        for hooks in (getattr(owner, name) for name in names)
    )
