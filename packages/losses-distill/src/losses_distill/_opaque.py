"""The scores against stored keys as operators that the compiler does not look into.

A compiled training step overwrites its buffers, and the partitioner of AOTAutograd may move to the backward whatever
only the backward needs: there it would read keys that are newer than the scores (torch 2.13; no error, a wrong
gradient). An operator runs where it stands, and its derivative is one of its results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.distributed import named_group
from losses_core.utils.weight_reduce import Group
from losses_distill._contrast import noise_contrast_with_derivative, queue_scores_with_derivative

_Results = tuple[Tensor, ...]


@torch.library.custom_op(
    "losses_distill::queue_scores",
    mutates_args=(),
    schema="(Tensor x, Tensor keys, Tensor bias, Tensor? same, float temperature) -> (Tensor, Tensor)",
)
def queue_scores(x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float) -> _Results:
    """Value and derivative of `_contrast.queue_scores`."""
    return queue_scores_with_derivative(x, keys, bias, same, temperature)


@queue_scores.register_fake
def _(x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float) -> _Results:
    return x.new_empty(x.shape[:1]), torch.empty_like(x)


@torch.library.custom_op(
    "losses_distill::noise_contrast",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor bank, Tensor positive, Tensor negative, Tensor? own, Tensor log_z, float temperature, "
        "float eps, str? group) -> (Tensor, Tensor, Tensor)"
    ),
)
def noise_contrast(
    x: Tensor,
    bank: Tensor,
    positive: Tensor,
    negative: Tensor,
    own: Tensor | None,
    log_z: Tensor,
    temperature: float,
    eps: float,
    group: str | None,
) -> _Results:
    """Value, log Z and derivative of `_contrast.noise_contrast`; the group by its name."""
    ranks = None if group is None else Group(named_group(group))
    return noise_contrast_with_derivative(x, bank, positive, negative, own, log_z, temperature, eps, ranks)


@noise_contrast.register_fake
def _(x: Tensor, *_: Any) -> _Results:
    return x.new_empty(x.shape[:1]), x.new_empty(()), torch.empty_like(x)


def _keep_derivative(ctx: Any, inputs: tuple[Any, ...], output: _Results) -> None:
    ctx.save_for_backward(output[-1])
    ctx.others = len(inputs) - 1


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    (derivative,) = ctx.saved_tensors
    return derivative * grad.unsqueeze(1), *(None,) * ctx.others


queue_scores.register_autograd(_backward, setup_context=_keep_derivative)
noise_contrast.register_autograd(_backward, setup_context=_keep_derivative)
