"""`class_weight: {from: stats.json, …}` in a config: the weights of `get_class_weight`, and then numbers alone."""

import json
from pathlib import Path
from typing import Any, Unpack

import pytest
from jsonschema import Draft7Validator

from losses_core import (
    LOSSES,
    BaseLoss,
    CombinedLoss,
    LossesError,
    LossOptions,
    build_loss,
    get_class_weight,
    load_config,
)
from losses_core._cli import main
from losses_core.builder import find_faults
from losses_core.schema import config_schema

from .conftest import only_fault

pytestmark = pytest.mark.usefixtures("losses")

COUNTS = [6, 0, 3, 1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with statistics in it and in a subfolder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "stats.json").write_text(json.dumps({"counts": COUNTS}))
    (tmp_path / "configs" / "stats.json").write_text(json.dumps({"counts": [1, 1, 2]}))
    return tmp_path


def spec(**class_weight: Any) -> dict[str, Any]:
    return {"type": "SizedLoss", "channels": 2, "class_weight": class_weight}


def weights_of(config: Any) -> Any:
    return build_loss(config).class_weight


OPTIONS: list[dict[str, Any]] = [
    {},
    {"method": "sqrt_inverse"},
    {"method": "effective_num"},
    {"method": "effective_num", "beta": 0.9, "normalize": "mean"},
    {"method": "median_freq", "normalize": None},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights(folder: Path, options: dict[str, Any]) -> None:
    config = spec(**{"from": "stats.json"}, **options)
    before = json.dumps(config)
    loss = build_loss(config)
    assert json.dumps(config) == before
    assert loss.class_weight == get_class_weight(counts=COUNTS, **options).tolist()
    assert loss.to_config()["class_weight"] == loss.class_weight
    assert json.loads(json.dumps(loss.to_config())) == loss.to_config()
    assert build_loss(loss.to_config()).to_config() == loss.to_config()
    assert "stats.json" not in repr(loss)
    Draft7Validator(config_schema()).validate(config)


def test_anywhere_in_a_config(folder: Path) -> None:
    numbers = get_class_weight(counts=COUNTS).tolist()
    config = {
        "a": ["SquareLoss", spec(**{"from": Path("stats.json")})],
        "b": spec(**{"from": str(folder / "stats.json")}),
    }
    loss = build_loss(config)
    assert isinstance(loss, CombinedLoss)
    assert loss["b"].class_weight == loss["a"]["sized"].class_weight == numbers  # type: ignore[index,union-attr]


def test_beta_as_yaml_leaves_it(folder: Path) -> None:
    config = spec(**{"from": "stats.json", "method": "effective_num", "beta": "9e-1"})
    assert weights_of(config) == get_class_weight(counts=COUNTS, method="effective_num", beta=0.9).tolist()
    Draft7Validator(config_schema()).validate(config)


@pytest.mark.parametrize("key", ["loss", "train.loss", None])
@pytest.mark.parametrize("relative", [True, False])
def test_the_path_is_relative_to_the_config_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, relative: bool
) -> None:
    content: Any = {"b": [spec(**{"from": "stats.json"})], "c": spec(**{"from": "../stats.json"})}
    for part in reversed(key.split(".") if key else ()):
        content = {part: content}
    path = folder / "configs" / "loss.json"
    path.write_text(json.dumps(content))
    config = load_config(path.relative_to(folder) if relative else path, key)
    monkeypatch.chdir(folder.parent)  # as some frameworks do
    loss = build_loss(config)
    assert loss["b"]["sized"].class_weight == get_class_weight(counts=[1, 1, 2]).tolist()  # type: ignore[index]
    assert loss["c"].class_weight == get_class_weight(counts=COUNTS).tolist()  # type: ignore[index]
    assert config["c"]["class_weight"]["from"] == str(folder / "configs" / ".." / "stats.json")


def test_an_alias_of_yaml_is_one_path(folder: Path) -> None:
    pytest.importorskip("yaml")
    path = folder / "configs" / "loss.yaml"
    path.write_text(
        "loss:\n- &a {type: SizedLoss, channels: 2, class_weight: &w {from: stats.json}}\n- *a\n"
        "- {type: SizedLoss, channels: 1, class_weight: *w}\nother: *w"
    )
    for key in ("loss", None):
        config = load_config(path, key)
        config = config if key else config["loss"]
        assert [entry["class_weight"]["from"] for entry in config] == [str(folder / "configs" / "stats.json")] * 3
        build_loss(config)


def test_other_mappings_of_a_file_are_as_written(folder: Path) -> None:
    content = {
        "class_weight": {"to": "stats.json"},
        "from": "stats.json",
        "a": [{"class_weight": ["from"]}, {"class_weight": {"from": 3}}, {"class_weight": None}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    assert load_config("a.json", None) == content


def test_a_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from losses_core import class_statistics

    read = []
    load = class_statistics._load
    monkeypatch.setattr(class_statistics, "_load", lambda file: (read.append(file), load(file))[1])
    build_loss([spec(**{"from": "stats.json"})] * 3)
    assert read == [Path("stats.json")]
    (folder / "stats.json").write_text('{"counts": [1, 1]}')
    assert weights_of(spec(**{"from": "stats.json"})) == [1.0, 1.0]


WRITTEN = "`losses weights SOURCE --out FILE` writes such a file."
EXPECTED = "expected one of 'inverse', 'sqrt_inverse', 'effective_num', 'median_freq'"


@pytest.mark.parametrize(
    ("class_weight", "text"),
    [
        ({}, ": expected a list of numbers, or a mapping with 'from', which names what `losses weights --out` wrote."),
        ({"from": "stats.json", "metod": "inverse"}, ".metod: class_weight has no key 'metod'. Did you mean 'method'?"),
        ({"from": "stats.json", 3: 1}, "[3]: class_weight has no key 3. It has: from, method, beta, normalize."),
        ({"from": "stats.json", "method": "invers"}, f".method: {EXPECTED}; got 'invers'. Did you mean 'inverse'?"),
        ({"from": "stats.json", "method": ["inverse"]}, f".method: {EXPECTED}; got ['inverse']."),
        ({"from": "stats.json", "beta": 1}, ".beta: expected a number >= 0 and < 1; got 1."),
        ({"from": "stats.json", "beta": "x"}, ".beta: expected a number >= 0 and < 1; got 'x'."),
        ({"from": "stats.json", "normalize": "sum"}, ".normalize: expected None or 'mean'; got 'sum'."),
        ({"from": 3}, ".from: expected the path of a file, got 3."),
        ({"from": "stat.json"}, f".from: stat.json: cannot be read: No such file or directory. {WRITTEN}"),
        (
            {"from": "loss.json"},
            f".from: loss.json: expected what `losses weights --out` writes, a JSON mapping with 'counts'. {WRITTEN}",
        ),
        (
            {"from": "secret.txt"},
            f".from: secret.txt: cannot be read: Expecting value: line 1 column 1 (char 0). {WRITTEN}",
        ),
        ({"from": "a\0b"}, f".from: a\\x00b: cannot be read: embedded null byte. {WRITTEN}"),
    ],
)
def test_faults(folder: Path, class_weight: dict[Any, Any], text: str) -> None:
    (folder / "loss.json").write_text('{"type": "SizedLoss"}')
    (folder / "secret.txt").write_text("password")
    config = {"a": {"type": "SizedLoss", "channels": 2, "class_weight": class_weight}}
    assert only_fault(config) == f"loss.a.class_weight{text}"


def test_a_schema_refuses_what_is_faulty(folder: Path) -> None:
    schema = Draft7Validator(config_schema())
    good = {"from": "stats.json"}
    for options in ({"metod": 1}, {"method": "invers"}, {"beta": 1}, {"beta": "x"}, {"normalize": 1}, {"from": 3}):
        config = spec(**(good | options))
        assert find_faults(config)
        assert not schema.is_valid(config)
    assert not schema.is_valid(spec())
    for weights in ([1, 2], None):
        schema.validate({"type": "SizedLoss", "channels": 2, "class_weight": weights})


def test_check_tells_all_faults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "configs" / "loss.json"
    path.write_text(json.dumps({"loss": [spec(**{"from": "stats.json"}), spec(**{"from": "../stats.json"})]}))
    assert main(["check", str(path)]) == 0
    faulty = [spec(**{"from": "s.json", "beta": 2, "method": "x"}), spec(form="stats.json"), {"type": "SizedLoss"}]
    path.write_text(json.dumps({"loss": faulty}))
    capsys.readouterr()
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "loss[0].class_weight.method",
        "loss[0].class_weight.beta",
        "loss[0].class_weight.from",
        "loss[1].class_weight.form",
        "loss[1].class_weight",
        "loss[2]",
    ]
    assert f"loss[0].class_weight.from: {folder / 'configs' / 's.json'}: cannot be read: No such file" in lines[2]


def test_a_device_is_not_read(folder: Path) -> None:
    assert "/dev/zero: is no file" in only_fault(spec(**{"from": "/dev/zero"}))


class NamedLoss(BaseLoss):
    """A loss whose class weights are a mapping."""

    def __init__(self, class_weight: dict[str, float] | None = None, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.class_weight = class_weight

    def _forward(self, pred: Any, target: Any) -> Any:
        return pred


def test_a_loss_whose_class_weights_are_a_mapping_gets_it() -> None:
    LOSSES.register(NamedLoss)
    config = {"type": "NamedLoss", "class_weight": {"cat": 1.0}}
    assert weights_of(config) == {"cat": 1.0}
    Draft7Validator(config_schema()).validate(config)


def test_a_parameter_of_another_name_takes_no_statistics(folder: Path) -> None:
    with pytest.raises(LossesError):
        build_loss({"type": "GapLoss", "eps": "stats.json"})
    assert build_loss({"type": "GapLoss", "alpha": {"from": "stats.json"}}).alpha == {"from": "stats.json"}
