"""`LayeredLoss`: one criterion over the predictions of several layers or scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core._options import check_weight, number_of, weight_for
from losses_core._routing import Evaluated, evaluate
from losses_core._suggest import shown
from losses_core._terms import LossTerms
from losses_core._wrappers import Wrapper, as_loss
from losses_core.combined import CombinedLoss, check_member
from losses_core.distributed import compute_all
from losses_core.errors import ConfigError, InputError
from losses_core.utils import checks

WEIGHTS = ("equal", "exp")
RESIZE = ("nearest", "area", None)


class LayeredLoss(Wrapper):
    r"""The weighted sum of one loss over a list of predictions: decoder layers, or the scales of deep supervision.

    .. math::
        L = w \sum_i w_i \, \ell(x_i, y_i)

    with the prediction :math:`x_i` of layer i, the target :math:`y_i` at its size, and the ``loss_weight`` w.

    Use when: every layer of a detection transformer's decoder is trained on the same matches, or a segmentation network
    is supervised at several scales.

    Args:
        loss: a loss, a combination, or the config of either.
        weights: of the layers. ``'equal'``: 1 each. ``'exp'``: 2^-i / Σ 2^-j, where the first prediction is the finest.
            A list: one number for each layer; a layer of weight 0 is not computed. Default: ``'equal'``.
        resize: how a target of another size is brought to that of an image-like prediction (N,C,H,W) or (N,C,D,H,W):
            ``'nearest'``, as torch's mode, which keeps the labels; ``'area'``, the average, for floating-point targets;
            None: an error. Default: ``'nearest'``.
        loss_weight: multiplies every term; an attribute, as that of any loss. Default: 1.

    Shape:
        - preds: a list or tuple of L predictions, as the loss takes them, or one tensor (L,…).
        - target: as the loss takes it, for all layers, a tuple of tensors too; or a list of L, which are not resized.
        - weight, avg_factor: for all layers, or a list of L. A weight of the size of the target is resized with it, by
          the nearest.

    Returns:
        A scalar.

    Raises:
        ConfigError: an option outside its range, or a loss that gives no scalar.
        InputError: another number of weights or targets than predictions; a target of another size with
            ``resize=None``, or an integer one with ``'area'``; what the loss raises, with the layer.

    Example:
        >>> import torch
        >>> from losses_core import BaseLoss
        >>> class AbsoluteLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> criterion = LayeredLoss(AbsoluteLoss(), weights=[1.0, 0.5])
        >>> preds = [torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 2, 2), 3.0)]
        >>> criterion(preds, torch.zeros(1, 1, 4, 4))
        tensor(3.5000)
        >>> dict(criterion.terms(preds, torch.zeros(1, 1, 4, 4)))
        {'layer_0': tensor(2.), 'layer_1': tensor(1.5000)}
    """

    label = "layered"
    loss_name = "loss_layered"

    def __init__(
        self,
        loss: Any,
        weights: Literal["equal", "exp"] | Sequence[float] = "equal",
        resize: Literal["nearest", "area"] | None = "nearest",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss_weight = check_weight(self, loss_weight)
        if isinstance(weights, str):
            self.weights: str | list[float] = checks.choice(self, "weights", weights, WEIGHTS)
        else:
            self.weights = [checks.number(self, "weights", weight) for weight in weights]
            if not self.weights or not any(self.weights):
                raise ConfigError(f"LayeredLoss: weights: expected one that is not 0; got {shown(self.weights)}.")
        self.resize = checks.choice(self, "resize", resize, RESIZE)
        loss = as_loss(loss)
        check_member(loss)
        self.loss = loss

    def forward(
        self,
        preds: Any,
        target: Any,
        weight: Any = None,
        avg_factor: Any = None,
        reduction_override: str | None = None,
        **keywords: Any,
    ) -> Tensor:
        """Compute the weighted sum over the layers.

        Args:
            preds: of each layer.
            target: for all layers, or a list.
            weight: sample weights, for all layers, or a list.
            avg_factor: denominator of ``mean``, for all layers, or a list.
            reduction_override: reduction for this call.
            **keywords: keywords of the loss, for all layers.

        Returns:
            A scalar.
        """
        return self.terms(preds, target, weight, avg_factor, reduction_override, **keywords).total

    def terms(
        self,
        preds: Any,
        target: Any,
        weight: Any = None,
        avg_factor: Any = None,
        reduction_override: str | None = None,
        **keywords: Any,
    ) -> LossTerms:
        """The terms ``layer_0``, ``layer_1``, … and their sum; those of a combination are ``layer_0.dice``, ….

        Arguments as of `forward`.
        """
        layers = list(preds.unbind(0)) if isinstance(preds, Tensor) and preds.ndim else preds
        if not isinstance(layers, (list, tuple)) or not layers:
            kind = f"{type(preds).__name__} of length 0" if isinstance(preds, (list, tuple)) else type(preds).__name__
            raise InputError(f"preds: expected a list of predictions, or a tensor (L,…); got {kind}.", "LayeredLoss")
        factors = self._factors(len(layers))
        given = {
            name: _for_layers(name, value, len(layers))
            for name, value in (("target", target), ("weight", weight), ("avg_factor", avg_factor))
        }
        found, owners = [], []
        resized: dict[Any, Any] = {}
        for index, (pred, factor) in enumerate(zip(layers, factors, strict=True)):
            if factor == 0:
                continue
            call = {name: values[index] for name, values in given.items() if values[index] is not None}
            if not isinstance(target, list):
                self._fit(call, pred, resized, f"layer_{index}")
            if reduction_override is not None:
                call["reduction_override"] = reduction_override
            terms = self._evaluate({"pred": pred, **call, **keywords}, f"layer_{index}")
            found += terms
            owners += [factor] * len(terms)
        labels = [term.label for term in found]
        raw = dict(zip(labels, compute_all([term.part for term in found], labels), strict=True))
        weights = {}
        for term, factor in zip(found, owners, strict=True):
            value = raw[term.label]
            if value.ndim:
                raise InputError(
                    f"term {term.label!r}: reduction='none' gives shape {tuple(value.shape)} and a sum needs a scalar; "
                    "use 'mean' or 'sum'."
                )
            weights[term.label] = term.weight(value) * factor * weight_for(self.loss_weight, value)
        return LossTerms(raw, weights)

    def _factors(self, number: int) -> Sequence[float]:
        if isinstance(self.weights, list):
            if len(self.weights) != number:
                raise InputError(
                    f"preds: expected {len(self.weights)} predictions, one for each of the weights; got {number}.",
                    "LayeredLoss",
                )
            return self.weights
        if self.weights == "equal":
            return [1.0] * number
        powers = [0.5**index for index in range(number)]
        return [power / sum(powers) for power in powers]

    def _evaluate(self, call: dict[str, Any], label: str) -> list[Evaluated]:
        loss = self.loss
        if isinstance(loss, CombinedLoss):
            loss.check_keywords(call.keys() - {"pred", "target", "weight", "avg_factor", "reduction_override"})
            return loss._evaluate_all(call, call["pred"], f"{label}.")
        return [evaluate(loss, call, label)]

    def _fit(self, call: dict[str, Any], pred: Any, resized: dict[Any, Any], label: str) -> None:
        """Bring the target, and a weight of its size, to the size of an image-like prediction."""
        target = call.get("target")
        if not isinstance(pred, Tensor) or not isinstance(target, Tensor) or pred.ndim < 4:
            return
        size, own = pred.shape[2:], target.shape[-(pred.ndim - 2) :]
        if size == own or target.ndim not in (pred.ndim - 1, pred.ndim):
            return
        if self.resize is None:
            raise InputError(
                f"{label}: the prediction is of size {tuple(size)}, the target of {tuple(own)}; give LayeredLoss "
                "resize='nearest' or 'area', or a list of targets.",
                "LayeredLoss",
            )
        weight = call.get("weight")
        for name, tensor in (("target", target), ("weight", weight)):
            if isinstance(tensor, Tensor) and tensor.shape[-len(size) :] == own and tensor.ndim > len(size):
                key = (name, id(tensor), size)
                if key not in resized:
                    mode = self.resize if name == "target" else "nearest"
                    resized[key] = resize(tensor, size, mode)
                call[name] = resized[key]

    def to_config(self) -> dict[str, Any]:
        """The config from which `build_loss` builds this loss again."""
        config = {"type": type(self).__name__, "weights": self.weights, "resize": self.resize}
        loss_weight = number_of(self.loss_weight)
        return config | {"loss_weight": loss_weight, "loss": self.loss.to_config()}

    def extra_repr(self) -> str:
        return f"weights={self.weights!r}, resize={self.resize!r}"


def _for_layers(name: str, value: Any, number: int) -> Sequence[Any]:
    """One value for each layer; a tuple is one value, as a target of labels and scores is."""
    if not isinstance(value, list):
        return [value] * number
    if len(value) != number:
        raise InputError(f"{name}: expected one for all layers or a list of {number}; got {len(value)}.", "LayeredLoss")
    return value


def resize(tensor: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """A map of another size: (N,*S) or (N,C,*S), of any dtype with ``'nearest'``.

    Args:
        tensor: the map.
        size: of the last axes.
        mode: ``'nearest'``: element ⌊i · old / new⌋, as torch's mode of that name; ``'area'``: the average.

    Raises:
        InputError: an integer map with ``'area'``.
    """
    if mode == "nearest":
        for axis, new in enumerate(size, tensor.ndim - len(size)):
            old = tensor.shape[axis]
            tensor = tensor.index_select(axis, torch.arange(new, device=tensor.device) * old // new)
        return tensor
    if not tensor.is_floating_point():
        raise InputError(
            f"resize='area' averages, and the target holds {tensor.dtype}, which may be labels; use 'nearest', or a "
            "floating-point target.",
            "LayeredLoss",
        )
    flat = tensor.reshape(-1, 1, *tensor.shape[-len(size) :])
    return F.interpolate(flat, tuple(size), mode="area").reshape(*tensor.shape[: -len(size)], *size)
