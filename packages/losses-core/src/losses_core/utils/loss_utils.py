"""Public helpers around losses: labels, class weights, focal factors, overlap of boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from losses_core._suggest import did_you_mean, shown
from losses_core._weight_methods import WEIGHT_METHODS, WeightMethod
from losses_core.errors import InputError
from losses_core.utils import checks
from losses_core.utils.boxes import compute_giou, compute_iou
from losses_core.utils.focal import focal_weight, sigmoid_focal_loss

__all__ = [
    "compute_giou",
    "compute_iou",
    "convert_to_one_hot",
    "focal_weight",
    "get_class_weight",
    "sigmoid_focal_loss",
]

_MAX_COUNT = 2.0**63


def convert_to_one_hot(
    labels: Tensor,
    num_classes: int,
    *,
    dim: int = -1,
    ignore_index: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One-hot encode class indices, in the wanted dtype from the start and without reading a value.

    The class axis of the result is the last one by default, as in :func:`torch.nn.functional.one_hot`. The losses take
    it as axis 1: labels (N, H, W) and predictions (N, C, H, W) need ``dim=1``. For labels (N,) the two are the same.

    Args:
        labels: integer tensor (*), values in [0, num_classes) or ``ignore_index``.
        num_classes: C, ≥ 1.
        dim: axis of the classes in the result; -1, the default, is the last, 1 that of ``pred`` in a loss.
        ignore_index: label whose rows are all zero; None, the default: every label is a class.
        dtype: of the result; float32 by default.

    Returns:
        (*) with an axis of C entries inserted at ``dim``.

    Raises:
        InputError: labels that are not integers, a ``num_classes`` below 1.
        RuntimeError: on the CPU, a label outside the range (torch's index error).

    Example:
        >>> import torch
        >>> convert_to_one_hot(torch.tensor([1, 255]), 3, ignore_index=255)
        tensor([[0., 1., 0.],
                [0., 0., 0.]])
        >>> masks = torch.zeros(2, 32, 32, dtype=torch.long)
        >>> convert_to_one_hot(masks, 3, dim=1).shape  # that of predictions
        torch.Size([2, 3, 32, 32])
    """
    labels = checks.index("labels", labels)
    if num_classes < 1:
        raise InputError(f"num_classes: expected an integer >= 1; got {num_classes}.")
    dim = dim % (labels.ndim + 1)
    ones: Tensor | None = None
    if ignore_index is not None:
        ignored = labels == ignore_index
        labels, ones = labels.masked_fill(ignored, 0), (~ignored).to(dtype).unsqueeze(dim)
    shape = [*labels.shape[:dim], num_classes, *labels.shape[dim:]]
    result = torch.zeros(shape, dtype=dtype, device=labels.device)
    if ones is None:
        return result.scatter_(dim, labels.unsqueeze(dim), 1)
    return result.scatter_(dim, labels.unsqueeze(dim), ones)


def get_class_weight(
    labels: Tensor | Sequence[Any] | Any = None,
    method: WeightMethod = "inverse",
    *,
    counts: Tensor | Sequence[float] | Any = None,
    num_classes: int | None = None,
    beta: float = 0.9999,
    ignore_index: int | None = None,
    normalize: Literal["mean"] | None = None,
    per_image: bool = False,
) -> Tensor:
    r"""Class weights from label counts.

    With :math:`n_c` the count of a class, :math:`N` their sum and :math:`C` the number of classes that occur:

    - ``inverse``: :math:`N / (C n_c)`, what scikit-learn calls "balanced";
    - ``sqrt_inverse``: its square root;
    - ``effective_num``: :math:`(1-\beta)/(1-\beta^{n_c})`, scaled to the sum C (Cui et al., CVPR 2019, arXiv
      1901.05555);
    - ``median_freq``: median frequency / frequency (Eigen and Fergus, ICCV 2015, arXiv 1411.4734).

    Args:
        labels: class indices, a tensor, array or (nested) list of any shape.
        method: one of the four above.
        counts: C numbers ≥ 0 in place of ``labels``: how often each class occurs, as ``losses weights`` counts.
        num_classes: length of the result; by default the largest label + 1.
        beta: of ``effective_num``, in [0, 1).
        ignore_index: label that is not counted.
        normalize: ``'mean'`` rescales to mean 1 over the classes that occur.
        per_image: ``median_freq`` only: the first axis is images, and a class's frequency is its share of the pixels of
            the images where it occurs, as in the paper.

    Returns:
        float32 (num_classes,); a class that does not occur has weight 0.

    Raises:
        InputError: labels that are not integers or out of range, counts that are negative, an unknown method, ``beta``
            outside [0, 1); both labels and counts; an option for labels together with counts.

    Example:
        >>> get_class_weight([0, 0, 0, 1])
        tensor([0.6667, 2.0000])
        >>> get_class_weight(counts=[3, 1])
        tensor([0.6667, 2.0000])
    """
    for name, text in weight_option_faults(method, beta, normalize):
        raise InputError(f"{name}: {text}")
    if (labels is None) == (counts is None):
        raise InputError(f"expected either labels or counts; got {'neither' if labels is None else 'both'}.")
    if labels is None:
        if num_classes is not None or ignore_index is not None or per_image:
            raise InputError("num_classes, ignore_index and per_image are for labels; counts= has no use for them.")
        counted = _checked_counts(counts)
    else:
        labels = checks.index("labels", torch.as_tensor(labels))
        if per_image and (method != "median_freq" or labels.ndim < 2):
            raise InputError("per_image=True needs method='median_freq' and labels with images on the first axis.")
        images = labels.reshape(labels.shape[0], -1) if per_image else labels.reshape(1, -1)
        counted = _count(images, num_classes, ignore_index)
    weight = _weight(counted, method, beta)
    if normalize == "mean":
        total = weight.sum()
        weight = weight * torch.where(total > 0, (weight > 0).sum() / total, 0.0)
    return weight.float()


def weight_option_faults(method: Any, beta: Any, normalize: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of each option of `get_class_weight` that is wrong, and what is wrong with it."""
    if method not in WEIGHT_METHODS:
        listed = ", ".join(map(repr, WEIGHT_METHODS))
        yield "method", f"expected one of {listed}; got {shown(method)}.{did_you_mean(method, WEIGHT_METHODS)}"
    if not _is_number(beta) or not 0 <= beta < 1:
        yield "beta", f"expected a number >= 0 and < 1; got {shown(beta)}."
    if normalize not in (None, "mean"):
        yield "normalize", f"expected None or 'mean'; got {shown(normalize)}."


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _weight(counts: Tensor, method: str, beta: float) -> Tensor:
    """(C,) weights in float64, 0 for an absent class, from the counts (images, C)."""
    n = counts.sum(0)
    present = n > 0
    classes = present.sum().clamp(min=1)
    if method in ("inverse", "sqrt_inverse"):
        weight = n.sum() / (classes * n)
        weight = weight.sqrt() if method == "sqrt_inverse" else weight
    elif method == "effective_num":
        # 1 - β^n in log space: for β close to 1 the plain power cancels
        log_beta = torch.log1p(n.new_tensor(beta - 1.0))
        weight = (1 - beta) / -torch.expm1(n * log_beta)
        weight = weight * (classes / weight[present].sum())
    else:
        occurs = counts > 0
        frequency = n / (occurs * counts.sum(1, keepdim=True)).sum(0)
        weight = _median(frequency[present]) / frequency
    return torch.where(present, weight, 0.0)


def _checked_counts(counts: Any) -> Tensor:
    """(1, C) counts in float64."""
    expected = "counts: expected finite numbers >= 0, one per class"
    if isinstance(counts, str) or not hasattr(counts, "__iter__"):
        raise InputError(f"{expected}; got {shown(counts)}.")
    items = counts.tolist() if hasattr(counts, "tolist") else list(counts)
    if not isinstance(items, list) or not items:
        raise InputError(f"{expected}; got {shown(counts)}.")
    for index, item in enumerate(items):
        if not _is_number(item) or not 0 <= item < _MAX_COUNT:
            raise InputError(f"{expected}; got {shown(item)} at [{index}].")
    device = counts.device if isinstance(counts, Tensor) else None
    return torch.tensor([float(item) for item in items], dtype=torch.float64, device=device).unsqueeze(0)


def _count(images: Tensor, num_classes: int | None, ignore_index: int | None) -> Tensor:
    """(images, C) label counts in float64."""
    counted = torch.ones_like(images, dtype=torch.bool) if ignore_index is None else images != ignore_index
    valid = images[counted]
    largest = int(valid.max()) if valid.numel() else -1
    size = largest + 1 if num_classes is None else num_classes
    if valid.numel() and (int(valid.min()) < 0 or largest >= size):
        raise InputError(
            f"expected labels in [0, {size}) or ignore_index={ignore_index}; "
            f"got labels from {int(valid.min())} to {largest}."
        )
    offset = torch.arange(images.shape[0], device=images.device).unsqueeze(1) * size
    flat = (images + offset)[counted]
    counts = torch.bincount(flat, minlength=images.shape[0] * size)
    return counts.reshape(images.shape[0], size).double()


def _median(values: Tensor) -> Tensor:
    # torch.median takes the lower of two middle values; the paper's median is the usual one
    return values.quantile(0.5) if values.numel() else values.sum()
