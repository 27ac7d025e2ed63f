"""The classes of online hard example mining: options, weights, and the limit over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Reduction
from losses_seg._sync import SyncGroup
from losses_seg.ohem_loss.functions import binary_shape, ohem_binary_loss, ohem_cross_entropy_loss, pixel_shape


class _Weighted(NamedTuple):
    """A target, and the sample weight of the call."""

    target: Any
    weight: Any


class _HardPixelLoss(BaseLoss):
    """Parameters of mining; pixels of weight zero are not mined."""

    coupled = "batch"
    internal_options = ("ignored", "group")

    def __init__(
        self, thresh: float | None, min_kept: int | float, ignore_index: int, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.thresh = None if thresh is None else checks.number(self, "thresh", thresh, above=0, high=1)
        if isinstance(min_kept, float):
            if not 0 < min_kept <= 1:
                cure = (
                    f" For a number of elements, write {min_kept:.0f}."
                    if min_kept > 1 and min_kept.is_integer()
                    else ""
                )
                expected = f"min_kept: expected an integer >= 1, or a part > 0 and <= 1; got {min_kept}.{cure}"
                raise ConfigError(f"{type(self).__name__}: {expected}")
            self.min_kept = checks.number(self, "min_kept", min_kept, above=0, high=1)
        else:
            self.min_kept = checks.number(self, "min_kept", min_kept, low=1, integer=True)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)

    def _evaluate(self, pred: Any, target: Any, weight: Tensor | None = None, *args: Any, **kwargs: Any) -> Reduction:
        # a pixel of weight zero must not decide which others are kept, so `_arguments` needs the weight
        given = target if weight is None else _Weighted(target, weight)
        return super()._evaluate(pred, given, weight, *args, **kwargs)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        ignored = None
        if isinstance(target, _Weighted):
            target, weight = target
            ignored = self._map_weight(checks.tensor("weight", weight), checks.tensor("pred", pred), target) == 0
        group = SyncGroup(self.process_group) if self._synchronises() else None
        return pred, target, {**options, "ignored": ignored, "group": group}


class OHEMCrossEntropyLoss(_HardPixelLoss):
    r"""Cross-entropy of the hard pixels: those whose true class has a low probability, and at least K of them.

    .. math::
        l_i = -\log p_{y_i}, \qquad
        H = \{ i : l_i > -\log t \} \ \text{ if at least } K, \text{ else } \{ i : l_i \ge l_{(K)} \}

    .. math::
        \text{mean} = \frac{\sum_{i \in H} w_{y_i} l_i}{\sum_{i \in H} w_{y_i}}

    with :math:`l_{(K)}` the K-th largest loss of the batch, ties kept.

    Use when: few hard pixels are lost among many easy ones: street scenes, thin structures.

    Args:
        thresh: t, the probability of the true class below which a pixel is hard, in (0,1]; 1: every pixel is; None: the
            K hardest alone. Default: 0.7.
        min_kept: K, an int ≥ 1, or a float in (0,1] for that share of the pixels that are not ignored. With fewer than
            K pixels in a call, all are kept. Default: 100000.
        ignore_index: label of the pixels that are ignored and get no gradient. Default: 255. May also be given per
            call, also as None: nothing is ignored.
        class_weight: list or tensor of C weights ≥ 0; mining uses the loss without it. Default: none.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,C,*S), C ≥ 2; (N,C) as well.
        - target: integer (N,*S) or (N,1,*S), in [0,C) or ``ignore_index``; or probabilities (N,C,*S).
        - weight: (N,) or (N,*S). A pixel of weight zero is not mined.

    Returns:
        0-d for ``mean`` (the denominator of cross-entropy over the kept pixels) and ``sum``, (N,*S) for ``none``.

    Raises:
        InputError: a shape or a dtype that does not fit; on the CPU, a label outside [0,C) that is not
            ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = OHEMCrossEntropyLoss(thresh=0.7, min_kept=1, reduction="none")
        >>> loss(torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 0]))
        tensor([0.0000, 0.4741, 2.1269])

    References:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
        arXiv 1604.03540.

    Notes:
        When everything is kept it equals ``CrossEntropyLoss``. The K-th largest loss is found with static shapes and
        masks, where well-known implementations index by a mask and give NaN for an empty one.
    """

    example = examples.PIXELS
    class_axis = 1
    function = ohem_cross_entropy_loss

    def __init__(
        self,
        thresh: float | None = 0.7,
        min_kept: int | float = 100000,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(thresh, min_kept, ignore_index, **options)
        self._set_vector("class_weight", class_weight)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Any) -> Tensor:
        n, *spatial = pixel_shape(pred)
        checks.shape("weight", weight, (n,), (n, *spatial), (n, 1, *spatial), reference=f"pred {tuple(pred.shape)}")
        if weight.shape == (n,):
            return weight.reshape(n, *(1 for _ in spatial)).expand(n, *spatial)
        return weight.reshape(n, *spatial)


class OHEMBinaryLoss(_HardPixelLoss):
    r"""Binary cross-entropy of the hard elements: those whose true class is unlikely, and at least K of them.

    .. math::
        l_i = -\left[ y_i \log \sigma(x_i) + (1-y_i) \log(1-\sigma(x_i)) \right]

    .. math::
        H = \{ i : l_i > -\log t \} \ \text{ if at least } K, \text{ else } \{ i : l_i \ge l_{(K)} \}

    with :math:`l_{(K)}` the K-th largest loss of the batch, ties kept; mean: :math:`\sum_H l_i / |H|`.

    Use when: one structure against the rest, or several labels per pixel, with few hard pixels among many easy ones.

    Args:
        thresh: t, the probability of the true class below which an element is hard, in (0,1]; 1: every element is;
            None: the K hardest alone. Default: 0.7.
        min_kept: K, an int ≥ 1, or a float in (0,1] for that share of the elements that are not ignored. With fewer
            than K elements in a call, all are kept. Default: 100000.
        ignore_index: value of the elements that are ignored and get no gradient. Default: 255. May also be given per
            call, also as None: nothing is ignored.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (N,1,*S), (N,*S), or (N,C,*S) for several labels.
        - target: of the shape of pred, or (N,*S) for pred (N,1,*S): 0, 1 and ``ignore_index``, or soft.
        - weight: (N,), (N,*S), or of the shape of pred. An element of weight zero is not mined.

    Returns:
        0-d for ``mean`` (over the kept elements) and ``sum``; for ``none`` (N,*S), or (N,C,*S) for several labels.

    Raises:
        InputError: a shape that does not fit; on the CPU, a target outside [0,1] that is not ``ignore_index``.
        ConfigError: an option outside its range.

    Example:
        >>> import torch
        >>> loss = OHEMBinaryLoss(min_kept=1, reduction="none")
        >>> loss(torch.tensor([[3.0, 0.5, -2.0]]), torch.tensor([[1, 1, 1]]))
        tensor([[0.0000, 0.4741, 2.1269]])

    References:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
        arXiv 1604.03540.

    Notes:
        When everything is kept it equals ``BinaryCrossEntropyLoss``.
    """

    example = examples.MASKS
    function = ohem_binary_loss

    def __init__(
        self,
        thresh: float | None = 0.7,
        min_kept: int | float = 100000,
        ignore_index: int = 255,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(thresh, min_kept, ignore_index, **options)

    def _map_weight(self, weight: Tensor, pred: Tensor, target: Any) -> Tensor:
        shape = binary_shape(pred)
        n, *rest = shape
        pixels = (n, *rest[1:])
        checks.shape("weight", weight, (n,), pixels, shape, tuple(pred.shape), reference=f"pred {tuple(pred.shape)}")
        if weight.shape in (shape, pred.shape):
            return weight.reshape(shape)
        if weight.shape == (n,):
            return weight.reshape(n, *(1 for _ in rest)).expand(shape)
        return weight.unsqueeze(1).expand(shape)
