"""`losses doctor --device`: what it compares with, what it calls a fault, and that a fault stops no other loss."""

import json
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_core import LOSSES, BaseLoss, examples
from losses_core._cli import main
from losses_core._device_check import CpuRandom, answers, dtypes_of, tolerance
from losses_core.kernels import definition, definition_of, kernel

from .example_losses import EXAMPLE_LOSSES, CurvedLoss, ErrorLoss
from .small_losses import GapLoss
from .test_cli_probe import Terminal

pytestmark = pytest.mark.usefixtures("losses")

SOUND = [cls for cls in EXAMPLE_LOSSES if cls.__name__ != "FailingLoss"]


@pytest.fixture(autouse=True)
def registered(losses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "_registered", {})
    for cls in SOUND:
        LOSSES.register(cls)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Any:
    """Status, and name → what was found."""

    def run(*arguments: str) -> Any:
        status = main(["doctor", *arguments, "--device", "cpu", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["sound"] == (not status)
        return status, {loss["loss"]: loss for loss in found["checks"]}

    return run


def with_kernel(change: Any, mean: Any = None) -> type[BaseLoss]:
    """A loss whose kernel gives the right value, and the gradient that `change` makes of the right one."""

    @definition(layout="elements", mean=mean)
    def squared(pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).square()

    @kernel(squared)
    def squared_kernel(x: Tensor, target: Tensor, *, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
        error = x - target
        return error.square(), change(2 * error) if needs_grad else None

    class KernelLoss(BaseLoss):
        example = examples.VALUES
        function = squared

    LOSSES.register(KernelLoss, replace=True)
    return KernelLoss


def test_sound_losses(check: Any) -> None:
    with_kernel(lambda grad: grad)
    status, found = check()
    assert status == 0
    assert found.keys() == {*(cls.__name__ for cls in SOUND), "KernelLoss"}
    for loss in found.values():
        assert loss["verdict"] == "ok"
        assert loss["deviations"].keys() == {"float32", "float64"}
    curved = found["CurvedLoss"]["deviations"]
    inputs = CurvedLoss.example.inputs(CurvedLoss())
    exact = (inputs.pred.double() - inputs.target.double()).square().mean()
    value = (inputs.pred - inputs.target).square().mean().double()
    assert curved["float32"]["value"] == pytest.approx(float((value - exact).abs() / exact), rel=1e-9)
    assert 0 < curved["float32"]["gradient"] < 1e-6
    assert curved["float64"] == {"value": 0, "gradient": 0}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda grad: 2 * grad, "gradient in float32, gradient in float64"),
        (lambda grad: (1 + 1e-4) * grad, "gradient in float32, gradient in float64"),
        (lambda grad: (1 + 1e-9) * grad, "gradient in float64"),
        (lambda grad: torch.where(grad == grad.max(), torch.nan, grad), "gradient in float32, gradient in float64"),
        (torch.zeros_like, "gradient in float32, gradient in float64"),
    ],
)
def test_a_wrong_gradient(check: Any, change: Any, where: str) -> None:
    with_kernel(change)
    status, found = check()
    assert status == 1
    assert found["KernelLoss"]["verdict"] == f"deviates: {where}"
    assert found["KernelLoss"]["deviations"]["float64"]["value"] == 0
    assert [loss["verdict"] for name, loss in found.items() if name != "KernelLoss"] == ["ok"] * len(SOUND)


def test_a_wrong_value(check: Any) -> None:
    cls = with_kernel(lambda grad: grad)
    kernels = definition_of(cls.function).kernels  # type: ignore[arg-type]  # it has one

    @kernel(cls.function)  # type: ignore[arg-type]
    def shifted(x: Tensor, target: Tensor, *, needs_grad: bool) -> tuple[Tensor, Tensor | None]:
        value, grad = kernels[0].function(x, target, needs_grad=needs_grad)
        return value + 1e-3, grad

    assert check("Kernel*")[1]["KernelLoss"]["verdict"] == "deviates: value in float32, value in float64"


def test_the_kernel_of_large_inputs(check: Any) -> None:
    """Torch's own operator has the mean of the small inputs that are tried; the kernel is tried as well."""
    with_kernel(lambda grad: 2 * grad, mean=torch.nn.functional.mse_loss)
    status, found = check("KernelLoss")
    assert (status, found["KernelLoss"]["verdict"][:8]) == (1, "deviates")
    with_kernel(lambda grad: grad, mean=lambda pred, target: 2 * torch.nn.functional.mse_loss(pred, target))
    assert check("KernelLoss")[0] == 1


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with_kernel(lambda grad: 2 * grad)
    LOSSES.register(EXAMPLE_LOSSES[-1])  # FailingLoss
    LOSSES.register(GapLoss)  # has no example
    LOSSES.register(ErrorLoss, name="OtherErrorLoss")
    assert main(["doctor", "--device", "cpu"]) == 1
    text = capsys.readouterr().out
    assert "cpu against the CPU in float64; allowed: 3.1e-05 in float32, 5.7e-14 in float64\n" in text
    table = text.split("\n\n")[-2].splitlines()
    assert table[0].split() == ["value", "gradient", "value", "gradient"]
    assert table[1].split() == ["loss", "float32", "float32", "float64", "float64", "verdict"]
    rows = {line.split()[0]: line.split() for line in table[2:]}
    assert rows["GapLoss"][1:] == ["skipped:", "it", "declares", "no", "example"]
    assert rows["FailingLoss"][1:4] == ["RuntimeError:", "shape", "'[3]'"]
    assert rows["KernelLoss"][2:5] == ["1.0e+00", "0.0e+00", "1.0e+00"]
    assert rows["ErrorLoss"][1:] == rows["OtherErrorLoss"][1:]
    assert rows["ErrorLoss"][5] == "ok"
    assert text.endswith(f"\n{len(SOUND) + 4} losses: {len(SOUND) + 1} ok, 2 faulty, 1 skipped.\n")


def test_tolerance() -> None:
    """The figures of --help and of the page."""
    assert [f"{tolerance(dtype):.1e}" for dtype in (torch.float32, torch.float64)] == ["3.1e-05", "5.7e-14"]


def test_help_states_the_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "3.1e-05 in float32, 5.7e-14 in float64" in " ".join(capsys.readouterr().out.split())


def test_pattern(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("*ERROR*")[1].keys() == {"ErrorLoss"}
    assert main(["doctor", "banana", "--device", "cpu"]) == 1
    assert capsys.readouterr().err == "losses: no installed loss matches 'banana'.\n"


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps", "xpu", "cpu:1"])
def test_a_device_that_is_not_there(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: False)
    assert main(["doctor", "--device", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    expected = f"losses: --device {name}: not available. torch {torch.__version__} sees cpu."
    assert printed.err.startswith(expected)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "meta", ""])
def test_a_word_that_is_no_device(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--device", name])
    assert caught.value.code == 2
    assert "expected cpu, cuda, mps, xpu, or one with a number, as cuda:1" in capsys.readouterr().err


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["doctor", "--device", "cuda:2"]) == 2
    assert "sees cpu, cuda:0, cuda:1" in capsys.readouterr().err


def test_a_device_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After an error that leaves a device unusable, the losses that are left are not run."""
    assert answers(torch.device("cpu"))
    assert not answers(torch.device("meta"))
    monkeypatch.setattr("losses_core._device_check.answers", lambda device: False)
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    capsys.readouterr()
    LOSSES.register(EXAMPLE_LOSSES[-1])  # FailingLoss
    assert main(["doctor", "--device", "cpu", "--json"]) == 1
    found = {loss["loss"]: loss["verdict"] for loss in json.loads(capsys.readouterr().out)["checks"]}
    assert found["ErrorLoss"] == "ok"
    assert found["LabelledLoss"] == "not run: the device does not answer after FailingLoss"


def test_without_float64(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert dtypes_of(torch.device("cpu")) == (torch.float32, torch.float64)
    assert dtypes_of(torch.device("meta")) == (torch.float32,)  # raises, as MPS does
    for module in ("_device_check", "_cli._doctor_device"):
        monkeypatch.setattr(f"losses_core.{module}.dtypes_of", lambda device: (torch.float32,))
    assert main(["doctor", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "allowed: 3.1e-05 in float32\n" in text
    assert text.split("\n\n")[-2].splitlines()[1].split() == ["loss", "float32", "float32", "verdict"]


class NoisyLoss(BaseLoss):
    """Draws in every way."""

    example = examples.VALUES

    def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
        noise = torch.rand(pred.shape, dtype=pred.dtype, device=pred.device) + torch.rand_like(pred)
        noise = noise + torch.empty_like(pred).uniform_() + torch.randn(pred.shape).to(pred)
        noise = noise + torch.bernoulli(torch.full_like(pred, 0.5)) + torch.nn.functional.dropout(noise)
        index = torch.randperm(len(pred), device=pred.device)
        other = torch.randint(len(pred), (len(pred),), device=pred.device)
        return (pred[index] - target[other]).square() * noise


def test_random_numbers_are_the_same_in_every_precision(check: Any) -> None:
    LOSSES.register(NoisyLoss)
    assert check("NoisyLoss")[1]["NoisyLoss"]["verdict"] == "ok"


def test_random_numbers_keep_dtype_and_device() -> None:
    with CpuRandom():  # type: ignore[no-untyped-call]
        assert torch.rand(2, dtype=torch.float64).dtype == torch.float64
        assert torch.randint(3, (2,), dtype=torch.int32).dtype == torch.int32
        x = torch.zeros(3, dtype=torch.float64)
        assert x.normal_() is x
        assert bool((x == x.float()).all() and (x != 0).all())
        assert torch.rand(2, generator=torch.Generator().manual_seed(0)).dtype == torch.float32


def test_warnings_of_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    class WarningLoss(ErrorLoss):
        def _forward(self, pred: Tensor, target: Tensor) -> Tensor:
            warnings.warn("falls back to the CPU", UserWarning, stacklevel=1)
            return super()._forward(pred, target)

    LOSSES.register(WarningLoss)
    assert main(["doctor", "--device", "cpu"]) == 0
    assert capsys.readouterr().err == "warning: falls back to the CPU\n"


def test_state_of_the_process_is_left_alone(check: Any) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cudnn.allow_tf32


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("losses_core._cli._output.PATIENCE", -1.0)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert main(["doctor", "--device", "cpu"]) == 0
    assert f"0 of {len(SOUND)} done, now AdaptedLoss" in terminal.getvalue()
