"""Counting the classes of a data set: NumPy's counts, in bounded memory, with errors that name the first offender."""

import json
import os
import re
import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from losses_core import InputError, get_class_weight
from losses_core._class_counter import MAX_CLASSES, ClassCounter
from losses_core.class_statistics import ClassStatistics, count_classes, read_statistics

from .data_sets import write_coco, write_csv, write_png

KINDS = ["u1", "i1", "<u2", ">u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8"]


def expected(labels: Any, classes: int | None = None, ignore: int | None = None) -> tuple[list[int], list[int]]:
    """Counts, and the images in which a class occurs, of (images, labels)."""
    labels = np.asarray(labels).astype(np.int64)
    labels = labels.reshape(len(labels), -1)
    kept = labels[labels != ignore] if ignore is not None else labels.reshape(-1)
    size = int(kept.max()) + 1 if classes is None else classes
    images = [sum(bool((row == c).any()) for row in labels) if c != ignore else 0 for c in range(size)]
    return [int((kept == c).sum()) for c in range(size)], images


def fault(source: Path, **options: Any) -> str:
    """The text of the error, without the path of the source."""
    with pytest.raises(InputError) as caught:
        count_classes(source, **options)
    assert str(caught.value).startswith(str(source))
    return str(caught.value).removeprefix(str(source)).removeprefix(": ")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of at most 64 labels; the sizes of those that were counted."""
    sizes: list[int] = []
    add = ClassCounter.add

    def recorded(self: ClassCounter, labels: Any, *others: Any) -> None:
        sizes.append(labels.numel())
        add(self, labels, *others)

    monkeypatch.setattr("losses_core._class_counter.BLOCK", 64)
    monkeypatch.setattr(ClassCounter, "add", recorded)
    return sizes


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=nps.arrays(
        st.sampled_from(KINDS).map(np.dtype),
        nps.array_shapes(min_dims=1, max_dims=4, max_side=13),
        elements=st.integers(0, 9),
    ),
    fortran=st.booleans(),
    ignore=st.none() | st.integers(0, 9),
    classes=st.none() | st.just(12),
)
def test_arrays(
    tmp_path: Path, small_blocks: list[int], labels: Any, fortran: bool, ignore: int | None, classes: int | None
) -> None:
    """Of any integer type, shape and layout, in blocks that hold parts of an image, one, or several."""
    small_blocks.clear()
    np.save(tmp_path / "labels.npy", np.asfortranarray(labels) if fortran else labels)
    if ignore is not None and (labels == ignore).all():
        assert "which is ignored" in fault(tmp_path / "labels.npy", ignore_index=ignore, num_classes=classes)
        return
    found = count_classes(tmp_path / "labels.npy", ignore_index=ignore, num_classes=classes)
    assert (found.counts, found.images) == expected(labels, classes, ignore)
    assert max(small_blocks) <= 64
    assert sum(small_blocks) == labels.size


def test_many_classes_in_many_images(tmp_path: Path, small_blocks: list[int]) -> None:
    """Where a table of images and classes would not fit, the pairs are sorted."""
    labels = np.random.default_rng(0).integers(0, 1000, (50, 7))
    np.save(tmp_path / "a.npy", labels)
    found = count_classes(tmp_path / "a.npy", num_classes=1000, ignore_index=int(labels[3, 3]))
    assert (found.counts, found.images) == expected(labels, 1000, int(labels[3, 3]))


def test_an_array_larger_than_a_block_is_read_in_blocks(tmp_path: Path) -> None:
    """64 MiB of a file that is mapped; NumPy's and Python's memory is counted, of which a copy would be seen."""
    path = tmp_path / "large.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(2, 8192, 4096))
    array[1, -1] = 3
    array.flush()
    del array
    tracemalloc.start()
    try:
        found = count_classes(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.counts == [2 * 8192 * 4096 - 4096, 0, 0, 4096]
    assert found.images == [2, 0, 0, 1]
    assert peak < 24 << 20  # a block of 2^20 labels in int64 is 8 MiB


def test_bool_and_zero_dimensional_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[True, False], [True, True]]))
    assert count_classes(tmp_path / "a.npy") == ClassStatistics([1, 3], [1, 2], None, str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", np.array(2))
    assert count_classes(tmp_path / "a.npy").counts == [0, 0, 1]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=40), rows=st.integers(1, 10))
def test_columns(tmp_path: Path, labels: list[int], rows: int) -> None:
    with pytest.MonkeyPatch.context() as context:
        context.setattr("losses_core._label_sources.ROWS", rows)
        found = count_classes(write_csv(tmp_path / "a.csv", labels, "class"), column="class")
    assert (found.counts, found.images) == expected(labels)


def test_a_column_with_quotes_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV"
    path.write_text('\ufefflabel, text\n 1 ,"a, ""b""\nc"\n\n+2,\n01,x\n', encoding="utf-8")
    assert count_classes(path).counts == [0, 2, 1]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4) | st.sampled_from(["a", "b"]), st.sampled_from([90, 3, 7])), min_size=1))
def test_annotations(tmp_path: Path, annotations: list[tuple[Any, int]]) -> None:
    names = {90: "toothbrush", 3: "car", 7: "train", 8: "truck"}
    found = count_classes(write_coco(tmp_path / "a.json", annotations, names))
    assert found.names == ["car", "train", "truck", "toothbrush"]
    for index, category in enumerate((3, 7, 8, 90)):
        assert found.counts[index] == sum(c == category for _, c in annotations)
        assert found.images[index] == len({image for image, c in annotations if c == category})


def test_annotations_with_another_number_of_classes(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", [(1, 3), (1, 7)], {3: "car", 7: "train", 9: "bird"})
    assert count_classes(path, num_classes=4).names == ["car", "train", "bird", ""]
    assert count_classes(path, num_classes=2).names == ["car", "train"]
    found = count_classes(path, ignore_index=0)
    assert (found.counts, found.images) == ([0, 1, 0], [0, 1, 0])


@pytest.mark.parametrize(("depth", "kind"), [(1, 0), (8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3)])
def test_masks_hold_the_samples_of_the_file(tmp_path: Path, small_blocks: list[int], depth: int, kind: int) -> None:
    labels = np.random.default_rng(0).integers(0, min(2**depth, 300), (11, 13))
    found = count_classes(write_png(tmp_path / "a.png", labels, depth=depth, kind=kind))
    assert (found.counts, found.images) == expected(labels[None])
    assert max(small_blocks) <= 64


def test_a_folder_of_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 5 - i, (9, 7 + i)) for i in range(3)]
    for mask, name in zip(masks, ("b.png", "train/x/a.PNG", "train/b.png"), strict=True):
        write_png(tmp_path / name, mask)
    (tmp_path / "image.jpg").write_bytes(b"no mask")
    (tmp_path / "._b.png").write_bytes(b"of macOS")
    found = count_classes(tmp_path, num_classes=6)
    counts = [expected(mask[None], 6) for mask in masks]
    assert found.counts == np.sum([c for c, _ in counts], 0).tolist()
    assert found.images == np.sum([i for _, i in counts], 0).tolist()
    assert found.source == str(tmp_path)


def test_only_one_mask_is_open_at_a_time(tmp_path: Path) -> None:
    for index in range(40):
        write_png(tmp_path / f"{index}.png", np.full((400, 400), index % 3))
    tracemalloc.start()
    try:
        count_classes(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 400 * 400  # one mask in uint8 and in int64


def test_large_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Pillow takes for an attack on its memory is the size of a mask from a satellite."""
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert count_classes(write_png(tmp_path / "a.png", np.zeros((9, 9), int))).counts == [81]


def test_progress(tmp_path: Path, small_blocks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losses_core._label_sources.ROWS", 10)
    opened: list[tuple[int, list[str]]] = []

    @contextmanager
    def progress(total: int) -> Any:
        opened.append((total, []))
        yield opened[-1][1].append

    np.save(tmp_path / "a.npy", np.zeros((3, 10, 10), int))
    write_png(tmp_path / "m" / "a.png", [[0]])
    write_png(tmp_path / "m" / "b.png", [[0]])
    for name in ("a.npy", "m"):
        count_classes(tmp_path / name, progress=progress)
    assert opened[0] == (6, ["a.npy, label " + str(start) for start in (0, 64, 100, 164, 200, 264)])
    assert opened[1] == (2, ["a.png", "b.png"])
    count_classes(write_csv(tmp_path / "a.csv", [0] * 5000), progress=progress)
    assert opened[2][0] == 100
    assert len(opened[2][1]) == 100


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
    assert fault(tmp_path / name) == f"reading it needs {missing}: pip install losses-core[cli]"


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5).flatmap(
        lambda counts: st.builds(
            ClassStatistics,
            st.just(counts),
            st.just(counts),
            st.none() | st.lists(st.text(), min_size=len(counts), max_size=len(counts)),
            st.text(),
        )
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_statistics_come_back(tmp_path: Path, statistics: ClassStatistics) -> None:
    path = tmp_path / "stats.json"
    path.write_text(statistics.to_json(), encoding="utf-8")
    assert read_statistics(path) == statistics
    keys = {"counts", "images", "names", "num_classes", "source"}
    assert json.loads(path.read_text()).keys() == keys


def test_weights() -> None:
    statistics = ClassStatistics([5, 0, 2], [1, 0, 1])
    for method in ("inverse", "sqrt_inverse", "effective_num", "median_freq"):
        options: dict[str, Any] = {"method": method, "beta": 0.9, "normalize": "mean"}
        labels = [0] * 5 + [2] * 2
        assert torch.equal(statistics.weights(**options), get_class_weight(labels, num_classes=3, **options))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "cannot be read: Expecting value"),
        ("[1, 2]", "expected what `losses weights --out` writes, a JSON mapping with 'counts'."),
        ('{"type": "DiceLoss"}', "a JSON mapping with 'counts'."),
        (
            '{"counts": [1], "conts": [2]}',
            "unknown key 'conts'. Did you mean 'counts'? It may have: counts, images, nam",
        ),
        ('{"counts": []}', "counts: expected a list of integers >= 0, one per class; got []."),
        ('{"counts": 3}', "one per class; got 3."),
        ('{"counts": [1, -1]}', "one per class; got -1 at [1]."),
        ('{"counts": [1, 0.5]}', "one per class; got 0.5 at [1]."),
        ('{"counts": [true]}', "one per class; got True at [0]."),
        ('{"counts": [9223372036854775808]}', "at [0]."),
        ('{"counts": [NaN]}', "got nan at [0]."),
        ('{"counts": [1, 2], "images": [1]}', "images: expected a list of 2 integers >= 0, one per class; got [1]."),
        ('{"counts": [1, 2], "names": ["a"]}', "names: expected null or 2 strings, one per class."),
        ('{"counts": [1, 2], "names": [1, 2]}', "names: expected null or 2 strings"),
        ('{"counts": [1, 2], "num_classes": 3}', "num_classes: expected 2, the number of counts; got 3."),
        ('{"counts": [1, 2], "source": 3}', "source: expected a string; got 3."),
        ("[" * 100_000, "cannot be read: "),
    ],
)
def test_files_that_are_no_statistics(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "stats.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: ')}.*{re.escape(text)}"):
        read_statistics(path)


def test_statistics_of_counts_alone(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"counts": [3, 1]}')
    assert read_statistics(tmp_path / "a.json") == ClassStatistics([3, 1], [3, 1])


def test_what_never_ends_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(InputError, match="is no file"):
            read_statistics(path)
    monkeypatch.setattr("losses_core.class_statistics.MAX_BYTES", 20)
    (tmp_path / "large.json").write_text('{"counts": [3, 1, 2, 4]}')
    with pytest.raises(InputError, match="larger than 0 MiB"):
        read_statistics(tmp_path / "large.json")
