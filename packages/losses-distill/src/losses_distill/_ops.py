"""Custom operators: scores against stored keys, with their gradient as a result.

The keys are overwritten after the forward, so that nothing may read them in the backward. Under ``torch.compile`` no
other form ensures that: the partitioner of AOTAutograd moves to the backward what only the backward needs, where it
would read the new keys (torch 2.13; no error, a wrong gradient).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.distributed import named_group
from losses_core.errors import InputError
from losses_core.utils.weight_reduce import Group
from losses_distill._contrast import key_scores
from losses_distill._contrast import noise_contrast as _noise_contrast

_Results = tuple[Tensor, ...]


def _gradient_like(x: Tensor, needs_grad: bool) -> Tensor:
    """An allocated gradient, or one of no rows."""
    return torch.empty_like(x) if needs_grad else x.new_empty(0, x.shape[1])


@torch.library.custom_op(
    "losses_distill::key_logsumexp",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor keys, Tensor bias, Tensor? same, float temperature, bool needs_grad) -> (Tensor, Tensor)"
    ),
)
def key_logsumexp(
    x: Tensor, keys: Tensor, bias: Tensor, same: Tensor | None, temperature: float, needs_grad: bool
) -> _Results:
    """The logsumexp of `losses_distill._contrast.key_scores` for each anchor, and its gradient with respect to it."""
    scores = key_scores(x, keys, bias, same, temperature)
    if not needs_grad:
        return scores.logsumexp(1), _gradient_like(x, needs_grad)
    log_p = F.log_softmax(scores, 1)
    value = scores.amax(1) - log_p.amax(1)
    return value, (log_p.exp_() @ keys).div_(temperature)


@key_logsumexp.register_fake
def _(x: Tensor, *others: Any) -> _Results:
    return x.new_empty(x.shape[:1]), _gradient_like(x, others[-1])


@torch.library.custom_op(
    "losses_distill::noise_contrast",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor bank, Tensor positive, Tensor negative, Tensor? own, Tensor log_z, float temperature, "
        "float eps, str? group, bool needs_grad) -> (Tensor, Tensor, Tensor)"
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
    needs_grad: bool,
) -> _Results:
    """The function of this name in `losses_distill._contrast`: value, log Z, gradient; the group by its name."""
    ranks = None if group is None else Group(named_group(group))
    found = _noise_contrast(x, bank, positive, negative, own, log_z, temperature, eps, ranks)
    if not needs_grad:
        return found.value, found.log_z, _gradient_like(x, needs_grad)
    gradient = found.keys.weighted_sum(torch.sigmoid(found.negative_logits))
    gradient = gradient.addcmul_(torch.sigmoid(-found.positive_logit), found.positives, value=-1)
    return found.value, found.log_z, gradient.div_(temperature)


@noise_contrast.register_fake
def _(x: Tensor, *others: Any) -> _Results:
    return x.new_empty(x.shape[:1]), x.new_empty(()), _gradient_like(x, others[-1])


@torch.library.custom_op("losses_distill::first_order", mutates_args=(), schema="(Tensor gradient, Tensor x) -> Tensor")
def first_order(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient with respect to x that is known as numbers alone: its own derivative is an error."""
    return gradient.clone()


@first_order.register_fake
def _(gradient: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(gradient)


def _no_second_derivative(ctx: Any, grad: Tensor) -> None:
    raise InputError(
        "has no second derivative in training mode against its queue or memory bank, which is overwritten; "
        "mode='batch' has, and so has eval().",
        where="CRDLoss",
    )


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: _Results) -> None:
    ctx.save_for_backward(inputs[0], output[-1])
    ctx.others = len(inputs) - 1


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():
        gradient = first_order(gradient, x)
    return gradient * grad.unsqueeze(1), *(None,) * ctx.others


first_order.register_autograd(_no_second_derivative)
key_logsumexp.register_autograd(_backward, setup_context=_save_gradient)
noise_contrast.register_autograd(_backward, setup_context=_save_gradient)
