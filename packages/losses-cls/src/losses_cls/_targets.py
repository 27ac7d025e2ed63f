"""What the classification losses share: target forms, masses, class weights along axis 1."""

from __future__ import annotations

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks


def is_index(pred: Tensor, target: Tensor) -> bool:
    """Whether ``target`` holds class indices (N,*S) for ``pred`` (N,C,*S), by shape; else probabilities."""
    checks.tensor("target", target)
    if target.shape == pred.shape[:1] + pred.shape[2:] and pred.ndim > 1:  # the usual case, without a detour
        return True
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (N, C, *S); got {tuple(pred.shape)}.")
    index_shape = (pred.shape[0], *pred.shape[2:])
    checks.shape("target", target, index_shape, tuple(pred.shape), reference=f"pred {tuple(pred.shape)}")
    return target.ndim == len(index_shape)


def index_normalizer(target: Tensor, ignore_index: int, class_weight: Tensor | None) -> Tensor:
    """Share of each label in the denominator of ``mean``: its class weight, 0 where ignored."""
    counted = target != ignore_index
    if class_weight is None:
        return counted
    return torch.where(counted, class_weight[target.where(counted, 0)], 0)


def along_classes(weight: Tensor, pred: Tensor) -> Tensor:
    """View a per-class vector so that it broadcasts along axis 1 of ``pred``; a 0-d tensor stays as it is."""
    if weight.ndim == 0 or pred.ndim < 2:
        return weight
    return weight.reshape(-1, *(1 for _ in pred.shape[2:]))


def per_class(weight: Tensor | None, pred: Tensor) -> Tensor | None:
    """`along_classes` of an optional vector."""
    return None if weight is None else along_classes(weight, pred)


def classes_of(pred: Tensor) -> int:
    """Number of classes, axis 1; 1 for a vector of logits."""
    return pred.shape[1] if pred.ndim > 1 else 1


def like_pred(pred: Tensor, target: Tensor) -> Tensor:
    """Return a target of the shape of ``pred``, (N,) for (N,1) included, in its precision."""
    checks.tensor("target", target)
    if target.shape != pred.shape:
        if pred.ndim == 2 and pred.shape[1] == 1 and target.shape == pred.shape[:1]:
            target = target.unsqueeze(1)
        else:
            hint = ""
            if not target.is_floating_point() and target.shape == (pred.shape[0], *pred.shape[2:]):
                hint = " Class indices go to CrossEntropyLoss or FocalLoss; here one-hot encode them."
            raise InputError(
                f"expected target of the shape of pred {tuple(pred.shape)}, elementwise; "
                f"got {tuple(target.shape)} {target.dtype}.{hint}"
            )
    return target if target.is_floating_point() else target.to(pred.dtype)
