"""What the feature losses share: sizes, pooling, the adapter, token and foreground masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.utils import checks
from losses_core.utils.precision import match_dtype, upcast
from losses_distill._adapter import channel_axis, check_channels, make_adapter
from losses_distill._inputs import prepare_teacher

RESIZE = (None, "min")
_POOL: dict[int, Callable[[Tensor, Any], Tensor]] = {
    3: F.adaptive_avg_pool1d,
    4: F.adaptive_avg_pool2d,
    5: F.adaptive_avg_pool3d,
}


def spatial(features: Tensor) -> tuple[int, ...]:
    """The sizes of all axes but batch and channels."""
    return tuple(features.shape[1:2] if features.ndim == 3 else features.shape[2:])


def pooled_sizes(pred: Tensor, target: Tensor, resize: str | None) -> tuple[int, ...]:
    """The common spatial sizes.

    Raises:
        InputError: batches or dims that differ; sizes that differ without ``resize``, which the text names.
    """
    if pred.ndim != target.ndim or pred.shape[:1] != target.shape[:1] or not 2 <= pred.ndim <= 5:
        raise InputError(
            "expected pred and target of one batch and one number of dims, (N, D), (N, L, C) or (N, C, *S); "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    ours, theirs = spatial(pred), spatial(target)
    if ours != theirs and resize is None:
        raise InputError(
            f"expected target with the spatial sizes {ours} of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            "resize='min' pools both to the smaller size."
        )
    return tuple(map(min, ours, theirs))


def _pooled(features: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Average-pool the features to these spatial sizes, in full precision; nothing is done where they have them."""
    if spatial(features) == sizes:
        return features
    features = upcast(features)
    if features.ndim == 3:
        return _POOL[3](features.mT, list(sizes)).mT
    return _POOL[features.ndim](features, list(sizes))


def same_size(pred: Any, target: Any, resize: str | None) -> tuple[Tensor, Tensor]:
    """The features of a student, and those of its teacher without a graph, pooled to one size."""
    pred = checks.tensor("pred", pred)
    target = prepare_teacher(target)
    sizes = pooled_sizes(pred, target, resize)
    return _pooled(pred, sizes), _pooled(target, sizes)


def prepare(pred: Any, target: Any, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Bring student and teacher to one size, and check that their channels agree."""
    pred, target = same_size(pred, target, options["resize"])
    if pred.shape != target.shape:
        axis = channel_axis(pred)
        ours, theirs = pred.shape[axis], target.shape[axis]
        raise InputError(
            f"expected target with the {ours} channels of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            f"student_channels={ours}, teacher_channels={theirs} adds a learnable adapter to the loss."
        )
    return pred, target, options


def check_given_channels(name: str, features: Tensor, given: int | None) -> None:
    """Check that the features have the channels that the loss was built for."""
    if given is not None and features.shape[channel_axis(features)] != given:
        which = "pred" if name == "student_channels" else "target"
        raise InputError(f"expected {which} with {given} channels, by {name}={given}; got {tuple(features.shape)}.")


class AdaptedFeatureLoss(BaseLoss):
    """A loss of features with an adapter, pooling, and weights of locations or elements."""

    example = examples.FEATURES
    per_element = True
    """Whether the loss has the shape of the features, or that without the channels."""

    def __init__(
        self,
        student_channels: int | None,
        teacher_channels: int | None,
        resize: str | None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        check_channels(self, student_channels, teacher_channels)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.resize = checks.choice(self, "resize", resize, RESIZE)
        self.adapter = make_adapter(student_channels, teacher_channels)

    def _stand_in(self, target: Tensor, num_classes: int | None) -> Tensor:
        shape = list(target.shape)
        if self.student_channels is not None:
            shape[channel_axis(target)] = self.student_channels
        return self._zeros(shape, target)

    def _arguments(self, pred: Any, target: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Apply the adapter, in full precision and after pooling."""
        if self.student_channels is not None:
            pred, target = same_size(pred, target, self.resize)
            check_given_channels("student_channels", pred, self.student_channels)
            check_given_channels("teacher_channels", target, self.teacher_channels)
        if self.adapter is not None:
            pred = self.adapter(upcast(pred))
            target = match_dtype(target, pred.dtype)
        return pred, target, options

    def _evaluate_function(self, pred: Any, target: Any, weight: Tensor | None, *others: Any, **named: Any) -> Any:
        if self.adapter is not None and weight is not None:
            # a NaN at a location of weight 0, times its gradient of 0, would reach the parameters of the adapter
            pred, target = same_size(pred, target, self.resize)
            pred = pred.masked_fill(self._masked_locations(checks.tensor("weight", weight), pred, target), 0)
        return super()._evaluate_function(pred, target, weight, *others, **named)

    def _masked_locations(self, weight: Tensor, pred: Tensor, target: Tensor) -> Tensor:
        """Where the weight is 0 for all channels, so that it broadcasts over the features."""
        masked = self._map_weight(weight, pred, target) == 0
        axis = channel_axis(pred)
        if masked.ndim == pred.ndim:
            return masked.all(axis, keepdim=True)
        if masked.ndim > 1:
            return masked.unsqueeze(axis)
        return masked.reshape(-1, *(1,) * (pred.ndim - 1))

    def _shapes(self, pred: Tensor, target: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape of the locations, and that of the loss."""
        locations = (pred.shape[0], *pooled_sizes(pred, target, self.resize))
        if not self.per_element:
            return locations, locations
        channels = target.shape[channel_axis(target)]
        return locations, (*locations, channels) if pred.ndim == 3 else (pred.shape[0], channels, *locations[1:])

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        """(N,), (N,L), (N,*S), (N,1,*S) or the loss's own shape, to a weight that the base class takes."""
        locations, shape = self._shapes(pred, target)
        allowed = [(pred.shape[0],), locations, shape]
        if pred.ndim > 3:
            allowed.insert(2, (pred.shape[0], 1, *locations[1:]))
        checks.shape("weight", weight, *allowed, reference=f"a loss of shape {shape}")
        if pred.ndim <= 3 or weight.ndim == 1:
            return weight  # leading dims of the loss already
        if weight.shape == locations:
            weight = weight.unsqueeze(1)
        return weight.expand(shape) if self.per_element else weight.squeeze(1)


class FeatureLoss(AdaptedFeatureLoss):
    """A distance between features, of each element or of each location."""

    def __init__(
        self,
        normalize: bool = False,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        resize: str | None = None,
        eps: float = 1e-6,
        weighted_mean: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(student_channels, teacher_channels, resize, **options)
        self.normalize = checks.flag(self, "normalize", normalize)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.weighted_mean = checks.flag(self, "weighted_mean", weighted_mean)

    def _evaluate_function(
        self,
        pred: Any,
        target: Any,
        weight: Tensor | None,
        reduction: str,
        avg_factor: float | Tensor | None,
        *others: Any,
        **named: Any,
    ) -> Any:
        if self.weighted_mean and weight is not None and avg_factor is None and reduction == "mean":
            pred = checks.floating(pred)
            avg_factor = self._weight_of_elements(weight, pred, target)
        return super()._evaluate_function(pred, target, weight, reduction, avg_factor, *others, **named)

    def _stand_in(self, target: Tensor, num_classes: int | None) -> Tensor:
        if self.resize is not None and target.ndim > 2:
            raise InputError(
                f"expected resize=None, as the target does not tell to which size both are pooled; got {self.resize!r}."
            )
        return super()._stand_in(target, num_classes)

    def _normalizer(
        self, target: Any, weight: Tensor | None, num_classes: int | None, keywords: dict[str, Any]
    ) -> Tensor | int:
        if self.weighted_mean and weight is not None:
            return self._weight_of_elements(weight, self._stand_in(target, num_classes), target)
        return super()._normalizer(target, weight, num_classes, keywords)

    def _weight_of_elements(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        """Σ of the weights over the elements of the loss."""
        weight = checks.tensor("weight", weight)
        self._map_weight(weight, pred, target)  # which checks its shape
        locations, shape = self._shapes(pred, target)
        total = weight.to(torch.float64 if pred.dtype == torch.float64 else torch.float32).sum()
        if weight.ndim == 1:
            return total * math.prod(shape[1:])
        axis = channel_axis(pred)
        per_location = weight.ndim == len(locations) or weight.shape[axis] != shape[axis]
        return total * shape[axis] if self.per_element and per_location else total
