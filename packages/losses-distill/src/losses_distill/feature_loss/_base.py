"""What the elementwise feature losses share: sizes, the adapter, token and foreground masks."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Unpack

import torch.nn.functional as F
from torch import Tensor

from losses_core import BaseLoss, InputError, LossOptions, examples
from losses_core.utils import checks, host
from losses_core.utils.autograd import hide_gradient
from losses_core.utils.summed import Summed
from losses_distill._adapter import channel_axis, check_channels, make_adapter
from losses_distill._inputs import teacher_of

RESIZE = (None, "min")
_POOL: dict[int, Callable[[Tensor, Any], Tensor]] = {
    3: F.adaptive_avg_pool1d,
    4: F.adaptive_avg_pool2d,
    5: F.adaptive_avg_pool3d,
}


class Weighted(NamedTuple):
    """The student's features and the weight of the call, mapped to the shape of the loss."""

    features: Tensor
    weight: Tensor


def spatial(features: Tensor) -> tuple[int, ...]:
    """The sizes of all axes but batch and channels."""
    return tuple(features.shape[1:2] if features.ndim == 3 else features.shape[2:])


def pooled_sizes(pred: Tensor, target: Tensor, resize: str | None) -> tuple[int, ...]:
    """The common spatial sizes, or an error that names ``resize``."""
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


def pooled(features: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Average-pool the features to these spatial sizes; nothing is done where they have them."""
    if spatial(features) == sizes:
        return features
    if features.ndim == 3:
        return _POOL[3](features.mT, list(sizes)).mT
    return _POOL[features.ndim](features, list(sizes))


def check_same_channels(pred: Tensor, target: Tensor) -> None:
    """Refuse features whose channels differ, naming the parameters of the adapter."""
    if pred.shape != target.shape:
        axis = channel_axis(pred)
        ours, theirs = pred.shape[axis], target.shape[axis]
        raise InputError(
            f"expected target with the {ours} channels of pred {tuple(pred.shape)}; got {tuple(target.shape)}. "
            f"student_channels={ours}, teacher_channels={theirs} adds a learnable adapter to the loss."
        )


def check_given_channels(name: str, features: Tensor, given: int | None) -> None:
    """Refuse features whose channels are not those the loss was built for."""
    if given is not None and features.shape[channel_axis(features)] != given:
        which = "pred" if name == "student_channels" else "target"
        raise InputError(f"expected {which} with {given} channels, by {name}={given}; got {tuple(features.shape)}.")


class FeatureLoss(BaseLoss):
    """A distance between features, element by element or location by location."""

    example = examples.FEATURES
    per_element = True
    """Whether the loss has the shape of the features, or that without the channels."""

    def __init__(
        self,
        normalize: bool = False,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        resize: str | None = None,
        eps: float = 1e-6,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.normalize = checks.flag(self, "normalize", normalize)
        check_channels(self, student_channels, teacher_channels)
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.resize = checks.choice(self, "resize", resize, RESIZE)
        self.eps = checks.number(self, "eps", eps, above=0)
        self.adapter = make_adapter(student_channels, teacher_channels)

    @abc.abstractmethod
    def _distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """The unreduced distance of features of one shape."""

    @abc.abstractmethod
    def _summed_distance(self, pred: Tensor, target: Tensor, scale: float) -> Tensor:
        """``scale`` times its sum, on the host."""

    def _loss_shape(self, pred: Tensor, target: Tensor) -> tuple[int, ...]:
        sizes = pooled_sizes(pred, target, self.resize)
        if not self.per_element:
            return (pred.shape[0], *sizes)
        channels = target.shape[channel_axis(target)]
        return (pred.shape[0], *sizes, channels) if pred.ndim == 3 else (pred.shape[0], channels, *sizes)

    def _map_weight(self, weight: Tensor, pred: Any, target: Any) -> Tensor:
        """(N,), (N,L), (N,*S), (N,1,*S) or the loss's own shape, to a weight that the base class takes."""
        pred, target = checks.tensor("pred", pred), checks.tensor("target", target)
        shape = self._loss_shape(pred, target)
        locations = (pred.shape[0], *pooled_sizes(pred, target, self.resize))
        allowed = [(pred.shape[0],), locations, shape]
        if pred.ndim > 3:
            allowed.insert(2, (pred.shape[0], 1, *locations[1:]))
        checks.shape("weight", weight, *allowed, reference=f"a loss of shape {shape}")
        if pred.ndim <= 3 or weight.ndim == 1:
            return weight  # leading dims of the loss already
        if weight.shape == locations:
            weight = weight.unsqueeze(1)
        return weight.expand(shape) if self.per_element else weight.squeeze(1)

    def _hide(self, pred: Any, weight: Tensor) -> Any:
        # what a weight of zero hides can be told after pooling only, so the weight goes along with the features
        return Weighted(pred, weight)

    def _forward(self, pred: Tensor | Weighted, target: Tensor) -> Tensor | Summed:
        given, weight = pred if isinstance(pred, Weighted) else (pred, None)
        return self._of_features(checks.tensor("pred", given), target, weight)

    def _of_features(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> Tensor | Summed:
        target = teacher_of(target, pred)
        sizes = pooled_sizes(pred, target, self.resize)
        check_given_channels("student_channels", pred, self.student_channels)
        check_given_channels("teacher_channels", target, self.teacher_channels)
        pred, target = pooled(pred, sizes), pooled(target, sizes)
        axis = channel_axis(pred)
        hidden = None if weight is None else self._hidden(weight, pred)
        if self.adapter is not None:
            if hidden is not None:
                # in the features themselves too: a NaN times a gradient of zero would reach the adapter's parameters
                pred = pred.masked_fill(hidden.all(axis, keepdim=True), 0)
            pred = self.adapter(pred)
        check_same_channels(pred, target)
        if hidden is not None:
            pred = hide_gradient(pred, hidden)
        elif host.on_host(pred, target):
            number = pred.numel() // (1 if self.per_element else max(pred.shape[axis], 1))
            distance, summed = (partial(way, pred, target) for way in (self._distance, self._summed_distance))
            return Summed(pred, distance, summed, number)
        return self._distance(pred, target)

    def _hidden(self, weight: Tensor, pred: Tensor) -> Tensor:
        """Where the weight is zero, with an axis for the channels."""
        hidden = weight == 0
        if not self.per_element and pred.ndim > 3 and hidden.ndim > 1:
            return hidden.unsqueeze(1)
        return hidden.reshape(hidden.shape + (1,) * (pred.ndim - hidden.ndim))
