"""Masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529)."""

from __future__ import annotations

from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import match_dtype, upcast
from losses_core.utils.warn import warn_user
from losses_distill._adapter import check_channels
from losses_distill._inputs import prepare_teacher
from losses_distill.feature_loss._base import check_given_channels
from losses_distill.feature_loss._generation import Generation, LazyGeneration

MASK_MODES = ("spatial", "channel")


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    pred = checks.tensor("pred", pred)
    target = prepare_teacher(target)
    checks.same_shape(pred, target)
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (N, C, H, W); got {tuple(pred.shape)}.")
    return pred, target, options


@definition(layout="batch", prepare=_prepare)
def mgd_loss(pred: Tensor, target: Tensor, *, alpha_mgd: float = 0.00007) -> Tensor:
    """Squared difference between generated features and the teacher's, summed over each sample: see `MGDLoss`.

    Args:
        pred: generated features, (N,C,H,W).
        target: features of the teacher, of the shape of ``pred``.
        alpha_mgd: factor.

    Returns:
        (N,)
    """
    return F.mse_loss(pred, target, reduction="none").flatten(1).sum(1) * alpha_mgd


class MGDLoss(BaseLoss):
    r"""Masked generative distillation: masked features of the student generate the features of the teacher.

    .. math::
        l = \alpha \sum_{c,h,w} \big( f_t - G(A(f_s) \cdot M) \big)^2 \quad\text{per sample}

    with :math:`M` a random mask that zeroes the fraction :math:`\lambda` of the locations or channels,
    :math:`G` a 3×3 convolution, ReLU and another 3×3 convolution, and :math:`A` a 1×1 convolution where the numbers of
    channels differ.

    Use when: intermediate features of a detector, segmenter or classifier are distilled, and the student is too small
    to copy them.

    Args:
        alpha_mgd: α ≥ 0. Default: 0.00007.
        lambda_mgd: λ, the fraction masked, in [0, 1]. Default: 0.65.
        student_channels: channels of pred; given together with ``teacher_channels``. Default: None, those of the first
            call (with a warning: DistributedDataParallel refuses parameters without a shape).
        teacher_channels: channels of target. Default: None.
        mask_mode: ``'spatial'``, a mask (N,1,H,W), or ``'channel'``, (N,C,1,1). Default: ``'spatial'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

            The published pairs:

            =========================== ========= ========== ===========
            task                        alpha_mgd lambda_mgd mask_mode
            =========================== ========= ========== ===========
            classification              7e-5      0.15       channel
            detection, one stage        2e-5      0.65       spatial
            detection, two stages       5e-7      0.45       spatial
            semantic segmentation       2e-5      0.75       spatial
            =========================== ========= ========== ===========

    Shape:
        - pred: features of the student, (N,C,H,W).
        - target: features of the teacher, (N,C',H,W).
        - weight: (N,).

    Returns:
        0-d for ``mean`` (Σ l / N, as published) and ``sum``; (N,) for ``none``.

    Raises:
        InputError: shapes that do not fit.
        ConfigError: an option outside its range; one of the channels without the other.

    Example:
        >>> import torch
        >>> loss = MGDLoss(student_channels=4, teacher_channels=8)
        >>> loss(torch.randn(2, 4, 6, 6), torch.randn(2, 8, 6, 6)).shape, sum(p.numel() for p in loss.parameters())
        (torch.Size([]), 1208)

    References:
        Yang et al., Masked Generative Distillation, ECCV 2022, arXiv 2205.01529.

    Notes:
        Convolutions and mask are random: ``torch.manual_seed`` reproduces both. The parameters are trained only if the
        optimizer has them: build it from ``losses_core.trainable_parameters(model, loss)`` and let
        ``losses_core.check_optimizer(optimizer, loss)`` verify this. The paper gives λ = 0.5 for classification, the
        authors' code 0.15.
    """

    coupled = "image"
    function = mgd_loss
    example = examples.FEATURES

    def __init__(
        self,
        alpha_mgd: float = 0.00007,
        lambda_mgd: float = 0.65,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        mask_mode: str = "spatial",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.alpha_mgd = checks.number(self, "alpha_mgd", alpha_mgd, low=0)
        self.lambda_mgd = checks.number(self, "lambda_mgd", lambda_mgd, low=0, high=1)
        check_channels(self, student_channels, teacher_channels)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.mask_mode = checks.choice(self, "mask_mode", mask_mode, MASK_MODES)
        if student_channels is None or teacher_channels is None:
            warn_user(
                "MGDLoss without student_channels and teacher_channels makes its convolutions at the first call; "
                "DistributedDataParallel refuses that. Give both where they are known."
            )
            self.generation: Generation = LazyGeneration()
        else:
            self.generation = Generation(student_channels, teacher_channels)

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        checks.shape("weight", weight, pred.shape[:1], reference="one number per sample")
        return weight

    def _evaluate_function(self, pred: Any, target: Any, weight: Tensor | None, *others: Any, **named: Any) -> Any:
        if weight is not None:
            # a NaN in a sample of weight 0, times its gradient of 0, would reach the parameters of the convolutions
            pred, weight = checks.tensor("pred", pred), checks.tensor("weight", weight)
            masked = self._map_weight(weight, pred, target) == 0
            pred = pred.masked_fill(masked.reshape(-1, *(1,) * (pred.ndim - 1)), 0)
        return super()._evaluate_function(pred, target, weight, *others, **named)

    def _normalizer(self, target: Any, weight: Tensor | None, num_classes: int | None, keywords: dict[str, Any]) -> int:
        return prepare_teacher(target).shape[0]  # without drawing a mask

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Generate the features to compare, in full precision."""
        pred = checks.tensor("pred", pred)
        target = prepare_teacher(target)
        if pred.ndim != 4 or target.ndim != 4 or pred.shape[:1] + pred.shape[2:] != target.shape[:1] + target.shape[2:]:
            raise InputError(
                "expected pred (N, C, H, W) and target (N, C', H, W) of one batch and one size; "
                f"got {tuple(pred.shape)} and {tuple(target.shape)}. Resize the features first."
            )
        check_given_channels("student_channels", pred, self.student_channels)
        check_given_channels("teacher_channels", target, self.teacher_channels)
        generated = self.generation(upcast(pred), target, self.lambda_mgd, self.mask_mode)
        return generated, match_dtype(target, generated.dtype), options
