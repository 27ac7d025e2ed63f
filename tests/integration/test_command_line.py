"""The command line over all losses of this repository: what the schema says of them, each tried and drawn."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonschema import Draft7Validator

from losses_core import LOSSES, load_config
from losses_core._cli import main
from losses_core._docstring import parameter_texts
from losses_core.builder import find_faults
from losses_core.schema import config_schema, parameter_schemas

from .test_configs import DOCUMENTED

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "configuration.md").read_text(encoding="utf-8")
PARSERS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}
BAD = [
    {"type": "FocalLos"},
    [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss", "smoth": 1.0}],
    {"type": "FocalLoss", "gamma": "two"},
    {"type": "FocalLoss", "gamma": -1},
    {"seg": {"type": "CrossEntropyLoss", "weight": [1.0, 2.0]}},
    [{"type": "CrossEntropyLoss", "label_smoothing": "high"}, {"type": "FocalLoss", "gama": 2.0}],
    [{"type": "CrossEntropyLos"}, {"type": "DiceLoss", "smoth": 1.0}],
    {"type": "CrossEntropyLoss", "weight": 1, "loss_weight": 1},
    {"type": "CrossEntropyLoss", "class_weight": [1.0, -2.0]},
    {"type": "CIoULoss", "mode": "log2"},
    {"type": "KnowledgeDistillationLoss", "kl_direction": "both"},
    {"type": "losses_cls.focal_loss.FocalLoss"},
]


def guide() -> list[Any]:
    """The configs of the guide, those that are said to be faulty left out."""
    blocks = re.findall(r"^```(yaml|json|toml)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    contents = [PARSERS[kind](text) for kind, text in blocks]
    return [content["loss"] for content in contents if "loss" in content]


GOOD = [*guide(), *(yaml.safe_load(text)["loss"] for text in DOCUMENTED.values())]
GOOD += [load_config(path) for path in sorted((ROOT / "docs" / "examples").glob("*.yaml"))]
NAMES = sorted(name for name in LOSSES if LOSSES.describe(name).distribution is not None)
NEEDED = {"LogitAdjustedCrossEntropyLoss": {"class_counts": list(range(10, 0, -1))}, "SeesawLoss": {"num_classes": 10}}
"""Parameters without a default."""


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    found = config_schema()
    Draft7Validator.check_schema(found)
    return Draft7Validator(found)


def test_the_guide_has_configs() -> None:
    assert len(guide()) > 8


@pytest.mark.parametrize("config", GOOD, ids=str)
def test_schema_accepts(schema: Draft7Validator, config: Any) -> None:
    assert not find_faults(config)
    schema.validate(config)


@pytest.mark.parametrize("config", BAD, ids=str)
def test_schema_refuses(schema: Draft7Validator, config: Any) -> None:
    assert find_faults(config)
    assert not schema.is_valid(config)


@pytest.mark.filterwarnings("ignore:MGDLoss without student_channels")
@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_choices(schema: Draft7Validator, name: str) -> None:
    """Each choice that the schema offers can be built; every parameter has a text."""
    found = parameter_schemas(LOSSES[name])
    needed = NEEDED.get(name, {})
    defaults = needed | {parameter: entry["default"] for parameter, entry in found.items() if "default" in entry}
    schema.validate({"type": name, **defaults})
    assert not find_faults({"type": name, **defaults})
    assert parameter_texts(LOSSES[name]).keys() >= found.keys()
    for parameter, entry in found.items():
        needs = {"num_samples": 9} if parameter == "mode" else {}  # a memory bank has to know its size
        for choice in [choice for arm in entry.get("anyOf", [entry]) for choice in arm.get("enum", [])]:
            given = {k: v for k, v in needs.items() if k in found} | needed
            assert not find_faults({"type": name, parameter: choice} | given)


@pytest.mark.filterwarnings("ignore:MGDLoss without student_channels")
def test_probe_every_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loss.json"
    path.write_text(json.dumps({"loss": {f"_{name}": {"type": name} | NEEDED.get(name, {}) for name in NAMES}}))
    assert main(["probe", str(path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [term["label"] for term in figures["terms"]] == [f"_{name}" for name in NAMES]
    for term in figures["terms"]:
        assert term["value"] > 0, term
        assert term["gradient"] > 0, term
        assert term["dtype"] == "float32"
        assert term["peak_bytes"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_show_prints_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert not re.findall(r"\\|``|(?<!`)`(?!`)|:\w+:`|^ *\.\. |\$", text, re.MULTILINE)
    assert "References:" in text


def test_list_describes_every_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    for loss in json.loads(capsys.readouterr().out):
        assert loss["task"] in ("classification", "detection", "segmentation", "distillation")
        assert 10 < len(loss["description"]) < 130
        cls = LOSSES[loss["name"]]
        assert (loss["alias_of"] is not None) == (cls.__name__ != loss["name"])
        assert loss["alias_of"] in (None, cls.__name__)


def test_every_loss_on_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    """Kernel against definition, and float32 against float64; no loss is skipped."""
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    found = {loss["loss"]: loss for loss in json.loads(capsys.readouterr().out)["checks"]}
    assert sorted(found) == NAMES
    for loss in found.values():
        assert loss["verdict"] == "ok"
        assert max(loss["deviations"]["float32"].values()) < 16 * torch.finfo(torch.float32).eps
        assert max(loss["deviations"]["float64"].values()) < 16 * torch.finfo(torch.float64).eps


@pytest.mark.filterwarnings("ignore:MGDLoss without student_channels")
@pytest.mark.parametrize("name", NAMES)
def test_plot(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is to be seen: the value moves along the path."""
    monkeypatch.setattr("losses_core._curves.POINTS", 8)  # 0, where many losses have no slope, is not among them
    assert main(["plot", name, "--json"]) == 0
    for line in json.loads(capsys.readouterr().out)["lines"]:
        assert max(line["value"]) - min(line["value"]) > 1e-3 * max(line["value"])
        assert any(line["gradient"])


@pytest.mark.parametrize("name", ["SeesawLoss", "CIoULoss", "DKDLoss", "DiceLoss"])
def test_probe_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] > 0


@pytest.mark.parametrize("config", [*DOCUMENTED.values()], ids=[*DOCUMENTED])
def test_probe_documented_configs(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loss.yaml"
    path.write_text(config)
    assert main(["probe", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("term")


@pytest.mark.parametrize(
    ("name", "warns"),
    [
        *((name, True) for name in ("CrossEntropyLoss", "FocalLoss", "LabelSmoothLoss", "PolyCrossEntropyLoss")),
        *((name, True) for name in ("DiceLoss", "TverskyLoss", "DiceCELoss", "LovaszLoss", "OHEMCrossEntropyLoss")),
        *((name, True) for name in ("BinaryCrossEntropyLoss", "BinaryFocalLoss", "BinaryDiceLoss", "OHEMBinaryLoss")),
        ({"type": "BinaryCrossEntropyLoss", "with_logits": False}, False),
        ({"type": "DiceLoss", "activation": "none"}, False),
    ],
    ids=str,
)
def test_probe_says_where_logits_are_probabilities(
    name: Any, warns: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logits, labels = torch.randn(2, 5, 8, 8), torch.randint(5, (2, 8, 8))
    batch = {"pred": logits.softmax(1), "target": labels}
    kind = name if isinstance(name, str) else name["type"]
    if "Binary" in kind:
        batch = {"pred": logits[:, :1].sigmoid(), "target": (labels[:, None] > 2).float()}
    torch.save(batch, tmp_path / "batch.pt")
    (tmp_path / "loss.json").write_text(json.dumps({"loss": {"term": name}}))
    assert main(["probe", str(tmp_path / "loss.json"), "--batch", str(tmp_path / "batch.pt")]) == 0
    assert ("warning: term 'term': pred looks like probabilities" in capsys.readouterr().err) == warns
