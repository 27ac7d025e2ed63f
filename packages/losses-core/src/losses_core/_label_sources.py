"""Labels of a data set, read in blocks: NumPy arrays, CSV columns, COCO annotations, PNG masks."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import torch
from torch import Tensor

from losses_core import _class_counter
from losses_core._class_counter import ClassCounter
from losses_core._suggest import did_you_mean, printable, shown, text_of
from losses_core.errors import InputError, LossesError

Progress: TypeAlias = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""Opens a bar over a number of steps; what it gives is called before each step, with what the step is."""

ROWS = 1 << 16
"""Rows of a CSV file in memory at a time."""

_LABEL = re.compile(r"\s*[+-]?[0-9]{1,18}\s*", re.ASCII)
_GRAY = 0
_PALETTE = 3
_KINDS = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}
_COCO = ("annotations", "categories", "category_id", "id", "image_id", "name")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert any exception that is raised while a file is read into an error that names the file.

    Raises:
        InputError: Anything was raised that is no `LossesError`.
    """
    try:
        yield
    except LossesError:
        raise
    except Exception as error:  # the libraries that parse files raise what they like for a broken one
        text = error.strerror if isinstance(error, OSError) and error.strerror else text_of(error)
        raise InputError(f"cannot be read: {text or type(error).__name__}", str(path)) from error


def _extra(path: Path, module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"reading it needs {name}: pip install {name.lower()}", str(path)) from error


def count_array(counter: ClassCounter, path: Path, progress: Progress) -> None:
    """Count the labels of a mapped `.npy` file; the first of several axes is that of the images."""
    numpy = _extra(path, "numpy", "NumPy")
    with reading(path):
        array = numpy.lib.format.open_memmap(path, mode="r")  # which reads nothing but .npy, and no objects
        _check_integers(array, path)
        blocks = list(_blocks(array.shape))
        with progress(len(blocks)) as step:
            for start, stop, images in blocks:
                step(f"{path.name}, label {start:,}")
                if isinstance(images, range):
                    each = (stop - start) // len(images)
                    numbers = torch.arange(images.start, images.stop).repeat_interleave(each)
                    _count_block(counter, array, start, stop, numbers)
                else:
                    _count_block(counter, array, start, stop, images)


def _check_integers(array: Any, path: Path) -> None:
    if array.dtype.kind not in ("b", "i", "u"):
        raise InputError(f"expected an array of integers, which are class indices; got {array.dtype}.", str(path))


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int, range | int | None]]:
    """Parts of the flattened array of at most `BLOCK` labels: start, stop, and the images that they belong to."""
    limit, number = _class_counter.BLOCK, shape[0] if shape else 1
    each = 1
    for side in shape[1:]:
        each *= side
    if len(shape) < 2:
        yield from ((start, min(start + limit, number), None) for start in range(0, number, limit))
    elif each > limit:
        for image in range(number):
            for start in range(0, each, limit):
                yield image * each + start, image * each + min(start + limit, each), image
    elif each:
        for image in range(0, number, limit // each):
            last = min(image + limit // each, number)
            yield image * each, last * each, range(image, last)


def _count_block(counter: ClassCounter, array: Any, start: int, stop: int, images: Tensor | int | None) -> None:
    # a view of an array in C order; of another, whose reshape would copy all of it, an iterator that copies the range
    block = (array.reshape(-1) if array.flags.c_contiguous else array.flat)[start:stop]
    if block.dtype.kind == "u" and block.dtype.itemsize == 8:
        block = block.clip(max=(1 << 63) - 1)  # beyond it no label is, and int64 would make it negative
    labels = torch.from_numpy(block.astype("int64"))

    def place(index: int) -> str:
        position: list[int] = []
        rest = start + index
        for side in reversed(array.shape):
            rest, coordinate = divmod(rest, side)
            position.insert(0, coordinate)
        return f"at {position}"

    counter.add(labels, images, place)


def count_column(counter: ClassCounter, path: Path, progress: Progress, column: str) -> None:
    """Count the labels of a column of a CSV file with a header; each row is an image."""
    with (
        reading(path),
        path.open("rb") as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream,
        progress(100) as step,
    ):
        size, done = path.stat().st_size, 0
        rows = _rows(stream, path)
        _, header = next(rows, (0, []))
        index = _column_index(header, column, path)
        while batch := [(line, _label(row, index, line, path)) for line, row in islice(rows, ROWS)]:
            lines, labels = zip(*batch, strict=True)
            while done < min(100, 100 * raw.tell() // size):
                step(f"{path.name}, line {lines[0]:,}")
                done += 1
            counter.add(torch.tensor(labels), None, lambda i: f"in line {lines[i]}")  # noqa: B023  # called by add alone


def _rows(stream: TextIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row that is not blank."""
    rows = csv.reader(stream, strict=True)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except csv.Error as error:
        raise InputError(f"line {rows.line_num}: {error}.", str(path)) from error


def _column_index(header: list[str], column: str, path: Path) -> int:
    names = [name.strip() for name in header]
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise InputError(f"the column {shown(column)} stands twice in the header.", str(path))
    listed = ", ".join(printable(name, 80) for name in names[:20]) or "nothing"
    raise InputError(
        f"no column {shown(column)}.{did_you_mean(column, names)} It has: {listed}. --column NAME takes another one.",
        str(path),
    )


def _label(row: list[str], index: int, line: int, path: Path) -> int:
    if index >= len(row):
        raise InputError(f"line {line} has {len(row)} fields, and the label is field {index + 1}.", str(path))
    if not _LABEL.fullmatch(row[index]):
        raise InputError(f"expected an integer, a class index; got {shown(row[index])} in line {line}.", str(path))
    return int(row[index])


def count_annotations(counter: ClassCounter, path: Path, progress: Progress) -> list[str]:
    """Count the annotations of a COCO file; the classes are its categories, in the order of their ids.

    Returns:
        The names of the classes.
    """
    with reading(path), progress(1) as step:
        step(path.name)
        with path.open(encoding="utf-8-sig") as stream:
            content = json.load(stream, object_hook=_without_polygons)
        names, classes = _categories(content, path)
        number: dict[Any, int] = {}
        labels, images = [], []
        for index, annotation in enumerate(_list(content, "annotations", path)):
            where = f"annotations[{index}]"
            category = _integer(annotation, "category_id", where, path)
            if category not in classes:
                text = f"{where}: expected the id of one of its {len(classes)} categories; got category_id {category}."
                raise InputError(text, str(path))
            if not isinstance(annotation.get("image_id"), (int, str)):
                raise InputError(f"{where}: expected the key 'image_id', an integer or a string.", str(path))
            labels.append(classes[category])
            images.append(number.setdefault(annotation["image_id"], len(number)))
        if counter.num_classes is None:
            counter.set_classes(len(classes))
        ids = list(classes)
        counter.add(
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(images, dtype=torch.int64),
            lambda i: f"in annotations[{i}], category_id {ids[labels[i]]}",
        )
        return names


def _without_polygons(item: dict[str, Any]) -> dict[str, Any]:
    # what an annotation holds besides is most of the file
    return {key: item[key] for key in _COCO if key in item}


def _categories(content: Any, path: Path) -> tuple[list[str], dict[int, int]]:
    """Name of each class, and category id → class."""
    found = {}
    for index, category in enumerate(_list(content, "categories", path)):
        where = f"categories[{index}]"
        number, name = _integer(category, "id", where, path), category.get("name")
        if number in found:
            raise InputError(f"{where}: the id {number} is that of another category too.", str(path))
        if not isinstance(name, str):
            raise InputError(f"{where}: expected the key 'name', a string; got {shown(name)}.", str(path))
        found[number] = name
    ids = sorted(found)
    return [found[number] for number in ids], {number: index for index, number in enumerate(ids)}


def _list(content: Any, key: str, path: Path) -> list[Any]:
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list):
        text = f"expected COCO annotations, a mapping with the lists 'categories' and 'annotations'; no list {key!r}."
        raise InputError(text, str(path))
    return items


def _integer(item: Any, key: str, where: str, path: Path) -> int:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: expected the key {key!r}, an integer; got {shown(value)}.", str(path))
    return value


def count_masks(counter: ClassCounter, paths: list[Path], progress: Progress) -> None:
    """Count the pixels of PNG masks, each of which is an image."""
    with progress(len(paths)) as step:
        for number, path in enumerate(paths):
            step(path.name)
            counter.path = path
            array = _mask(path)
            for start, stop, _ in _blocks((array.size,)):
                _count_block(counter, array, start, stop, number)


def _mask(path: Path) -> Any:
    """The class indices of a PNG file, as they are in it."""
    numpy = _extra(path, "numpy", "NumPy")
    plugin = _extra(path, "PIL.PngImagePlugin", "Pillow")
    # not Image.open: that guesses the format, and refuses large images, which masks of satellites are
    with reading(path), plugin.PngImageFile(path) as image:
        with path.open("rb") as stream:
            depth, kind = stream.read(26)[-2:]
        if kind not in (_GRAY, _PALETTE):
            text = f"expected class indices in one channel, gray or palette; got {_KINDS.get(kind, kind)}."
            raise InputError(f"{text} Colours have to be turned into indices first.", str(path))
        if kind == _GRAY and depth in (2, 4):
            text = f"gray of {depth} bits, whose values programs scale by {255 // (2**depth - 1)} or take as they are."
            raise InputError(f"{text} Save it with 8 bits, or with a palette.", str(path))
        return numpy.asarray(image)
