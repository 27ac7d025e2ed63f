"""The soft clDice loss (Shit et al., CVPR 2021, arXiv 2003.07311)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import LossOptions, Unreduced, examples
from losses_core.errors import InputError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_core.utils.stable import ratio
from losses_seg._activation import probabilities
from losses_seg._ops import truth_skeleton
from losses_seg._region import Region, loss_per_class, prepare_region
from losses_seg._skeleton import soft_skeleton
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    class_mask,
    ignored_mask,
    is_labels,
    masked,
)


@definition(layout="batch", rows=("ignored",), cast=False)
def skeleton_sums(
    pred: Tensor,
    target: tuple[Tensor, Tensor],
    *,
    ignored: Tensor | None,
    activation: Activation,
    iterations: int,
    first: int,
) -> Tensor:
    """Overlaps of regions and skeletons of each image and class.

    Args:
        pred: logits (N,C,*S).
        target: as `prepare_target` returns it; and its skeleton S(g), (N,C-first,*S).
        ignored: bool (N,1,*S) or (N,C,*S); None: nothing is ignored.
        activation: ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        iterations: k ≥ 0.
        first: the first class that takes part; the sums of the others are 0.

    Returns:
        (N,6,C): Σ S(p) g, Σ S(p), Σ S(g) p, Σ S(g), Σ g, and the number of pixels.
    """
    truth, skeleton = target
    p = probabilities(upcast(pred), ignored, activation)[:, first:]
    hidden = ignored if ignored is None or ignored.shape[1] == 1 else ignored[:, first:]
    g = class_mask(truth, pred.shape[1], first) if is_labels(pred, truth) else truth[:, first:]
    g = masked(g.to(p.dtype), hidden)
    valid = torch.ones_like(p) if hidden is None else (~hidden).to(p.dtype).expand_as(p)
    mine, skeleton = soft_skeleton(p, hidden, iterations), skeleton.to(p.dtype)
    maps = (mine * g, mine, skeleton * p, skeleton, g, valid)
    return F.pad(torch.stack([m.flatten(2).sum(2) for m in maps], 1), (first, 0))


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    checks.floating(checks.tensor("pred", pred))
    check_iterations(options["iterations"])
    return prepare_region(pred, target, **options)


def check_iterations(iterations: int) -> None:
    """Refuse a number of iterations below 0."""
    if iterations < 0:
        raise InputError(f"iterations: expected an integer >= 0; got {iterations}.")


def first_class(pred: Tensor, include_background: bool) -> int:
    """The first class that takes part: without a background the second, where there is one."""
    return int(not include_background and pred.shape[1] > 1)


@definition(prepare=_prepare, cast=False)
def soft_cl_dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    iterations: int = 10,
    smooth: float = 1.0,
    ignore_index: int | None = 255,
    class_weight: Tensor | None = None,
    per_image: bool = True,
    classes: Classes = "all",
    include_background: bool = False,
    activation: Activation = "auto",
    group: SyncGroup | None = None,
) -> Unreduced:
    """Compute the soft clDice loss of each class, unreduced: see `SoftClDiceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        iterations: k ≥ 0.
        smooth: s ≥ 0, in pixels.
        ignore_index: label of the pixels that are outside the image; None: no pixel is.
        class_weight: (C,).
        per_image: sums per image, or over the batch.
        classes: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 takes part.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        group: the processes that hold the batch together; given by the class under ``sync_dist``.

    Returns:
        The loss (N,C), or (C,) over the batch, times the class weight; 0 where a class is not counted. As normalizer,
        the class weight where it is counted.
    """
    first = first_class(pred, include_background)
    ignored = ignored_mask(pred, target, ignore_index, activation)
    skeleton = truth_skeleton(pred, target, ignored, iterations, first=first)
    sums = skeleton_sums(
        pred, (target, skeleton), ignored=ignored, activation=activation, iterations=iterations, first=first
    )
    if not per_image:
        sums = sums.sum(0) if group is None else group.sum(sums.sum(0))
    near_true, mine, near_mine, true, area, pixels = sums.unbind(-2)
    precision = ratio(near_true + smooth, mine + smooth, 1.0)
    sensitivity = ratio(near_mine + smooth, true.detach() + smooth, 1.0)
    value = 1 - ratio(2 * precision * sensitivity, precision + sensitivity)
    value = value.where(pixels > 0, 0)  # 0/0 of a fully ignored image
    return loss_per_class(
        value,
        Region(near_true, mine, area.detach(), pixels.detach()),
        classes=classes,
        ignore_index=ignore_index,
        include_background=include_background,
        class_weight=class_weight,
        group=group,
    )


class SoftClDiceLoss(BatchReducedLoss):
    r"""Soft clDice loss: one minus the overlap of centre lines, of the prediction with the true region and reversed.

    .. math::
        L_{nc} = 1 - \frac{2\, T_{prec} T_{sens}}{T_{prec} + T_{sens}}, \qquad
        T_{prec} = \frac{\sum_i S(p)_i\, g_i + s}{\sum_i S(p)_i + s}, \qquad
        T_{sens} = \frac{\sum_i S(g)_i\, p_i + s}{\sum_i S(g)_i + s}

    with S the soft skeleton of k iterations: what openings by growing blocks remove, joined.

    Use when: thin connected structures (vessels, roads, cracks, nerves), where a gap of one pixel matters; with Dice or
    cross-entropy, as centre lines say nothing about width. Not for wide regions: of a structure wider than 2k pixels
    the core is lost.

    Args:
        iterations: k ≥ 0, half the width of the widest structure, in pixels. Time and memory grow with it. Default: 10.
        smooth: s ≥ 0, in pixels of skeleton. Default: 1.
        ignore_index: label of the pixels that are outside the image: they enter no sum, no minimum and no maximum, and
            get no gradient; in [0,C) it excludes that class too. Default: 255. May also be given per call, there also
            as None.
        class_weight: list or tensor of C weights ≥ 0. Default: none.
        per_image: a loss per image and class (True), or per class over the whole batch. Default: True.
        classes: ``'all'``; ``'present'``, those that occur in the image (or batch); or a list of ids. Default:
            ``'all'``.
        include_background: whether class 0 takes part (one channel always does). Default: False.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S). For one channel
          the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), with ``per_image``.

    Returns:
        0-d for ``mean`` (Σ w L / Σ w over the pairs that are counted) and ``sum``; for ``none`` (N,C), or (C,) over the
        batch.

    Raises:
        InputError: a shape or a dtype that does not fit; a label outside [0,C) that is not ``ignore_index``; a sample
            weight with ``per_image=False``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SoftClDiceLoss(iterations=2)
        >>> line = torch.zeros(1, 1, 9, 9)
        >>> line[..., 4, :] = 1
        >>> broken = line.clone()
        >>> broken[..., 4, 4] = 0
        >>> loss(6 * line - 3, line), loss(6 * broken - 3, line)
        (tensor(0.0218), tensor(0.0714))

    References:
        Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation, CVPR 2021,
        arXiv 2003.07311.

    Notes:
        The authors' code ignores its number of iterations (it is always 10), erodes twice per step, and sums over batch
        and classes. MONAI has 3 iterations by default, sums over classes, and adds 1e-4 below: equal for one foreground
        class up to that. Autograd keeps about 20 maps per iteration of both; this loss keeps two, of some images and
        classes at a time. No gradient reaches S(g).
    """

    function = soft_cl_dice_loss
    example = examples.PIXELS.probabilities_if("activation", "none")

    def __init__(
        self,
        iterations: int = 10,
        smooth: float = 1.0,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "all",
        include_background: bool = False,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.iterations = checks.number(self, "iterations", iterations, low=0, integer=True)
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self._set_vector("class_weight", class_weight)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)
