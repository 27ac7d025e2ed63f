"""Kernels of knowledge distillation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import kernel
from losses_distill.kd_loss._divergence import standardize
from losses_distill.kd_loss.kd import kd_loss

_Result = tuple[Tensor, Tensor | None]


def _is_plain(
    pred: Any, target: Any, *, temperature: Any, kl_direction: str, logit_standardize: bool, **_: Any
) -> bool:
    return kl_direction == "forward" and not logit_standardize and not isinstance(temperature, Tensor)


def _bound(*, temperature: Any, **options: Any) -> float | None:
    """Largest magnitude of T (p - q)."""
    return temperature if _is_plain(None, None, temperature=temperature, **options) else None


@kernel(kd_loss, bound=_bound, temporaries=7)
def kd(
    x: Tensor, target: Tensor, *, temperature: Any, kl_direction: str, logit_standardize: bool, **options: Any
) -> _Result:
    """Compute the divergence and its gradient from one log_softmax of each: the fewest kernels."""
    std = None
    if logit_standardize:
        (x, std), (target, _std) = standardize(x), standardize(target)
    log_p, log_q = F.log_softmax(x / temperature, 1), F.log_softmax(target / temperature, 1)
    p, q = log_p.exp(), log_q.exp()
    if kl_direction == "forward":
        grad = p.sub_(q)
        # nansum: two logits of -inf give NaN, and contribute 0; any other NaN is in the whole row of grad
        value = log_q.sub_(log_p).mul_(q).nansum(1).add_(grad.sum(1))
    else:
        terms = log_p.sub_(log_q).masked_fill_(p == 0, 0).mul_(p)
        total = terms.sum(1)
        grad = terms.addcmul_(p, total.unsqueeze(1), value=-1)
        value = total.add_(q.sub_(p).sum(1))
    value, grad = value.clamp_(min=0).mul_(temperature * temperature), grad.mul_(temperature)
    return mask_ignored(value, grad if std is None else _through_standardization(grad, x, std), **options)


@kernel(kd_loss, device="cpu", bound=_bound, supports=_is_plain)
def kd_cpu(x: Tensor, target: Tensor, *, temperature: float, **options: Any) -> _Result:
    """Compute the same from one exponential of each logit, in a form that Inductor fuses row by row."""
    student, p = _exponentials(x, temperature)
    teacher, q = _exponentials(target, temperature)
    by_p, by_q = (temperature / exponentials.sum(1, keepdim=True) for exponentials in (p, q))
    # log q/p without the rounding of its part that is common to a row, which would not cancel as in kl_divergence
    common = (by_q.double() / by_p.double()).log_()
    rounded = common.to(x.dtype)
    log_ratio = teacher.sub_(student).add_(rounded)
    p, q = p.mul_(by_p), q.mul_(by_q)
    grad = p.sub_(q)
    value = log_ratio.mul_(q).nansum(1, keepdim=True).add_(grad.sum(1, keepdim=True))
    value = value.add_((common - rounded).to(x.dtype), alpha=temperature).clamp_(min=0).mul_(temperature)
    return mask_ignored(value.squeeze(1), grad, **options)


def _exponentials(x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits over the temperature, minus their largest, and their exponentials."""
    logits = x / temperature
    logits = logits.sub_(logits.amax(1, keepdim=True))
    return logits, logits.exp()


def mask_ignored(
    value: Tensor, grad: Tensor, *, labels: Tensor | None, ignore_index: int | None, needs_grad: bool, **_: Any
) -> _Result:
    """Make loss and gradient of ignored positions 0."""
    if labels is not None and ignore_index is not None:
        ignored = labels == ignore_index
        value, grad = value.masked_fill_(ignored, 0), grad.masked_fill_(ignored.unsqueeze(1), 0)
    return value, grad if needs_grad else None


def _through_standardization(grad: Tensor, z: Tensor, std: Tensor) -> Tensor:
    """The gradient with respect to the logits, from that of z = (x - mean)/std along axis 1."""
    finite = z > -torch.inf
    n = finite.sum(1, keepdim=True).clamp_(min=1)
    z, grad = torch.where(finite, z, 0), torch.where(finite, grad, 0)
    projection = (grad * z).sum(1, keepdim=True) / n
    grad = (grad - grad.sum(1, keepdim=True) / n).addcmul_(z, projection, value=-1)
    # a position without spread has std inf, and so gradient 0
    return torch.where(finite, grad, 0).div_(std)
