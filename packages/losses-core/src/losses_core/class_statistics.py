"""Class statistics of a data set: how often each class occurs, and the weights that follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from losses_core._class_counter import MAX_CLASSES, ClassCounter
from losses_core._label_sources import Progress, count_annotations, count_array, count_column, count_masks, reading
from losses_core._suggest import did_you_mean, shown
from losses_core._weight_methods import WeightMethod
from losses_core.errors import InputError
from losses_core.utils.loss_utils import get_class_weight

__all__ = ["ClassStatistics", "count_classes", "read_statistics"]

MAX_BYTES = 64 << 20
"""Size of a file of statistics; one of a million classes is smaller."""

_KEYS = ("counts", "images", "names", "num_classes", "source")


@dataclass(frozen=True)
class ClassStatistics:
    """How often each class occurs in a data set.

    Args:
        counts: Labels of each class.
        images: Images in which a class occurs.
        names: Names of the classes, where the source has them.
        source: What was counted.

    Example:
        >>> statistics = ClassStatistics(counts=[3, 1], images=[3, 1], names=None, source="labels.npy")
        >>> statistics.weights("inverse")
        tensor([0.6667, 2.0000])
    """

    counts: list[int]
    images: list[int]
    names: list[str] | None = None
    source: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes C."""
        return len(self.counts)

    def weights(
        self, method: WeightMethod = "inverse", *, beta: float = 0.9999, normalize: Literal["mean"] | None = None
    ) -> Tensor:
        """Compute the class weights (C,): `get_class_weight` of the counts."""
        return get_class_weight(counts=self.counts, method=method, beta=beta, normalize=normalize)

    def to_json(self) -> str:
        """Write the statistics as text, a line for each key, for `read_statistics`."""
        lines = (f'  "{key}": {json.dumps(getattr(self, key))}' for key in _KEYS)
        return "{\n" + ",\n".join(lines) + "\n}\n"


@contextmanager
def _silent(total: int) -> Iterator[Callable[[str], None]]:
    yield lambda what: None


def count_classes(
    source: str | PathLike[str],
    *,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    column: str | None = None,
    progress: Progress = _silent,
) -> ClassStatistics:
    """Count the labels of a data set, which is read in parts: `losses weights` as a function.

    Args:
        source: A `.npy` file of integers (the first of several axes is that of the images), a `.csv` file with a
            header, a COCO `.json` file (a count for each annotation; the classes in the order of the category ids), a
            `.png` mask, or a folder of masks, subfolders included. Arrays need NumPy, masks NumPy and Pillow, which
            `losses-core[cli]` brings.
        num_classes: C; by default the largest label + 1, of a COCO file the number of its categories.
        ignore_index: Label that is not counted.
        column: Of a `.csv` file, by default `label`.
        progress: Opens a progress bar: called with the number of steps, gives a context manager of a function that is
            called before each step with what it is.

    Raises:
        InputError: The source is missing, empty, or cannot be read; a label is no integer, or outside the classes and
            not ignored. The text names the file and the first offender.
    """
    path = Path(source)
    if num_classes is not None and not 0 < num_classes <= MAX_CLASSES:
        raise InputError(f"num_classes: expected an integer from 1 to {MAX_CLASSES}; got {num_classes}.")
    kind = path.suffix.lower()
    if column is not None and kind != ".csv":
        raise InputError("a column is for a .csv file.", str(path))
    with reading(path):
        path.stat()
    counter = ClassCounter(path, num_classes, ignore_index)
    names = None
    if path.is_dir():
        count_masks(counter, _masks(path), progress)
    elif kind == ".npy":
        count_array(counter, path, progress)
    elif kind == ".csv":
        count_column(counter, path, progress, "label" if column is None else column)
    elif kind == ".json":
        names = count_annotations(counter, path, progress)
    elif kind == ".png":
        count_masks(counter, [path], progress)
    else:
        expected = "a .npy, .csv, .json (COCO) or .png file, or a folder of .png files"
        raise InputError(f"expected {expected}.", str(path))
    counter.path = path
    counter.check()
    counts, images = counter.counts.tolist(), counter.images.tolist()
    if names is not None:  # more classes than categories have no name, fewer leave some out
        names = [*names, *[""] * len(counts)][: len(counts)]
    return ClassStatistics(counts, images, names, str(path))


def _masks(folder: Path) -> list[Path]:
    # hidden files are no masks: macOS writes a ._mask.png beside each mask.png on other file systems
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png" and path.name[0] != ".")
    if not found:
        raise InputError("holds no .png files.", str(folder))
    return found


def read_statistics(path: str | PathLike[str]) -> ClassStatistics:
    """Read what `losses weights --out` wrote: JSON with its keys, and nothing else.

    Raises:
        InputError: The file cannot be read, is too large, or holds something else.
    """
    file = Path(path)
    with reading(file):
        return _parsed(_load(file), file)


def _load(file: Path) -> Any:
    if file.exists() and not file.is_file():  # a device or a pipe may never end
        raise InputError("is no file.", str(file))
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MiB, which no statistics are.", str(file))
    return json.loads(content)


def _parsed(content: Any, file: Path) -> ClassStatistics:
    where = str(file)
    if not isinstance(content, dict) or "counts" not in content:
        raise InputError("expected what `losses weights --out` writes, a JSON mapping with 'counts'.", where)
    for key in content:
        if key not in _KEYS:
            text = f"unknown key {shown(key)}.{did_you_mean(key, _KEYS)}"
            raise InputError(f"{text} It may have: {', '.join(_KEYS)}.", where)
    counts = _integers(content["counts"], "counts", None, where)
    names, source = content.get("names"), content.get("source", "")
    images = _integers(content["images"], "images", len(counts), where) if "images" in content else list(counts)
    if names is not None and not (
        isinstance(names, list) and len(names) == len(counts) and all(isinstance(name, str) for name in names)
    ):
        raise InputError(f"names: expected null or {len(counts)} strings, one per class.", where)
    if content.get("num_classes", len(counts)) != len(counts):
        given = shown(content["num_classes"])
        raise InputError(f"num_classes: expected {len(counts)}, the number of counts; got {given}.", where)
    if not isinstance(source, str):
        raise InputError(f"source: expected a string; got {shown(source)}.", where)
    return ClassStatistics(counts, images, names, source)


def _integers(values: Any, key: str, length: int | None, where: str) -> list[int]:
    size = f"{length} integers" if length else "integers"
    expected = f"{key}: expected a list of {size} >= 0, one per class"
    if not isinstance(values, list) or not 0 < len(values) <= MAX_CLASSES or (length and len(values) != length):
        raise InputError(f"{expected}; got {shown(values)}.", where)
    for index, value in enumerate(values):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise InputError(f"{expected}; got {shown(value)} at [{index}].", where)
    return values
