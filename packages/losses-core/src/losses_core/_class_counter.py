"""Counts of labels and of the images that hold them, from blocks of a data set as they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from losses_core.errors import InputError

BLOCK = 1 << 20
"""Labels in memory at a time."""

MAX_CLASSES = 1 << 20
"""What bounds the memory of the counts where a label is no class but, say, an image number."""


class ClassCounter:
    """Counts of labels.

    Args:
        path: The file that is being read, for errors; a reader of several sets it.
        num_classes: Labels from here on are an error. None: the classes are those up to the largest label.
        ignore_index: Label that is not counted.
    """

    def __init__(self, path: Path, num_classes: int | None = None, ignore_index: int | None = None) -> None:
        self.path = path
        self.num_classes: int | None = None
        self.ignore_index = ignore_index
        self.counts = torch.zeros(0, dtype=torch.int64)
        self.images = self.counts.clone()
        if num_classes is not None:
            self.set_classes(num_classes)
        self._any = False
        self._image: tuple[int, set[int]] = (-1, set())

    def set_classes(self, num_classes: int) -> None:
        """Set the number of classes, before anything is counted."""
        self.num_classes = num_classes
        self._grow(num_classes)

    def add(self, labels: Tensor, images: Tensor | int | None, place: Callable[[int], str]) -> None:
        """Count a block.

        Args:
            labels: (N,), int64.
            images: The image of each label: (N,), where no image continues in another block; the number of one image
                that holds them all, and may continue in the next block; or None where each label is an image.
            place: Says where the label of an index is, for errors.

        Raises:
            InputError: A label outside the classes that is not ignored.
        """
        self._any |= labels.numel() > 0
        kept = labels if self.ignore_index is None else labels[is_kept := labels != self.ignore_index]
        if not kept.numel():
            return
        low, high = (int(end) for end in kept.aminmax())
        if low < 0 or high >= (self.num_classes or MAX_CLASSES):
            raise self._fault(labels, place)
        self._grow(high + 1)
        counts = kept.bincount(minlength=len(self.counts))
        self.counts += counts
        if images is None:
            self.images += counts
        elif isinstance(images, int):
            number, known = self._image
            found = set(counts.nonzero().flatten().tolist())
            self.images[list(found - known if images == number else found)] += 1
            self._image = (images, found | known if images == number else found)
        else:
            self.images += self._images_by_class(kept, images if self.ignore_index is None else images[is_kept])

    def _images_by_class(self, labels: Tensor, images: Tensor) -> Tensor:
        """Count the pairs of image and class, each once."""
        classes = len(self.counts)
        first, last = (int(end) for end in images.aminmax())
        pairs = (images - first) * classes + labels
        size = (last - first + 1) * classes
        if size <= BLOCK:
            occurs = pairs.bincount(minlength=size).reshape(-1, classes) > 0
            return occurs.sum(0)
        unique: Tensor = pairs.unique() % classes
        return unique.bincount(minlength=classes)

    def check(self) -> None:
        """Check that something was counted.

        Raises:
            InputError: There was no label, or all were ignored.
        """
        if not self._any:
            raise InputError("holds no labels.", str(self.path))
        if not self.counts.any():
            raise InputError(f"every label is {self.ignore_index}, which is ignored.", str(self.path))

    def _grow(self, classes: int) -> None:
        if classes > len(self.counts):
            self.counts, self.images = (
                torch.cat([tensor, tensor.new_zeros(classes - len(tensor))]) for tensor in (self.counts, self.images)
            )

    def _fault(self, labels: Tensor, place: Callable[[int], str]) -> InputError:
        classes = self.num_classes or MAX_CLASSES
        wrong = (labels < 0) | (labels >= classes)
        if self.ignore_index is not None:
            wrong &= labels != self.ignore_index
        index = int(wrong.nonzero()[0])
        value = int(labels[index])
        also = "" if self.ignore_index is None else f" or ignore_index={self.ignore_index}"
        hint = ""
        if self.ignore_index is None:
            hint = f" If {value} marks what is to be ignored, set ignore_index={value} (--ignore-index {value})."
        return InputError(f"expected labels in [0, {classes}){also}; got {value} {place(index)}.{hint}", str(self.path))
