"""Distillation of fine-grained distributions (Peng et al., D-FINE, ICLR 2025, arXiv 2410.13842)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.distributed import all_reduce_sum
from losses_core.errors import InputError
from losses_core.kernels import Prepared, definition, delegate
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Group
from losses_det.fine_grained.bins import check_bins
from losses_det.fine_grained.localization import check_even, sides_of_bins


def _prepare_divergence(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    return pred, target.detach(), options


def _share(pred: Tensor, target: Tensor, *, share: Tensor, **_: Any) -> Tensor:
    return share


@definition(layout="last", prepare=_prepare_divergence, normalizer=_share, rows=("share", "quality"))
def divergence_of_sides(
    pred: Tensor, target: Tensor, *, share: Tensor, quality: Tensor | None, temperature: float
) -> Tensor:
    """T² · quality · KL(softmax(t/T) ‖ softmax(s/T)) of each side, times its share, which is its normalizer."""
    log_q = F.log_softmax(target / temperature, -1)
    divergence = (log_q.exp() * (log_q - F.log_softmax(pred / temperature, -1))).sum(-1)
    factor = share if quality is None else share * quality
    return divergence * (temperature * temperature * factor)


@definition(cast=False, delegates=True)
def decoupled_distillation_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    matched: Tensor,
    quality: Tensor | None = None,
    reg_max: int = 32,
    temperature: float = 5.0,
    group: Group | None = None,
) -> Tensor:
    """Divergence of each side, weighted by the size of its group: see `DecoupledDistillationFocalLoss`.

    Args:
        pred: logits of the student (…,4,R+1) or (…,4(R+1)).
        target: logits of the teacher of the shape of ``pred``; no gradient.
        matched: bool (…), whether a box is matched.
        quality: weight of each box (…); no gradient; None: 1.
        reg_max: number R of the last bin, even.
        temperature: T > 0.
        group: ranks whose sides are counted; None: this process alone.

    Returns:
        ``Unreduced``: value (…,4), and the normalizer 1/√n of each side.
    """
    check_bins(reg_max, 1.0, 1.0)
    if not temperature > 0:
        raise InputError(f"temperature: expected a number > 0; got {temperature}.")
    logits, sides = sides_of_bins(pred, reg_max)
    if sides[-1:] != (4,):
        raise InputError(f"expected pred of shape (…, 4, {reg_max + 1}); got {tuple(pred.shape)}.")
    checks.same_shape(pred, checks.tensor("target", target))
    shown = f"pred {tuple(pred.shape)}"
    checks.shape("matched", checks.tensor("matched", matched), sides[:-1], reference=shown)
    if matched.dtype != torch.bool:
        raise InputError(f"expected matched as a bool tensor; got {matched.dtype}.")
    if quality is not None:
        checks.shape("quality", checks.tensor("quality", quality), sides[:-1], reference=shown)
        quality = quality.detach().unsqueeze(-1).expand(sides)
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    counts = 4 * torch.stack(((~matched).sum(), matched.sum())).to(dtype)
    if group is not None:
        counts = all_reduce_sum(counts, group.handle)
    other, own = counts.clamp(min=1).rsqrt().unbind()
    share = torch.where(matched, own, other)
    return delegate(
        divergence_of_sides,
        logits,
        target.reshape(logits.shape),
        share=share.unsqueeze(-1).expand(sides),
        quality=quality,
        temperature=temperature,
    )


def _student(matched: bool) -> Any:
    def at(loss: Any, t: Tensor) -> examples.Inputs:
        """Four boxes, one of them matched: bells of the teacher in the middle, of the student t aside in one group."""
        bins = (torch.arange(loss.reg_max + 1, dtype=torch.float64) - loss.reg_max / 2).expand(4, 4, -1)
        shift = (t * (_ONE if matched else ~_ONE)).reshape(4, 1, 1)
        return examples.Inputs(-((bins - shift) ** 2) / 8, -(bins**2) / 8, {"matched": _ONE})

    return at


_ONE = torch.tensor([True, False, False, False])


def _draw_pair(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Logits of student and teacher, and which boxes are matched."""
    boxes = draw.pred[:-2] if draw.pred[-1] == loss.reg_max + 1 else draw.pred[:-1]
    call = {"matched": draw.uniform(boxes) < 0.3, "quality": draw.uniform(boxes)}
    return examples.Inputs(draw.normal(draw.pred), draw.normal(draw.target or draw.pred), call)


class DecoupledDistillationFocalLoss(BaseLoss):
    r"""Decoupled distillation focal loss ("DDF"): earlier layers learn the distributions of the last one.

    With :math:`q` the quality of a box and :math:`n` the number of sides in its group, the matched or the others,

    .. math::
        l = \frac{T^2 q}{\sqrt n}\, \mathrm{KL}(\operatorname{softmax}(t/T) \,\|\, \operatorname{softmax}(s/T))

    and the denominator of the mean is :math:`\sum 1/\sqrt n`, so that both groups count by the root of their size.

    Use when: a detector with fine-grained distributions (see `FineGrainedLocalizationLoss`) distils its last layer into
    the ones before it.

    Args:
        reg_max: number R of the last bin, even; there are R + 1 bins. Default: 32.
        temperature: T > 0. Default: 5.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits of a layer (…,4,R+1) or (…,4(R+1)).
        - target: logits of the last layer, of the shape of pred; they get no gradient.
        - matched: keyword, bool (…), required: which boxes are matched.
        - quality: keyword, (…), without a gradient. Default: 1. In D-FINE the IoU where matched, else the highest class
          score of the last layer.
        - weight: (…,4) or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (√n₁ mean₁ + √n₀ mean₀ over √n₁ + √n₀, with the means of the two groups) and ``sum``, (…,4) for
        ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit.
        ConfigError: an option outside its range, an odd ``reg_max``.
        TypeError: a call without ``matched``.

    Example:
        >>> import torch
        >>> loss = DecoupledDistillationFocalLoss(reg_max=2, temperature=1.0)
        >>> student = torch.zeros(2, 4, 3)
        >>> teacher = torch.tensor([2.0, 0.0, 0.0]).expand(2, 4, 3)
        >>> loss(student, teacher, matched=torch.tensor([True, False]), quality=torch.tensor([1.0, 0.5]))
        tensor(0.3248)

    References:
        Peng et al., D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement, ICLR 2025, arXiv
        2410.13842.

    Notes:
        Equals ``loss_local`` of the authors and of transformers: the scale by the batch size, in which these differ,
        cancels. A group without a box drops out. Where student and teacher are equal the loss and its gradient are
        exactly 0. fp16 logits are computed in float32. The sides of a batch are coupled by their number.
    """

    coupled = "batch"
    function = decoupled_distillation_focal_loss
    example = examples.Example(
        _draw_pair,
        (8, 4, 33),
        examples.Path(
            "distance of the student's distribution from the teacher's, in bins",
            "the distance",
            (-8, 8),
            {"the matched box of four": _student(True), "the three others": _student(False)},
        ),
    )
    internal_options = ("group",)

    def __init__(self, reg_max: int = 32, temperature: float = 5.0, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.reg_max = check_even(self, reg_max)
        self.temperature = checks.number(self, "temperature", temperature, above=0)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        group = Group(self.process_group) if self._synchronises() else None
        return pred, target, {**options, "group": group}
