"""Target forms of the classification losses: class indices, probabilities, one value per element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.kernels import Prepared
from losses_core.utils import checks
from losses_core.utils.value_checks import check_labels, check_probabilities, warn_of_probabilities


def is_index(pred: Any, target: Any) -> bool:
    """Whether ``target`` has the shape (N,*S) of class indices for ``pred`` (N,C,*S), not that of ``pred``."""
    if not (isinstance(pred, Tensor) and pred.is_floating_point()):
        checks.floating(pred)
    checks.tensor("target", target)
    if pred.ndim == 2 and target.ndim == 1 and pred.shape[0] == target.shape[0]:  # the usual case, without a detour
        return True
    if pred.ndim < 2:
        raise InputError(f"expected pred of shape (N, C, *S); got {tuple(pred.shape)}.")
    index_shape = (pred.shape[0], *pred.shape[2:])
    checks.shape("target", target, index_shape, tuple(pred.shape), reference=f"pred {tuple(pred.shape)}")
    return bool(target.ndim < pred.ndim)


def check_index(
    pred: Tensor, target: Tensor, ignore_index: int | None, extra: tuple[int, ...] = ()
) -> tuple[Tensor, int | None]:
    """Labels as int64, and the ignored label, None where none is known to be ignored."""
    warn_of_probabilities(pred, None if extra else 1)
    labels = target if target.dtype == torch.int64 else checks.index("target", target)
    return labels, check_labels(labels, pred.shape[1], ignore_index, extra=extra)


def index_normalizer(target: Tensor, ignore_index: int | None, class_weight: Tensor | None) -> Tensor | None:
    """Share of each label in the denominator of ``mean``: its class weight, 0 where ignored; None: 1 each."""
    if ignore_index is None:
        return None if class_weight is None else class_weight[target]
    if class_weight is None:
        return target != ignore_index
    ignored = target == ignore_index
    return class_weight[target.masked_fill(ignored, 0)].masked_fill(ignored, 0)


def prepare_classes(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    """Check class indices, or probabilities of the shape of ``pred``, with the options of a cross-entropy."""
    ignore_index = options["ignore_index"]
    if is_index(pred, target):
        target, options["ignore_index"] = check_index(pred, target, ignore_index)
    elif ignore_index in (None, -100):
        options["ignore_index"] = check_probabilities(target, cure="Does it hold logits? Then apply softmax to them.")
    else:
        raise InputError(
            f"ignore_index={ignore_index} has no meaning for a target of probabilities {tuple(target.shape)}: give "
            "class indices, or exclude rows by a sample weight of 0."
        )
    options["class_weight"] = class_vector("class_weight", options["class_weight"], pred)
    return pred, target, options


def class_normalizer(
    pred: Tensor, target: Tensor, *, class_weight: Tensor | None, ignore_index: int | None, **_: Any
) -> Tensor | None:
    """`index_normalizer` for class indices; 1 each for probabilities."""
    return index_normalizer(target, ignore_index, class_weight) if target.ndim < pred.ndim else None


def class_vector(name: str, given: Any, pred: Tensor) -> Any:
    """Check an option that holds one number per class, (C,); a number becomes such a vector."""
    if given is None or isinstance(given, Tensor):
        check_lengths(pred, {name: given})
        return given
    precision = torch.promote_types(pred.dtype, torch.float32)
    return torch.full(pred.shape[1:2], given, dtype=precision, device=pred.device)


def check_lengths(pred: Tensor, options: dict[str, Any]) -> None:
    """Check the length of the options that hold one number per class of ``pred``."""
    classes = pred.shape[1] if pred.ndim > 1 else 1
    for name, given in options.items():
        if isinstance(given, Tensor) and given.ndim and (given.ndim > 1 or given.shape[0] != classes):
            raise InputError(
                f"{name}: expected {classes} entries, one per class of pred {tuple(pred.shape)}; "
                f"got {tuple(given.shape)}."
            )


def like_pred(pred: Tensor, target: Tensor) -> Tensor:
    """Return a target of the shape of ``pred``, (N,) for (N,1) included."""
    checks.floating(pred)
    checks.tensor("target", target)
    if target.shape == pred.shape:
        return target
    if pred.ndim == 2 and pred.shape[1] == 1 and target.shape == pred.shape[:1]:
        return target.unsqueeze(1)
    hint = ""
    if not target.is_floating_point() and target.shape == (*pred.shape[:1], *pred.shape[2:]):
        hint = " Class indices go to CrossEntropyLoss or FocalLoss; here one-hot encode them."
    raise InputError(
        f"expected target of the shape of pred {tuple(pred.shape)}, elementwise; "
        f"got {tuple(target.shape)} {target.dtype}.{hint}"
    )


def prepare_elements(pred: Tensor, target: Tensor, **options: Any) -> Prepared:
    """Check a target with a value in [0, 1] for each element, and the options along axis 1."""
    target = like_pred(pred, target)
    check_lengths(pred, options)
    if options.get("with_logits", True):
        warn_of_probabilities(pred)
    return pred, target, {**options, "ignore_index": check_probabilities(target, options["ignore_index"])}


def element_normalizer(pred: Tensor, target: Tensor, *, ignore_index: int | None, **_: Any) -> Tensor | None:
    """Share of each element in the denominator of ``mean``: 1, 0 where ignored; None: 1 each."""
    return None if ignore_index is None else target != ignore_index


def ignored_label(owner: object, ignore_index: int | None) -> int | None:
    """Check the constructor parameter ``ignore_index``, an integer or None."""
    return None if ignore_index is None else checks.number(owner, "ignore_index", ignore_index, integer=True)
