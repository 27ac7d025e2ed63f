"""The denominator of ``mean`` before there is a prediction, from the target alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from losses_core._definitions import Definition
from losses_core._evaluation import Evaluation
from losses_core._reduce import total_normalizer
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.precision import first_tensor
from losses_core.utils.value_checks import values_are_checked
from losses_core.utils.weight_reduce import Unreduced


class Normalizers(dict[str, Any]):
    """Label → normalizer; they add up label by label, so that `sum` works as for one loss.

    Example:
        >>> Normalizers(ce=3, box=1) + Normalizers(ce=2, box=4)
        {'ce': 5, 'box': 5}
    """

    def __add__(self, other: Mapping[str, Any]) -> Normalizers:
        if other.keys() != self.keys():
            return NotImplemented
        return Normalizers({label: value + other[label] for label, value in self.items()})

    def __radd__(self, other: Any) -> Normalizers:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # where sum() starts


class NormalizerOfTarget(Evaluation):
    """The part of `losses_core.BaseLoss` that finds a normalizer without a prediction.

    Its normalizer is asked for a prediction of zeros that holds one number in memory, whatever its shape.
    """

    def normalizer(
        self, target: Any, weight: Tensor | None = None, *, num_classes: int | None = None, **kwargs: Any
    ) -> Tensor:
        """Compute what ``mean`` divides by, from the target alone, before the forward.

        Summed over micro-batches and passed as ``avg_factor``, it makes accumulated gradients those of the whole
        batch. With ``sync_dist`` it is the share of this rank, as ``avg_factor`` is: the loss adds up the ranks.

        Args:
            target: as for the loss.
            weight: sample weights, as for the loss; they count where a loss divides by their sum.
            num_classes: C, for a target of class indices; needed where the loss counts classes, as Dice does, and has
                no option that tells their number.
            **kwargs: keywords of the loss.

        Returns:
            0-d, on the target's device, without waiting for it: a number of elements as int64, or a sum of weights. 0
            where everything is ignored. An ``avg_factor`` of the constructor does not enter.

        Raises:
            InputError: a loss whose rows depend on those of other micro-batches; a target that does not determine the
                number of classes.

        Notes:
            An integer target holds class indices where the loss takes them. Give a multi-hot one as floating.

        Example:
            >>> import torch
            >>> from losses_core import BaseLoss
            >>> class AbsoluteLoss(BaseLoss):
            ...     def _forward(self, pred, target):
            ...         return (pred - target).abs()
            >>> loss, target = AbsoluteLoss(), torch.zeros(5, 2)
            >>> total = sum(loss.normalizer(part) for part in target.split(3))
            >>> pred = torch.ones(5, 2)
            >>> sum(loss(x, y, avg_factor=total) for x, y in zip(pred.split(3), target.split(3)))
            tensor(1.)
        """
        try:
            if getattr(self, "coupled", None) == "batch":
                raise InputError(
                    "expected a loss that is a sum over rows or images divided by one normalizer: this one is computed "
                    "of the batch as a whole, so micro-batches do not add up to it."
                )
            keywords = self._keywords(kwargs)
            first = first_tensor(target)
            first = checks.tensor("target", target if first is None else first)
            if num_classes is not None:
                checks.number(self, "num_classes", num_classes, low=1, integer=True)
            with torch.no_grad():
                total = self._normalizer(target, weight, num_classes, keywords)
            if isinstance(total, Tensor):
                return total.detach()
            return torch.full((), total, dtype=torch.int64, device=first.device)
        except InputError as error:
            error.where = type(self).__name__
            raise

    def _normalizer(
        self, target: Any, weight: Tensor | None, num_classes: int | None, keywords: dict[str, Any]
    ) -> Tensor | int:
        """The normalizer, where the keywords are complete."""
        pred = self._stand_in(target, num_classes)
        first: Any = first_tensor(pred)
        if self._definition is None:
            return _of_value(self._forward(pred, target, **keywords))
        pred, target, options = self._arguments(pred, target, self._options(first, keywords))
        if not self._definition.delegates:
            self._check_classes(self._definition, first, target, num_classes)
        call = self._definition.bind(pred, target, options)
        declared = call.definition
        if self.reduction == "batchmean":
            return int(first.shape[0])
        self._check_classes(declared, first, target, num_classes)
        if declared.normalizer is None and declared.denominator is None and declared.layout in ("batch", "whole"):
            return _of_value(call.body())
        return total_normalizer(call)  # type: ignore[return-value]  # a whole number

    def _check_classes(self, declared: Definition, pred: Tensor, target: Any, num_classes: int | None) -> None:
        """Refuse a guessed number of classes where it matters."""
        if pred.ndim > 1 and self._known_classes(num_classes) is None and declared.layout not in ("classes", "last"):
            first: Any = first_tensor(target)
            if first.shape != pred.shape and not first.is_floating_point():
                raise InputError(
                    "class indices do not tell the number of classes, which this loss counts: give num_classes=, or a "
                    "floating target of the shape of pred."
                )

    def _stand_in(self, target: Any, num_classes: int | None) -> Any:
        """Zeros of the shape of a prediction for this target."""
        if self.pred_may_be_list and isinstance(target, (list, tuple)):
            return [self._stand_in(part, num_classes) for part in target]
        first: Any = first_tensor(target)
        shape = list(first.shape)
        layout = (self._definition or self._by_forward()).layout
        if first.is_floating_point():
            if layout == "classes" and first.ndim == 1:  # as a column (N,1)
                shape.append(1)
        elif layout in ("classes", "last", "batch", "whole") or (self._definition is None and num_classes is not None):
            shape.insert(1 if layout != "last" else len(shape), self._classes(first, num_classes))
        return self._zeros(shape, first)

    def _known_classes(self, num_classes: int | None) -> int | None:
        """The number of classes, as given or as an option of this loss tells it."""
        if num_classes is None:
            num_classes = getattr(self, "num_classes", None)
        for name in () if num_classes is not None else self._vectors:
            num_classes = len(getattr(self, name))
        return num_classes

    def _classes(self, labels: Tensor, num_classes: int | None) -> int:
        """The number of classes; where it is not known, one that holds all labels, if their values are looked at."""
        known = self._known_classes(num_classes)
        if known is not None:
            return known
        return max(2, int(labels.max()) + 1) if values_are_checked(labels) and labels.numel() else 2

    @staticmethod
    def _zeros(shape: Sequence[int], target: Tensor) -> Tensor:
        """Zeros of any shape that take the memory of one number, of the precision of ``target``."""
        dtype = torch.float64 if target.dtype == torch.float64 else torch.float32
        return torch.zeros((), dtype=dtype, device=target.device).expand(*shape)


def _of_value(value: Any) -> Tensor | int:
    normalizer, tensor = (value.normalizer, value.value) if isinstance(value, Unreduced) else (None, value)
    if normalizer is None:
        return int(tensor.numel())
    return normalizer.expand_as(tensor).sum()
