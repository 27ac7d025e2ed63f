"""Distances between the features of student and teacher: squared, absolute, cosine (FitNets, arXiv 1412.6550)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from losses_core.kernels import definition
from losses_distill._adapter import channel_axis
from losses_distill._norm import inverse_norm
from losses_distill.feature_loss._base import FeatureLoss, prepare


def _unit(features: Tensor, eps: float) -> Tensor:
    """Scale the channels of each location to length 1, or to 0 where they are no longer than ``eps``."""
    return features * inverse_norm(features, channel_axis(features), eps)


def _mse_mean(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> Tensor | None:
    return None if normalize else F.mse_loss(pred, target.to(pred.dtype))


def _l1_mean(pred: Tensor, target: Tensor, *, normalize: bool, **_: Any) -> Tensor | None:
    return None if normalize else F.l1_loss(pred, target.to(pred.dtype))


@definition(layout="elements", prepare=prepare, mean=_mse_mean, large_mean=True)
def feature_mse_loss(
    pred: Tensor, target: Tensor, *, normalize: bool = False, resize: str | None = None, eps: float = 1e-6
) -> Tensor:
    """Squared difference of features, element by element: see `FeatureMSELoss`.

    Args:
        pred: features of the student, (N,D), (N,L,C) or (N,C,*S).
        target: features of the teacher, of the shape of ``pred``; other spatial sizes with ``resize``.
        normalize: scale the channels of each location to length 1 first.
        resize: None or ``'min'``, average pooling to the smaller size.
        eps: with ``normalize``, a location no longer than this becomes 0, with gradient 0.

    Returns:
        The shape of the (pooled) features.
    """
    if normalize:
        pred, target = _unit(pred, eps), _unit(target, eps)
    return F.mse_loss(pred, target, reduction="none")


@definition(layout="elements", prepare=prepare, mean=_l1_mean)
def feature_l1_loss(
    pred: Tensor, target: Tensor, *, normalize: bool = False, resize: str | None = None, eps: float = 1e-6
) -> Tensor:
    """Absolute difference of features, element by element: see `FeatureL1Loss`.

    Args:
        pred: features of the student, (N,D), (N,L,C) or (N,C,*S).
        target: features of the teacher, of the shape of ``pred``; other spatial sizes with ``resize``.
        normalize: scale the channels of each location to length 1 first.
        resize: None or ``'min'``, average pooling to the smaller size.
        eps: with ``normalize``, a location no longer than this becomes 0, with gradient 0.

    Returns:
        The shape of the (pooled) features.
    """
    if normalize:
        pred, target = _unit(pred, eps), _unit(target, eps)
    return F.l1_loss(pred, target, reduction="none")


def _prepare_rows(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The same with the channels at axis 1."""
    pred, target, options = prepare(pred, target, **options)
    return (pred.mT, target.mT, options) if pred.ndim == 3 else (pred, target, options)


@definition(layout="classes", prepare=_prepare_rows)
def feature_cosine_loss(pred: Tensor, target: Tensor, *, resize: str | None = None, eps: float = 1e-6) -> Tensor:
    """1 - cosine of the channels of each location: see `FeatureCosineLoss`.

    Args:
        pred: features of the student, (N,D), (N,L,C) or (N,C,*S).
        target: features of the teacher, of the shape of ``pred``; other spatial sizes with ``resize``.
        resize: None or ``'min'``, average pooling to the smaller size.
        eps: a location no longer than this has no direction: the loss is 1, its gradient 0.

    Returns:
        The shape of the (pooled) features without the channels.
    """
    scale_pred, scale_target = inverse_norm(pred, 1, eps), inverse_norm(target, 1, eps)
    # |u - v|² / 2 for unit vectors: 1 - cos would cancel where they are nearly equal
    half_squared = F.mse_loss(pred * scale_pred, target * scale_target, reduction="none").sum(1) / 2
    return half_squared.masked_fill(((scale_pred == 0) | (scale_target == 0)).squeeze(1), 1)


class FeatureMSELoss(FeatureLoss):
    r"""Squared difference between the features of a student and of a teacher.

    .. math:: l = \big(A(f_s) - f_t\big)^2 \quad\text{element by element}

    with :math:`A` a learnable 1×1 convolution (a linear layer on vectors and tokens) where the numbers of channels are
    given and differ, else the identity. With ``normalize`` both are first scaled to length 1 over the channels of each
    location.

    Use when: the student should reproduce an intermediate layer of the teacher (hints, FitNets); with ``normalize``
    where the scales of the two differ.

    Args:
        normalize: L2 over the channels of each location. Default: False.
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None.
        teacher_channels: channels of target. Where the two differ, the loss holds a learnable adapter. Default: None.
        resize: None, equal spatial sizes are required; ``'min'``, average pooling, per axis to the smaller. Default:
            None.
        eps: with ``normalize``, a location no longer than this becomes 0, with gradient 0. Default: 1e-6.
        weighted_mean: with a ``weight``, divide by the sum of the weights over the elements that they cover instead of
            the number of elements: :math:`\sum w\,l / \sum w`. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,D), tokens (N,L,C), or (N,C,*S) with up to three spatial axes.
        - target: features of the teacher, of the same layout.
        - weight: a mask (N,), (N,L), (N,*S) or (N,1,*S), at the pooled size with ``resize``, or of the shape of the
          loss.

    Returns:
        0-d for ``mean`` (Σ l / number of elements) and ``sum``; the shape of target, pooled, for ``none``.

    Raises:
        InputError: sizes that differ; the message names the parameter that resolves it.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = FeatureMSELoss(student_channels=4, teacher_channels=8)
        >>> loss(torch.zeros(2, 4, 3, 3), torch.ones(2, 8, 3, 3)).shape, len(list(loss.parameters()))
        (torch.Size([]), 2)

    References:
        Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv 1412.6550.

    Notes:
        The adapter is trained only if the optimizer has its parameters: build it from
        ``losses_core.trainable_parameters(model, loss)`` and let ``losses_core.check_optimizer(optimizer, loss)``
        verify this. A weight does not enter the denominator unless ``weighted_mean`` is set. With it, and a map
        (N,H,W) of scores as weight, the loss is that of score-weighted distillation, Σ w d² / (C Σ w).
    """

    function = feature_mse_loss


class FeatureL1Loss(FeatureLoss):
    r"""Absolute difference between the features of a student and of a teacher.

    .. math:: l = \big| A(f_s) - f_t \big| \quad\text{element by element}

    with :math:`A` a learnable 1×1 convolution (a linear layer on vectors and tokens) where the numbers of channels are
    given and differ, else the identity. With ``normalize`` both are first scaled to length 1 over the channels of each
    location.

    Use when: as `FeatureMSELoss`, where a few large activations of the teacher should not dominate.

    Args:
        normalize: L2 over the channels of each location. Default: False.
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None.
        teacher_channels: channels of target. Where the two differ, the loss holds a learnable adapter. Default: None.
        resize: None, equal spatial sizes are required; ``'min'``, average pooling, per axis to the smaller. Default:
            None.
        eps: with ``normalize``, a location no longer than this becomes 0, with gradient 0. Default: 1e-6.
        weighted_mean: with a ``weight``, divide by the sum of the weights over the elements that they cover instead of
            the number of elements: :math:`\sum w\,l / \sum w`. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,D), tokens (N,L,C), or (N,C,*S) with up to three spatial axes.
        - target: features of the teacher, of the same layout.
        - weight: a mask (N,), (N,L), (N,*S) or (N,1,*S), at the pooled size with ``resize``, or of the shape of the
          loss.

    Returns:
        0-d for ``mean`` (Σ l / number of elements) and ``sum``; the shape of target, pooled, for ``none``.

    Raises:
        InputError: sizes that differ; the message names the parameter that resolves it.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = FeatureL1Loss(resize="min")
        >>> loss(torch.zeros(2, 4, 6, 6), torch.ones(2, 4, 3, 3))
        tensor(1.)

    References:
        Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv 1412.6550 (with the squared difference).

    Notes:
        The adapter is trained only if the optimizer has its parameters: build it from
        ``losses_core.trainable_parameters(model, loss)`` and let ``losses_core.check_optimizer(optimizer, loss)``
        verify this.
    """

    function = feature_l1_loss


class FeatureCosineLoss(FeatureLoss):
    r"""One minus the cosine between the features of a student and of a teacher, at each location.

    .. math:: l = 1 - \frac{A(f_s) \cdot f_t}{\lVert A(f_s) \rVert\, \lVert f_t \rVert} \quad\text{over the channels}

    with :math:`A` a learnable 1×1 convolution (a linear layer on vectors and tokens) where the numbers of channels are
    given and differ, else the identity.

    Use when: only the direction of the teacher's features matters: embeddings, tokens of transformers.

    Args:
        normalize: has no effect, as a cosine is normalized already; it is accepted so that the three feature losses
            share their parameters. Default: False.
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None.
        teacher_channels: channels of target. Where the two differ, the loss holds a learnable adapter. Default: None.
        resize: None, equal spatial sizes are required; ``'min'``, average pooling, per axis to the smaller. Default:
            None.
        eps: a location no longer than this has no direction: the loss is 1, its gradient 0. Default: 1e-6.
        weighted_mean: with a ``weight``, divide by the sum of the weights over the elements that they cover instead of
            the number of elements: :math:`\sum w\,l / \sum w`. Default: False.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: features of the student, (N,D), tokens (N,L,C), or (N,C,*S) with up to three spatial axes.
        - target: features of the teacher, of the same layout.
        - weight: a mask (N,), (N,L), (N,*S) or (N,1,*S), at the pooled size with ``resize``.

    Returns:
        0-d for ``mean`` (over locations) and ``sum``; for ``none`` (N,), (N,L) or (N,*S).

    Raises:
        InputError: sizes that differ; the message names the parameter that resolves it.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = FeatureCosineLoss(reduction="none")
        >>> loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor([0., 1.])

    References:
        Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv 1412.6550 (with the squared difference).

    Notes:
        At a vector of zeros torch's ``cosine_similarity`` has gradients of 1/eps; those of this loss are 0. The adapter
        is trained only if the optimizer has its parameters: build it from ``losses_core.trainable_parameters(model,
        loss)`` and let ``losses_core.check_optimizer(optimizer, loss)`` verify this.
    """

    function = feature_cosine_loss
    per_element = False
