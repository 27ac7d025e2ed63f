"""Fine-grained distributions of box sides (Peng et al., D-FINE, ICLR 2025, arXiv 2410.13842)."""

from __future__ import annotations

from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_det.fine_grained.bins import check_bins, distance_to_bins


def sides_of_bins(pred: Any, reg_max: int) -> tuple[Tensor, tuple[int, ...]]:
    """Logits (…,R+1) or (…,4(R+1)) as (…,R+1), and the shape of their distances."""
    checks.tensor("pred", pred)
    bins, shape = reg_max + 1, tuple(pred.shape)
    if not shape or shape[-1] not in (bins, 4 * bins):
        raise InputError(
            f"expected pred of shape (…, {bins}) or (…, {4 * bins}) for reg_max={reg_max}, which has reg_max + 1 bins; "
            f"got {shape}."
        )
    sides = shape[:-1] if shape[-1] == bins else (*shape[:-1], 4)
    return pred.reshape(*sides, bins), sides


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    check_bins(options["reg_max"], options["up"], options["reg_scale"])
    logits, sides = sides_of_bins(pred, options["reg_max"])
    checks.shape("target", checks.tensor("target", target), sides, reference=f"pred {tuple(pred.shape)}")
    return logits, target if target.is_floating_point() else target.to(pred.dtype), options


def two_bins(distance: Tensor, reg_max: int, up: float, reg_scale: float) -> tuple[Tensor, Tensor]:
    """The two bins around each distance, (…,2), and the share of each."""
    index, right, left = distance_to_bins(distance, reg_max, up, reg_scale)
    return torch.stack((index, index + 1), -1), torch.stack((left, right), -1)


@definition(layout="last", prepare=_prepare)
def fine_grained_localization_loss(
    pred: Tensor, target: Tensor, *, reg_max: int = 32, up: float = 0.5, reg_scale: float = 4.0
) -> Tensor:
    """Cross-entropy against the two bins around each distance, unreduced: see `FineGrainedLocalizationLoss`.

    Args:
        pred: logits (…,R+1), or (…,4(R+1)) for four sides at once.
        target: distances (…), or (…,4) for four sides.
        reg_max: number R of the last bin, even.
        up: half of the largest distance, in units of ``reg_scale``, > 0.
        reg_scale: unit of distances > 0.

    Returns:
        The shape of ``target``.
    """
    index, share = two_bins(target, reg_max, up, reg_scale)
    return -(F.log_softmax(pred, -1).gather(-1, index) * share).sum(-1)


def _bell(distance: float) -> Any:
    def at(loss: Any, t: Tensor) -> examples.Inputs:
        """A bell around the bin t, and a target distance."""
        logits = -((torch.arange(loss.reg_max + 1) - t) ** 2)[None] / 2
        return examples.Inputs(logits, torch.tensor([distance], dtype=torch.float64))

    return at


BELLS = examples.Path(
    "centre of the predicted distribution, in bins",
    "the centre",
    (0, 32),
    {f"distance {distance:g}": _bell(distance) for distance in (-1.0, 0.1, 2.5)},
)


def _draw(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Logits of bins, and distances that most of the bins hold."""
    logits, sides = sides_of_bins(draw.normal(draw.pred), loss.reg_max)
    largest = 2 * loss.up * loss.reg_scale
    return examples.Inputs(logits, largest * (2 * draw.uniform(draw.target or sides) - 1))


class FineGrainedLocalizationLoss(BaseLoss):
    r"""Fine-grained localization loss ("FGL"): the distance of a box side as a distribution over uneven bins.

    With :math:`W_i \le d \le W_{i+1}` the bins around a distance, dense around 0 and sparse far away
    (`losses_det.functional.weighting_function`),

    .. math::
        l = -\frac{W_{i+1} - d}{W_{i+1} - W_i} \ln S_i - \frac{d - W_i}{W_{i+1} - W_i} \ln S_{i+1},
        \qquad S = \operatorname{softmax}(x)

    Use when: a transformer detector refines distributions of box sides layer by layer, as D-FINE and its successors.

    Args:
        reg_max: number R of the last bin, even; there are R + 1 bins. Default: 32.
        up: half of the largest distance, in units of ``reg_scale``, > 0. Default: 0.5.
        reg_scale: unit of distances > 0. Default: 4.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: logits (…,R+1); or (N,4(R+1)), the bins of one side after those of the other.
        - target: distances (…), or (N,4), as `losses_det.functional.box_to_distance` gives them. Those beyond
          ±2 up reg_scale are clamped (not in place).
        - weight: the shape of target or a leading-dims prefix of it.

    Returns:
        0-d for ``mean`` (Σ l / number of distances, or ``avg_factor``) and ``sum``, the shape of target for ``none``.

    Raises:
        InputError: a last axis that is neither of the two, unequal shapes.
        ConfigError: an option outside its range, an odd ``reg_max``.

    Example:
        >>> import torch
        >>> loss = FineGrainedLocalizationLoss(reg_max=4, reduction="none")
        >>> loss(torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]]), torch.tensor([0.5]))
        tensor([0.8780])

    References:
        Peng et al., D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement, ICLR 2025, arXiv
        2410.13842.

    Notes:
        Equals the authors' code. Its normalizer is ``weight=iou`` (N,) with ``avg_factor=num_boxes``. The loss is exact
        at every bin, at both ends and beyond them.
    """

    function = fine_grained_localization_loss
    example = examples.Example(_draw, (8, 33), BELLS, lambda loss: loss.reg_max + 1)

    def __init__(
        self, reg_max: int = 32, up: float = 0.5, reg_scale: float = 4.0, **options: Unpack[LossOptions]
    ) -> None:
        super().__init__(**options)
        self.reg_max = check_even(self, reg_max)
        self.up = checks.number(self, "up", up, above=0)
        self.reg_scale = checks.number(self, "reg_scale", reg_scale, above=0)

    def _stand_in(self, target: Any, num_classes: int | None) -> Tensor:
        return self._zeros((*target.shape, self.reg_max + 1), target)


def check_even(owner: BaseLoss, reg_max: int) -> int:
    """Check a constructor's ``reg_max`` and return it."""
    checks.number(owner, "reg_max", reg_max, low=2, integer=True)
    if reg_max % 2:
        raise ConfigError(f"{type(owner).__name__}: reg_max: expected an even integer; got {reg_max}.")
    return reg_max
