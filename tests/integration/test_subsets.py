"""Any subset of the plug-ins works: it shows its losses, loads them, and explains what is missing."""

from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]

SUBSET = """
import json, sys
from losses_core import LOSSES, LossesError

def packages():
    return sorted({m.partition(".")[0] for m in sys.modules if m.startswith("losses")})

names, at_start = sorted(LOSSES), packages()
broken = {name: str(error) for name, error in LOSSES.load_all().items()}
missing = {}
for name in sys.argv[1:]:
    try:
        LOSSES[name]
    except LossesError as error:
        missing[name] = [type(error).__name__, str(error)]
print(json.dumps([names, at_start, broken, packages(), missing]))
"""

COMMAND = """
import contextlib, io, json, sys
from losses_core.__main__ import main

printed, code = io.StringIO(), 0
with contextlib.redirect_stdout(printed):
    try:
        code = main()
    except SystemExit as done:
        code = done.code
print(json.dumps([code or 0, printed.getvalue(), [m for m in sys.modules if m.startswith("losses_")]]))
"""


def test_subset_of_plugins(subset: tuple[str, ...], plugins: dict[str, dict[str, str]], run: Run) -> None:
    absent = {name: plugin for plugin in plugins if plugin not in subset for name in plugins[plugin]}
    names, at_start, broken, loaded, missing = run(SUBSET, ("losses-core", *subset), *absent)
    assert names == sorted(name for plugin in subset for name in plugins[plugin])
    assert at_start == ["losses_core"], "the registry must know all names without importing a plug-in"
    assert broken == {}
    assert loaded == sorted(["losses_core", *(plugin.replace("-", "_") for plugin in subset)])
    assert missing == {
        name: [
            "LossNotInstalledError",
            f"{name!r} is provided by {plugin}, which is not installed: "
            f"pip install ./packages/{plugin} in the checkout",
        ]
        for name, plugin in absent.items()
    }


def test_doctor_passes(subset: tuple[str, ...], run: Run) -> None:
    code, printed, _ = run(COMMAND, ("losses-core", *subset), "doctor", "--strict")
    assert code == 0, printed


def test_list_imports_no_plugin(plugins: dict[str, dict[str, str]], run: Run) -> None:
    code, printed, modules = run(COMMAND, ("losses-core", *plugins), "list")
    assert code == 0
    for plugin, losses in plugins.items():
        for name in losses:
            assert any(name in line.split() and plugin in line for line in printed.splitlines()), name
    assert {module.partition(".")[0] for module in modules} == {"losses_core"}


def test_extras_are_optional(run: Run) -> None:
    """Without them a JSON config builds, and a YAML file is answered with what to install."""
    code = """
import json, sys
sys.modules["yaml"] = sys.modules["rich"] = None  # as if not installed
import pathlib, tempfile
from losses_core import LossesError, build_loss, load_config
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a.json").write_text('{"loss": {"type": "FocalLoss"}}')
(folder / "a.yaml").write_text("loss: {type: FocalLoss}")
built = type(build_loss(load_config(folder / "a.json"))).__name__
try:
    load_config(folder / "a.yaml")
except (LossesError, ImportError) as error:
    print(json.dumps([built, str(error)]))
"""
    built, text = run(code, ("losses-core", "losses-cls"))
    assert built == "FocalLoss"
    assert "pip install PyYAML" in text


def test_import_is_light(run: Run, record_property: Callable[[str, object], None]) -> None:
    """`from losses_core import build_loss` brings nothing but itself and the standard library on top of torch."""
    code = """
import json, sys, time, torch
before, start = set(sys.modules), time.process_time()  # of this process: others may be busy
from losses_core import build_loss  # the package alone imports nothing yet
cost = time.process_time() - start
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps([sorted(new - set(sys.stdlib_module_names)), cost]))
"""
    costs = []
    for _ in range(3):
        packages, cost = run(code, ("losses-core", "losses-cls"))
        assert packages == ["losses_core"]
        costs.append(cost)
    record_property("import losses_core", f"{min(costs) * 1e3:.1f} ms of CPU on top of torch (aim: at most 10 ms)")
