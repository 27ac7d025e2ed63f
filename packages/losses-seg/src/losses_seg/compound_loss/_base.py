"""What the compound losses share: their options, and a reduction of two terms with a normalizer each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

from torch import Tensor

from losses_core import CommonOptions
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks
from losses_core.utils.weight_reduce import Reduction
from losses_seg._sync import BatchReducedLoss, SyncGroup
from losses_seg._targets import check_classes


class CompoundOptions(CommonOptions, total=False):
    """The options of `CompoundLoss` (``**options: Unpack[CompoundOptions]``)."""

    smooth: float
    exponent: float
    naive_dice: bool
    ignore_index: int
    class_weight: Sequence[float] | Tensor | None
    per_image: bool
    classes: str | Sequence[int]
    include_background: bool
    reduction: str


class CompoundLoss(BatchReducedLoss):
    """A Dice loss and a loss of pixels, from one activation and one mask."""

    reductions = ("mean", "sum")
    coupled = "batch"  # two normalizers
    losses: ClassVar[str]
    """The two losses, for errors."""

    def __init__(
        self,
        smooth: float = 1.0,
        exponent: float = 2,
        naive_dice: bool = False,
        ignore_index: int = 255,
        class_weight: Sequence[float] | Tensor | None = None,
        per_image: bool = True,
        classes: str | Sequence[int] = "all",
        include_background: bool = True,
        reduction: str = "mean",
        **options: Unpack[CommonOptions],
    ) -> None:
        if reduction == "none":
            raise ConfigError(f"{type(self).__name__}: {self._no_single_value()}")
        super().__init__(reduction=reduction, **options)
        if self.avg_factor is not None:
            raise ConfigError(f"{type(self).__name__}: {self._two_normalizers()}")
        self.smooth = checks.number(self, "smooth", smooth, low=0)
        self.exponent = checks.number(self, "exponent", exponent, low=1)
        self.naive_dice = checks.flag(self, "naive_dice", naive_dice)
        self.ignore_index = checks.number(self, "ignore_index", ignore_index, integer=True)
        self._set_vector("class_weight", class_weight)
        self.per_image = checks.flag(self, "per_image", per_image)
        self.classes = check_classes(self, classes)
        self.include_background = checks.flag(self, "include_background", include_background)

    def _no_single_value(self) -> str:
        return (
            f"reduction='none' is not possible, as {self.losses} have different shapes; use 'mean' or 'sum', or a "
            f"CombinedLoss of {self.losses}."
        )

    def _two_normalizers(self) -> str:
        return f"takes no avg_factor, as its terms have a normalizer each; use a CombinedLoss of {self.losses}."

    def _sync_group(self) -> SyncGroup | None:
        return SyncGroup(self.process_group) if self._synchronises() else None

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        exponent = 1 if self.naive_dice else self.exponent
        return super()._arguments(pred, target, {**options, "exponent": exponent})

    def _evaluate(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        **kwargs: Any,
    ) -> Reduction:
        fault = self._two_normalizers() if avg_factor is not None else ""
        fault = self._no_single_value() if reduction_override == "none" else fault
        if fault:
            error = InputError(fault)
            error.where = type(self).__name__
            raise error
        return super()._evaluate(pred, target, weight, None, reduction_override, **kwargs)

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        keywords: dict[str, Any],
        scale: float | None,
    ) -> Reduction:
        # the function divides each term by its normalizer, so what is left to do is to add up
        keywords = {**keywords, "reduction": keywords.get("reduction", reduction)}
        return super()._evaluate_function(pred, target, weight, "sum", None, keywords, scale)
