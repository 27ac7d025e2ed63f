"""Configs from files: what is read, what is refused, and that nothing but a LossesError comes out."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, load_config

yaml = pytest.importorskip("yaml")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def fault(folder: Path, name: str, text: str, **options: Any) -> str:
    """The text of the error that a file gives, without the file."""
    path = write(folder, name, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


SAME = {
    "a.yaml": "loss: {type: DiceLoss, smooth: 0.5, class_weight: [1, 2]}",
    "a.yml": "loss:\n  type: DiceLoss\n  smooth: 0.5\n  class_weight:\n  - 1\n  - 2\n",
    "a.YAML": "\ufeffloss: {type: DiceLoss, smooth: 0.5, class_weight: [1, 2]}",
    "b.json": '\ufeff{"loss": {"type": "DiceLoss", "smooth": 0.5, "class_weight": [1, 2]}}',
    "a.json": '{"loss": {"type": "DiceLoss", "smooth": 0.5, "class_weight": [1, 2]}}',
    "a.toml": '[loss]\ntype = "DiceLoss"\nsmooth = 0.5\nclass_weight = [1, 2]\n',
}


@pytest.mark.parametrize("name", SAME)
def test_formats(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, SAME[name])
    expected = {"type": "DiceLoss", "smooth": 0.5, "class_weight": [1, 2]}
    assert load_config(path) == expected
    assert load_config(str(path), key=None) == {"loss": expected}


def test_key(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "train: {loss: DiceLoss, a.b: 1}\ntrain.x: {y: 2}")
    assert load_config(path, "train.loss") == "DiceLoss"
    assert load_config(path, "train.x") == {"y": 2}  # a key that holds a dot itself
    assert load_config(path, "train") == {"loss": "DiceLoss", "a.b": 1}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("los: 1\nmodel: 2", {}, "no key 'loss'. Did you mean 'los'? It has: los, model."),
        ("{}", {}, "no key 'loss'. It has: nothing."),
        ("", {}, "expected a mapping with the key 'loss', got None."),
        ("- 1", {}, "expected a mapping with the key 'loss', got [1]."),
        ("loss: {a: 1}", {"key": "loss.b"}, "no key 'b'. It has: a."),
        ("loss: 3", {"key": "loss.b"}, "expected a mapping with the key 'b', got 3."),
    ],
)
def test_missing_key(tmp_path: Path, text: str, options: dict[str, str], expected: str) -> None:
    assert fault(tmp_path, "a.yaml", text, **options).startswith(expected)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: .*No such file") as caught:
        load_config(tmp_path / "missing.yaml")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(ConfigError, match=r"expected a file that ends in \.yaml, \.yml, \.json, \.toml"):
        load_config(tmp_path / "config.py")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.json")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "loss: {smooth: 1, smooth: 2}", "the key 'smooth' stands twice in one mapping (line 1, column 19)"),
        ("a.yaml", "loss: 1\nloss: 2", "the key 'loss' stands twice in one mapping (line 2, column 1)"),
        ("a.yaml", 'loss: [{a: 1, "a": 2}]', "the key 'a' stands twice"),
        ("a.json", '{"loss": {"smooth": 1, "smooth": 2}}', "the key 'smooth' stands twice in one mapping."),
        ("a.toml", "loss = 1\nloss = 2", "cannot be read: "),
    ],
)
def test_repeated_keys_are_refused(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert fault(tmp_path, name, text).startswith(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "loss: [1"),
        ("a.yaml", "loss: !!python/object/apply:os.system [exit]"),
        ("a.yaml", "loss: !!python/name:os.system"),
        ("a.yaml", "loss: 1\n---\nloss: 2"),
        ("a.yaml", "loss: !!bool maybe"),
        ("a.yaml", "loss: !!timestamp x"),
        ("a.yaml", "? [1, 2]\n: 3"),
        ("a.yaml", "loss: 2024-99-99"),
        ("a.json", "{"),
        ("a.json", '{"loss": ' + "9" * 5000 + "}"),
        ("a.toml", "loss = "),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, text: str) -> None:
    assert fault(tmp_path, name, text).startswith("cannot be read: ")


@pytest.mark.parametrize("depth", [100, 20_000])
@pytest.mark.parametrize(("name", "start"), [("a.yaml", "loss: "), ("a.json", '{"loss": '), ("a.toml", "loss = ")])
def test_depth_is_bounded(tmp_path: Path, name: str, start: str, depth: int) -> None:
    text = start + "[" * depth + "]" * depth + ("}" if name == "a.json" else "")
    if depth == 100 and name != "a.yaml":
        load_config(write(tmp_path, name, text))  # harmless; the builder has a bound of its own
    else:
        assert "deep" in fault(tmp_path, name, text)


def test_yaml_depth_that_is_allowed(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, "a.yaml", "loss: " + "[" * 60 + "]" * 60))
    assert json.dumps(loaded) == "[" * 60 + "]" * 60
    # siblings do not add up
    assert len(load_config(write(tmp_path, "b.yaml", "loss: [" + "[1], " * 200 + "]"))) == 200


def test_aliases_are_read(tmp_path: Path) -> None:
    text = "base: &base {smooth: 1, type: DiceLoss}\nloss: [*base, {<<: *base, smooth: 2}]"
    loaded = load_config(write(tmp_path, "a.yaml", text))
    assert loaded == [{"smooth": 1, "type": "DiceLoss"}, {"smooth": 2, "type": "DiceLoss"}]


def test_alias_expansion_is_bounded(tmp_path: Path) -> None:
    for entry in ("[{}]", "{{<<: [{}]}}"):
        rows = ["a0: &a0 {x: 1}"]
        rows += [f"a{i}: &a{i} {entry.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 12)]
        start = time.perf_counter()
        assert fault(tmp_path, "a.yaml", "\n".join(rows)) == "its aliases expand to more than 10,000 nodes."
        assert time.perf_counter() - start < 5


def test_a_large_file_without_aliases_is_no_expansion(tmp_path: Path) -> None:
    assert len(load_config(write(tmp_path, "a.yaml", f"loss: {[1] * 12_000}"))) == 12_000


def test_an_alias_inside_what_it_names(tmp_path: Path) -> None:
    assert fault(tmp_path, "a.yaml", "loss: &a [*a]") == "an alias stands inside what it names (line 1, column 7)."


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "losses_core._yaml", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install PyYAML" in fault(tmp_path, "a.yaml", "loss: 1")
    assert load_config(write(tmp_path, "a.json", '{"loss": 1}')) == 1


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
YAML_PIECES = [
    "loss",
    ":",
    " ",
    "\n",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "<<",
    "!!",
    "!!int ",
    "!!float ",
    "'",
]
YAML_PIECES += [
    '"',
    "|",
    ">",
    "?",
    "1e-6",
    "0x",
    "1:2",
    "2024-01-01",
    "~",
    "#",
    "%",
    "---",
    "...",
    "\t",
    "!!set ",
    "=",
    "é",
]


@FUZZ
@given(text=st.lists(st.sampled_from(YAML_PIECES), max_size=25).map("".join) | st.text(max_size=60))
def test_fuzzed_yaml(tmp_path: Path, text: str) -> None:
    """Whatever stands in a file, it is read or refused with a ConfigError."""
    _load(tmp_path / "a.yaml", text)


@FUZZ
@given(
    text=st.text(alphabet='{}[]":,0123456789eE+-.truefalsn\\u \n=#', max_size=60),
    name=st.sampled_from(["a.json", "a.toml"]),
)
def test_fuzzed_json_and_toml(tmp_path: Path, text: str, name: str) -> None:
    _load(tmp_path / name, text)


@FUZZ
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_what_was_written_is_read(tmp_path: Path, value: Any) -> None:
    for name, text in (("a.json", json.dumps({"loss": value})), ("a.yaml", yaml.safe_dump({"loss": value}))):
        assert load_config(write(tmp_path, name, text)) == value


def _load(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for key in ("loss", None):
        try:
            load_config(path, key)
        except ConfigError as error:
            assert str(error).startswith(str(path))
