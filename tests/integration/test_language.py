"""The word list of the lint session finds what it lists."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_language.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_language", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "line",
    [
        "# the slope of each element",
        '"""What is left out has its default."""',
        "an ignored element costs nothing",
        "copied to the host",
        "The mass of an element.",
    ],
)
def test_a_listed_word_is_found(tool: ModuleType, line: str) -> None:
    assert [number for number, _, _ in tool.faults(f"fine\n{line}\n")] == [2]


@pytest.mark.parametrize("line", ["no host-device sync", "no host synchronization", "a slope  # language: ok"])
def test_terms_of_the_field_are_not(tool: ModuleType, line: str) -> None:
    assert not list(tool.faults(line))


def test_this_repository_has_none(tool: ModuleType) -> None:
    assert tool.main() == 0
