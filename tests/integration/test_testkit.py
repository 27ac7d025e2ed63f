"""The contract tells an author what to do: below each failure, and in the switches of a case."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from losses_core import LOSSES
from losses_testkit import Case, Inputs, LossContract
from losses_testkit.advice import ADVICE
from losses_testkit.case import SWITCHES

FAULTY = '''
import numpy as np
import torch
import torch.nn.functional as F
from losses_core import LOSSES, BaseLoss
from losses_testkit import Case, Inputs, LossContract


@LOSSES.register
class FaultyLoss(BaseLoss):
    """Reads the largest label."""

    def _forward(self, pred, target):
        return (pred - F.one_hot(target)).square().sum(1)


def make(generator, n):
    labels = torch.arange(n) % 3
    return Inputs(torch.randn(n, 3, generator=generator, dtype=torch.float64), labels)


def oracle(pred, target):
    value = ((pred - np.eye(3)[target]) ** 2).sum(1)
    return 2 * value, np.ones_like(value)


REASON = "its documentation is elsewhere"
CASES = [
    Case("FaultyLoss", make=make, oracle=oracle),
    Case("FaultyLoss", make=make, oracle=oracle, id="undocumented", documentation=False, why=REASON),
]


class TestContract(LossContract):
    cases = CASES


def test_of_the_author():
    raise ValueError("not of the contract")
'''


def test_every_test_has_its_advice() -> None:
    tests = {name for name in dir(LossContract) if name.startswith("test_")}
    assert set(ADVICE) == tests
    assert all(text[0].islower() or text[0] == "`" for text in ADVICE.values())
    assert all(text.endswith(".") for text in ADVICE.values())


def test_a_failure_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "test_faulty.py"
    file.write_text(FAULTY)
    chosen = "runs_on_meta and float32 or value_equals and 4 or documentation or author"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", chosen, file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    failures = {
        text.partition(" ")[0]: text for text in re.split(r"^_+ (?=Test|test)", done.stdout, flags=re.MULTILINE)
    }
    oracle = failures["TestContract.test_value_equals_the_oracle[FaultyLoss-4]"]
    assert "What to do: compare both with the paper." in oracle
    assert "convert_to_one_hot" not in oracle
    meta = failures["TestContract.test_runs_on_meta[FaultyLoss-torch.float32]"]
    assert "What to do: the loss must be one graph and must not wait for the device" in meta
    assert "use `losses_core.convert_to_one_hot(labels, num_classes)`" in meta
    assert "What to do: add what is missing" in failures["TestContract.test_documentation_is_complete[FaultyLoss]"]
    assert "TestContract.test_documentation_is_complete[FaultyLoss-undocumented]" not in failures
    assert "What to do" not in failures["test_of_the_author"]
    assert "its documentation is elsewhere" in done.stdout


def test_the_page_has_every_field(root: Path) -> None:
    page = (root / "docs" / "reference" / "testkit.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\|", page, re.MULTILINE))
    expected = {}
    for field in dataclasses.fields(Case):
        if field.default_factory is not dataclasses.MISSING:
            expected[field.name] = repr(field.default_factory())
        elif field.default is dataclasses.MISSING:
            expected[field.name] = ""
        else:
            expected[field.name] = getattr(field.default, "__name__", repr(field.default))
    assert {name: default for name, default in described.items() if name in expected} == expected


def test_the_readme_runs(root: Path, tmp_path: Path) -> None:
    """Its test module passes, but for the check that the package `my-losses` is installed."""
    text = (root / "tests" / "testkit" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_readme_of_the_kit.py").write_text(code)
    chosen = "value_equals or gradient_is or a_weight or documentation or has_a_case"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"^1 failed, [5-9] passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "my-losses declares no loss: is it installed?" in done.stdout


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_needs_a_reason(switch: str) -> None:
    def make(generator: torch.Generator, n: int) -> Inputs:
        raise NotImplementedError

    loss = next(iter(LOSSES))
    with pytest.raises(ValueError, match=f"{switch} switched off: give the reason in `why`"):
        Case(loss, make=make, oracle=lambda: None, **{switch: False})
    assert Case(loss, make=make, oracle=lambda: None, why="because", **{switch: False}).why == "because"
