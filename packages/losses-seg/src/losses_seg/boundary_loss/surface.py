"""The boundary loss of Kervadec et al. (MIDL 2019, arXiv 1812.07032): probabilities times signed distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from losses_core import LossOptions, examples
from losses_core.errors import ConfigError
from losses_core.kernels import definition
from losses_core.utils import checks
from losses_core.utils.precision import upcast
from losses_seg._activation import probabilities
from losses_seg._distance import is_spacing, signed_distance, steps_of
from losses_seg._pixel_loss import PixelLoss
from losses_seg._targets import (
    ACTIVATIONS,
    Activation,
    Classes,
    check_classes,
    check_ids,
    class_mask,
    ignored_mask,
    image_weight,
    is_labels,
    masked,
    only_present,
    prepare_target,
    selected_classes,
)


def _prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """A target as `prepare_target` returns it, and one step per axis."""
    checks.floating(checks.tensor("pred", pred))
    target, ignore_index, activation = prepare_target(pred, target, options["ignore_index"], options["activation"])
    check_ids(pred, options["classes"])
    if options["target_dist"] is not None:
        given = checks.tensor("target_dist", options["target_dist"])
        checks.shape("target_dist", given, tuple(pred.shape), reference="pred")
        options["target_dist"] = given.detach()
    steps = steps_of(options["spacing"], pred.ndim - 2)
    return pred, target, {**options, "ignore_index": ignore_index, "activation": activation, "spacing": steps}


def counted_pairs(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    classes: Classes,
    include_background: bool,
    activation: Activation,
    **_: Any,
) -> Tensor:
    """The normalizer (N,C): whether a pair of image and class is counted."""
    counted = pred.new_ones(pred.shape[:2], dtype=torch.bool)
    chosen = selected_classes(pred.shape[1], pred.device, classes, ignore_index, include_background)
    ignored = ignored_mask(pred, target, ignore_index, activation)
    if chosen is not None:
        counted = counted & chosen
    if ignored is not None:
        counted = counted & ~ignored.flatten(2).all(2)
    if only_present(classes):
        inside = class_mask(target, pred.shape[1]) if is_labels(pred, target) else target > 0.5
        counted = counted & masked(inside, ignored).flatten(2).any(2)
    return counted


def pair_scale(counted: Tensor, ignored: Tensor | None, pixels: int, dtype: torch.dtype) -> Tensor:
    """(N,C): 1 / the number of pixels that are not ignored; 0 where a pair is not counted."""
    if ignored is None:
        return counted.to(dtype) / max(1, pixels)
    return counted / (~ignored).flatten(2).sum(2).clamp(min=1).to(dtype)


@definition(layout="batch", prepare=_prepare, normalizer=counted_pairs, rows=("target_dist",), cast=False)
def surface_loss(
    pred: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None = 255,
    classes: Classes = "all",
    include_background: bool = True,
    spacing: float | Sequence[float] | None = None,
    activation: Activation = "auto",
    target_dist: Tensor | None = None,
) -> Tensor:
    """Surface loss of each image and class, unreduced: see `SurfaceLoss`.

    Args:
        pred: logits (N,C,*S).
        target: class indices (N,*S) or (N,1,*S); one-hot or soft (N,C,*S).
        ignore_index: label of the ignored pixels; None: nothing is ignored.
        classes: ``'all'``, ``'present'`` or a list of ids.
        include_background: whether class 0 takes part.
        spacing: size of a pixel along each axis, one number or one per axis.
        activation: ``'auto'``, ``'softmax'``, ``'sigmoid'`` or ``'none'``.
        target_dist: signed distances (N,C,*S), where they are known already.

    Returns:
        The loss (N,C), 0 where not counted; as normalizer, whether it is counted.
    """
    ignored = ignored_mask(pred, target, ignore_index, activation)
    p = probabilities(upcast(pred), ignored, activation)
    region = target if is_labels(pred, target) else target > 0.5
    if target_dist is None:
        phi = signed_distance(region, pred.shape[1], ignored, spacing, p.dtype)  # type: ignore[arg-type]  # steps
    else:
        phi = masked(target_dist.to(p.dtype), ignored)
    counted = counted_pairs(
        pred,
        target,
        ignore_index=ignore_index,
        classes=classes,
        include_background=include_background,
        activation=activation,
    )
    value = (p * phi).flatten(2).sum(2) * pair_scale(counted, ignored, pred.shape[2:].numel(), p.dtype)
    return value.where(counted, 0)


class SurfaceLoss(PixelLoss):
    r"""Boundary loss of Kervadec: the mean of the probabilities times the signed distance to the true contour.

    .. math::
        L_{nc} = \frac{1}{|\Omega_n|} \sum_{i \in \Omega_n} p_{nci}\, \varphi_{nci}, \qquad
        \varphi_i = \begin{cases} d(i, \text{inside}) & \text{outside} \\
            -(d(i, \text{outside}) - u) & \text{inside} \end{cases}

    over the pixels that are not ignored, with d the Euclidean distance to the nearest pixel on the other side of the
    true mask, and u = 1, or the smallest ``spacing``: φ is 0 on the inner rim. No gradient passes through φ.

    Use when: very unbalanced masks (small lesions), beside Dice or cross-entropy with a small ``loss_weight`` that
    grows during training. Not alone: an empty prediction has loss 0 and hardly a gradient.

    Args:
        ignore_index: label of the pixels that are ignored: they have no gradient, and are neither inside nor outside;
            in [0,C) it excludes that class too. Default: 255. May also be given per call, also as None: nothing is
            ignored.
        classes: ``'all'``; ``'present'``, those with a pixel in the image; or a list of ids. Default: ``'all'``.
        include_background: whether class 0 is averaged too (one channel is always averaged); False is the setting of
            the authors for two classes. Default: True.
        spacing: size of a pixel along each spatial axis, a number or a list, for distances in millimetres.
            Default: None, 1.
        activation: ``'auto'`` (softmax for several channels, sigmoid for one), ``'softmax'``, ``'sigmoid'``, or
            ``'none'`` for a pred that holds probabilities. Default: ``'auto'``.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), one or more spatial dims.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or one-hot or soft (N,C,*S), inside where it
          is above 0.5. For one channel the values 0, 1 and ``ignore_index``, or soft.
        - weight: (N,).
        - target_dist (a keyword of the call): φ (N,C,*S), precomputed, of this sign. The target still says what is
          ignored, and which classes are present.

    Returns:
        0-d for ``mean`` (over the counted pairs of image and class) and ``sum``, (N,C) for ``none``. Negative values
        are normal: the loss is smallest where the whole inside is predicted.

    Raises:
        InputError: a shape or a dtype that does not fit, a spacing for another number of dims; on the CPU, a label
            outside [0,C) that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = SurfaceLoss(activation="none", reduction="none")
        >>> target = torch.tensor([[0, 0, 1, 1, 1, 0]])
        >>> loss(torch.tensor([[[1.0, 0, 0, 0, 0, 0]]]), target), loss(target.float().unsqueeze(1), target)
        (tensor([[0.3333]]), tensor([[-0.1667]]))

    References:
        Kervadec et al., Boundary Loss for Highly Unbalanced Segmentation, MIDL 2019, arXiv 1812.07032.

    Notes:
        MONAI calls this loss ``BoundaryLoss``; it equals this one, and has no spacing. The authors subtract 1 for every
        spacing, so that with pixels below 1 mm φ is positive inside; in this library it never is. A class that is
        absent from an image, or fills it, has no contour: φ is 0, and the pair is counted (the authors' field of a full
        mask is undefined).
    """

    coupled = "image"
    example = examples.PIXELS.probabilities_if("activation", "none")
    function = surface_loss

    def __init__(
        self,
        ignore_index: int = 255,
        classes: str | Sequence[int] = "all",
        include_background: bool = True,
        spacing: float | Sequence[float] | None = None,
        activation: Activation = "auto",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)
        if spacing is not None and not is_spacing(spacing):
            raise ConfigError(f"SurfaceLoss: spacing: expected a number > 0, or a list of them; got {spacing!r}.")
        self.spacing = spacing
        self.activation = checks.choice(self, "activation", activation, ACTIVATIONS)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        return image_weight(weight, pred, per_image=True)
