"""Channel-wise distillation (Shu et al., ICCV 2021, arXiv 2011.13256)."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from losses_core import InputError, LossOptions
from losses_core.kernels import definition, delegate
from losses_core.utils import checks
from losses_distill._adapter import channel_axis
from losses_distill.feature_loss._base import AdaptedFeatureLoss, prepare
from losses_distill.kd_loss.kd import kd_loss


@definition(delegates=True)
def cwd_loss(pred: Tensor, target: Tensor, *, temperature: float | Tensor = 1.0, resize: str | None = None) -> Tensor:
    """Compute the divergence of the positions of each channel, unreduced: see `CWDLoss`.

    Args:
        pred: features of the student, (N,C,*S) or (N,L,C).
        target: features of the teacher, of the shape of ``pred``; other spatial sizes with ``resize``.
        temperature: T > 0; a 0-d tensor gets a gradient.
        resize: None or ``'min'``, average pooling to the smaller size.

    Returns:
        Unreduced: value (N,C), and no normalizer.
    """
    pred, target, _ = prepare(pred, target, resize=resize)
    if pred.ndim < 3:
        raise InputError(f"expected features with locations, (N, C, *S) or (N, L, C); got {tuple(pred.shape)}.")
    if pred.ndim == 3:  # (N,L,C): the positions take the place of the classes
        return delegate(kd_loss, pred, target, temperature=temperature, class_dim=1)
    return delegate(kd_loss, pred.flatten(2), target.flatten(2), temperature=temperature, class_dim=2)


class CWDLoss(AdaptedFeatureLoss):
    r"""Divergence between the distributions of each channel over the positions.

    With :math:`q_{ci} = \operatorname{softmax}_i(f_{t,ci}/T)` of the teacher and
    :math:`p_{ci} = \operatorname{softmax}_i(A(f_s)_{ci}/T)` of the student, for each sample and channel c

    .. math::
        l_c = T^2 \sum_i q_{ci} \log\frac{q_{ci}}{p_{ci}}

    with :math:`A` a learnable 1×1 convolution where the numbers of channels are given and differ, else the identity.

    Use when: dense prediction is distilled, of features or of logits: each channel says where something is, and its
    magnitude does not count.

    Args:
        temperature: T > 0. Default: 1. May be given per call, also as a 0-d tensor, which gets a gradient.
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None.
        teacher_channels: channels of target. Where the two differ, the loss holds a learnable adapter. Default: None.
        resize: None, equal spatial sizes are required; ``'min'``, average pooling, per axis to the smaller. Default:
            None.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,C,*S) with two or three spatial axes, or tokens (N,L,C).
        - target: features of the teacher, of the same layout.
        - weight: (N,) or (N,C). A weight of the positions is an error: it does not commute with the softmax.

    Returns:
        0-d for ``mean`` (over N·C, as published) and ``sum``; (N,C) for ``none``.

    Raises:
        InputError: sizes that differ; the message names the parameter that resolves it; features without positions.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = CWDLoss()
        >>> student = torch.tensor([[[[1.0, 0.0, 0.0]]]], requires_grad=True)
        >>> loss(student, torch.tensor([[[[3.0, 0.0, 0.0]]]]))
        tensor(0.2754, grad_fn=<...>)

    References:
        Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021, arXiv 2011.13256.

    Notes:
        Equal to mmrazor's ``ChannelWiseDivergence``, which compares the sizes of the last two axes alone. Saved for
        backward, beside the features, is one tensor of their size and dtype, the gradient. The adapter is trained only
        if the optimizer has its parameters: build it from ``losses_core.trainable_parameters(model, loss)`` and let
        ``losses_core.check_optimizer(optimizer, loss)`` verify this.
    """

    coupled = "image"
    function = cwd_loss
    per_call = ("temperature",)

    def __init__(
        self,
        temperature: float = 1.0,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        resize: str | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(student_channels, teacher_channels, resize, **options)
        self.temperature = checks.number(self, "temperature", temperature, above=0)

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        shape = (pred.shape[0], target.shape[channel_axis(target)])
        if weight.shape not in ((pred.shape[0],), shape):
            raise InputError(
                f"expected weight of shape {shape[:1]} or {shape}, of samples or channels; got {tuple(weight.shape)}. "
                "A weight of the positions does not commute with the softmax over them."
            )
        return weight

    def _masked_locations(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        masked = self._map_weight(weight, pred, target) == 0
        if masked.ndim == 2:
            masked = masked.all(1)
        return masked.reshape(-1, *(1,) * (pred.ndim - 1))
