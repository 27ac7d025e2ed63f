"""What the kernels over class indices share."""

from __future__ import annotations

from torch import Tensor


def split_labels(target: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Labels with the class axis, and 0 where ignored; and the mask of those, if any."""
    labels = target.unsqueeze(1)
    if ignore_index is None:
        return labels, None
    ignored = labels == ignore_index
    return labels.masked_fill(ignored, 0), ignored
