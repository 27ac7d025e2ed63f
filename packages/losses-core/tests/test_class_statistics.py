"""Counting the classes of a data set: the counts of NumPy, in bounded memory."""

import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from losses_core import InputError
from losses_core.class_statistics import ClassStatistics, count_classes

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
        with pytest.raises(InputError, match="which is ignored"):
            count_classes(tmp_path / "labels.npy", ignore_index=ignore, num_classes=classes)
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
