"""Files of statistics, and the weights that follow from them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from losses_core import InputError, get_class_weight
from losses_core.class_statistics import ClassStatistics, read_statistics


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
