"""Data sets that cannot be counted: the error names the file and the first offender."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losses_core import InputError
from losses_core._class_counter import MAX_CLASSES
from losses_core.class_statistics import count_classes

from .data_sets import write_coco, write_png


def fault(source: Path, **options: Any) -> str:
    """The text of the error, without the path of the source."""
    with pytest.raises(InputError) as caught:
        count_classes(source, **options)
    assert str(caught.value).startswith(str(source))
    return str(caught.value).removeprefix(str(source)).removeprefix(": ")


FIRST = "If 255 marks what is to be ignored, set ignore_index=255 (--ignore-index 255)."


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        ([[0, 1], [2, 255]], {"num_classes": 3}, f"expected labels in [0, 3); got 255 at [1, 1]. {FIRST}"),
        (
            [[0, 1], [3, 255]],
            {"num_classes": 3, "ignore_index": 255},
            "in [0, 3) or ignore_index=255; got 3 at [1, 0].",
        ),
        ([0, -100, -1], {}, f"expected labels in [0, {MAX_CLASSES}); got -100 at [1]."),
        ([0, -100, -1], {"ignore_index": -100}, "got -1 at [2]."),
        ([0, 2**40], {}, f"got {2**40} at [1]."),
        (np.array([2**64 - 1], np.uint64), {}, f"got {2**63 - 1} at [0]."),
        ([[[1] * 50] * 50, [[1] * 50] * 49 + [[1] * 49 + [7]]], {"num_classes": 2}, "got 7 at [1, 49, 49]."),
        ([0.5], {}, "expected an array of integers, which are class indices; got float64."),
        (["a"], {}, "expected an array of integers, which are class indices; got <U1."),
        (np.zeros(0, int), {}, "holds no labels."),
        (np.zeros((0, 5), int), {}, "holds no labels."),
        (np.zeros((5, 0), int), {}, "holds no labels."),
        ([7, 7], {"ignore_index": 7}, "every label is 7, which is ignored."),
        ([7, 7], {"column": "label"}, "a column is for a .csv file."),
    ],
)
def test_faulty_arrays(tmp_path: Path, small_blocks: Any, labels: Any, options: dict[str, Any], text: str) -> None:
    np.save(tmp_path / "a.npy", np.asarray(labels))
    assert text in fault(tmp_path / "a.npy", **options)


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_files_that_are_no_array(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert fault(path).startswith("cannot be read: ")
    np.save(path, np.zeros(100, int))
    os.truncate(path, 400)
    assert fault(path).startswith("cannot be read: ")


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "evil"),)

    np.save(tmp_path / "a.npy", np.array([Evil()]), allow_pickle=True)
    assert fault(tmp_path / "a.npy").startswith("cannot be read: ")
    with (tmp_path / "b.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3, int))
    assert fault(tmp_path / "b.npy").startswith("cannot be read: ")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "file,labels\n",
            "no column 'label'. Did you mean 'labels'? It has: file, labels. --column NAME takes another",
        ),
        ("label;file\n1;a\n", "no column 'label'. It has: label;file."),
        ("", "no column 'label'. It has: nothing."),
        ("label,label\n", "the column 'label' stands twice in the header."),
        ("label\n", "holds no labels."),
        ("label\n0\n\ndog\n", "expected an integer, a class index; got 'dog' in line 4."),
        ("label\n0\n1.5\n", "got '1.5' in line 3."),
        ("label\n0\n٣\n", "got '٣' in line 3."),
        ("file,label\na,0\nb\n", "line 3 has 1 fields, and the label is field 2."),
        ("label\n0\n" + "9" * 400, "in line 3."),
        ('file,label\n"a\n', "line 2: unexpected end of data."),
        ("file,label\n" + "a" * 200_000 + ",1\n", "line 2: field larger than field limit"),
        ("label\n0\n-1\n", "got -1 in line 3."),
        ("label\n0\n7\n", "expected labels in [0, 2); got 7 in line 3."),
    ],
)
def test_faulty_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, text: str) -> None:
    monkeypatch.setattr("losses_core._label_sources.ROWS", 1)
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    assert text in fault(path, num_classes=2)


def test_a_column_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"label\n\xff\n")
    assert fault(path).startswith("cannot be read: ")


GOOD = {"categories": [{"id": 1, "name": "a"}], "annotations": [{"image_id": 1, "category_id": 1}]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"annotations": None},
            "expected COCO annotations, a mapping with the lists 'categories' and 'annotations'; no",
        ),
        ({"categories": {}}, "no list 'categories'."),
        ({"categories": ["a"]}, "categories[0]: expected the key 'id', an integer; got None."),
        ({"categories": [{"id": 1}]}, "categories[0]: expected the key 'name', a string; got None."),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "categories[1]: the id 1 is that of another category too."),
        ({"annotations": []}, "holds no labels."),
        ({"annotations": [{"image_id": 1}]}, "annotations[0]: expected the key 'category_id', an integer; got None."),
        ({"annotations": [{"image_id": 1, "category_id": True}]}, "an integer; got True."),
        (
            {"annotations": [{"image_id": 1, "category_id": 2}]},
            "annotations[0]: expected the id of one of its 1 categor",
        ),
        ({"annotations": [{"category_id": 1}]}, "annotations[0]: expected the key 'image_id', an integer or a string."),
    ],
)
def test_faulty_annotations(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD))
    assert count_classes(path).counts == [1]
    path.write_text(json.dumps(GOOD | change))
    assert text in fault(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '{"annotations": ' + "9" * 5000 + "}"])
def test_files_that_are_no_annotations(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert fault(path)


def test_an_annotation_beyond_the_classes(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", [(1, 3), (1, 7)], {3: "car", 7: "train"})
    text = "expected labels in [0, 1); got 1 in annotations[1], category_id 7."
    assert fault(path, num_classes=1).startswith(text)


def test_faulty_masks_are_named(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", [[0, 1]])
    second = write_png(tmp_path / "b" / "b.png", [[0, 1], [2, 255]])
    assert fault(tmp_path, num_classes=3) == f"/b/b.png: expected labels in [0, 3); got 255 at [1, 1]. {FIRST}"
    for kind, name in ((2, "RGB"), (4, "gray with alpha"), (6, "RGBA")):
        write_png(second, [[0, 1]], kind=kind)
        assert f"expected class indices in one channel, gray or palette; got {name}." in fault(second)
    for depth, factor in ((2, 85), (4, 17)):
        write_png(second, [[0, 1]], depth=depth)
        assert f"gray of {depth} bits, whose values programs scale by {factor} or take as they are." in fault(second)
    content = write_png(second, np.random.default_rng(0).integers(0, 99, (50, 50))).read_bytes()
    for broken in (b"", b"GIF89a", content[:200], content[:60] + b"\0\0\0\0" + content[64:]):
        second.write_bytes(broken)
        assert fault(tmp_path).startswith("/b/b.png: cannot be read: ")


def test_sources_that_are_none(tmp_path: Path) -> None:
    assert fault(tmp_path) == "holds no .png files."
    assert fault(tmp_path / "missing.npy") == "cannot be read: No such file or directory"
    (tmp_path / "a.txt").touch()
    assert fault(tmp_path / "a.txt").startswith("expected a .npy, .csv, .json (COCO) or .png file, or a folder of .png")
    for classes in (0, -1, MAX_CLASSES + 1):
        with pytest.raises(
            InputError, match=f"num_classes: expected an integer from 1 to {MAX_CLASSES}; got {classes}"
        ):
            count_classes(tmp_path, num_classes=classes)


@pytest.mark.parametrize(
    ("name", "missing", "module"), [("a.npy", "NumPy", "numpy"), ("a.png", "Pillow", "PIL.PngImagePlugin")]
)
def test_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str, module: str
) -> None:
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    assert fault(tmp_path / name) == f"reading it needs {missing}: pip install {missing.lower()}"
