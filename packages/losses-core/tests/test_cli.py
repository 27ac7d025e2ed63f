"""The command line: what it prints, where, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from losses_core import LOSSES, __version__
from losses_core._cli import COMMANDS, main
from losses_core.schema import config_schema
from losses_testkit.fake_distributions import FakeSite

from .conftest import GROUP, install

pytestmark = pytest.mark.usefixtures("losses")


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str, name: str = "a.json") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_json(site: FakeSite, config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What a program reads, of the commands that print for people."""
    install(site, "acme-seg", "DiceLoss", version="0.3.0")
    LOSSES.refresh()

    def printed(*arguments: str) -> Any:
        status = main([*arguments, "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, found = printed("list", "*dice*")
    assert (status, [loss["name"] for loss in found]) == (0, ["DiceLoss"])
    assert (found[0]["distribution"], found[0]["version"], found[0]["loaded"]) == ("acme-seg", "0.3.0", False)

    status, found = printed("show", "SizedLoss")
    assert (status, found["name"], found["distribution"]) == (0, "SizedLoss", None)
    assert found["parameters"]["channels"] == {"type": "integer"}
    assert found["parameters"]["mode"] == {"enum": ["a", "b"], "default": "a"}
    assert found["call"][-2:] == ["mask", "power"]
    assert found["documentation"].startswith("A loss with a required parameter")

    path = config('{"loss": [{"type": "GapLoss", "ep": 1}, "GapLos"]}')
    status, found = printed("check", path)
    assert (status, found["valid"], found["file"]) == (1, False, path)
    assert [fault["path"] for fault in found["faults"]] == ["loss[0].ep", "loss[1]"]
    assert found["faults"][0]["text"] == "GapLoss has no parameter 'ep'."
    assert found["faults"][0]["hint"] == "Did you mean 'eps'?"
    assert printed("check", config('"GapLoss"'), "--key=") == (0, {"file": path, "valid": True, "faults": []})
    status, found = printed("check", "missing.json")
    assert (status, found["valid"], len(found["faults"])) == (1, False, 1)

    status, found = printed("doctor")
    assert (status, found["sound"], found["errors"], found["losses"]) == (0, True, [], {"acme-seg": 1})
    assert found["versions"]["acme-seg"] == "0.3.0"
    site.install("acme-det", {"CIoULoss": "fake_gone:CIoULoss"}, group=GROUP)
    LOSSES.refresh()
    status, found = printed("doctor")
    assert (status, found["sound"], len(found["errors"])) == (1, False, 1)


def test_schema(site: FakeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("acme-det", {"CIoULoss": "fake_gone:CIoULoss"}, version="0.3.0", group=GROUP)
    LOSSES.refresh()
    assert main(["schema"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == config_schema("loss")
    assert printed.err.startswith("losses: left out: 'CIoULoss' is declared by acme-det 0.3.0")
    file = tmp_path / "losses.schema.json"
    assert main(["schema", "--key", "", "-o", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: written\n"
    assert json.loads(file.read_text(encoding="utf-8")) == config_schema()
    assert main(["schema", "-o", str(tmp_path / "nowhere" / "a.json")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_help_says_how_an_editor_finds_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["schema", "--help"])
    assert "# yaml-language-server: $schema=losses.schema.json\n" in capsys.readouterr().out


def test_show(capsys: pytest.CaptureFixture[str], site: FakeSite) -> None:
    assert main(["show", "SizedLoss"]) == 0
    text = capsys.readouterr().out
    rows = [line.split(maxsplit=2) for line in text.splitlines()]
    assert rows[0][:1] == ["SizedLoss"]
    assert "registered in this process" in text
    assert ["channels", "int", "required"] in rows
    assert ["loss_weight", "float", "1.0"] in rows
    assert ["mode", "Literal['a',", "'b']  'a'"] in rows
    assert "Called with: pred, target, weight, avg_factor, reduction_override, mask, power." in text
    assert text.rstrip().endswith("A loss with a required parameter, learnable parts and a literal.")
    module = install(site, "acme-seg", "DiceLoss", version="0.3.0")
    LOSSES.refresh()
    assert main(["show", "acme-seg:DiceLoss"]) == 0
    assert capsys.readouterr().out.startswith(f"acme-seg:DiceLoss (acme-seg 0.3.0, {module}:DiceLoss)\n")


def test_show_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "GapLos"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("losses: 'GapLos' is not a registered loss. Did you mean 'GapLoss'?")
    assert printed.err.count("\n") == 1


def test_check(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = config('{"loss": ["GapLoss", {"type": "SizedLoss", "channels": 3}], "other": {"loss": "GapLoss"}}')
    assert main(["check", path]) == 0
    assert main(["check", path, "--key", "other.loss"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{path}: valid\n" * 2, "")
    assert main(["check", config('{"type": "GapLoss"}', "b.json"), "--key", ""]) == 0


def test_check_tells_all_faults(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = config('{"crit": [{"type": "GapLoss", "ep": 1, "eps": -1.0}, "GapLos", {"type": "SizedLoss"}]}')
    assert main(["check", path, "--key=crit"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.partition(": ")[0] for line in printed.out.splitlines()] == [
        "crit[0].ep",
        "crit[1]",
        "crit[2]",
        "crit[0]",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot be read: "),
        ('{"los": 1}', "no key 'loss'. Did you mean 'los'? It has: los. --key '' takes the whole file.\n"),
        ('"GapLoss"', "expected a mapping with the key 'loss', got 'GapLoss'. --key '' takes the whole file.\n"),
        (None, "cannot be read: "),
    ],
)
def test_check_file_that_cannot_be_read(
    config: Any, capsys: pytest.CaptureFixture[str], text: str | None, expected: str
) -> None:
    path = "missing.json" if text is None else config(text)
    assert main(["check", path]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith(f"{path}: {expected}")
    assert printed.out.count("\n") == 1


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["banana"], ["show"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"losses-core {__version__}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_extras_are_imported_where_they_are_used() -> None:
    code = (
        "import sys; from losses_core._cli import main; main(['list']);"
        "print(sorted({'rich', 'matplotlib', 'yaml', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_what_needs_no_torch(site: FakeSite) -> None:
    """Help, version, list and the parsing of arguments: neither torch nor a package of losses is imported."""
    module = install(site, "acme-seg", "DiceLoss", group="losses_core.losses")
    code = f"""
import contextlib, io, sys
sys.path.insert(0, {str(site.folder)!r})
from losses_core._cli import COMMANDS, main
def run(*arguments):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
    assert not status, arguments
    return printed.getvalue()
for arguments in (["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)):
    assert run(*arguments)
assert "DiceLoss" in run("list", "*dice*")
assert "DiceLoss" in run("list", "--json")
assert not {{"torch", "numpy", "yaml", "rich", {module!r}, {module.partition(".")[0]!r}}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_torch_does_not_warn_that_numpy_is_missing() -> None:
    code = "import sys; sys.modules['numpy'] = None; from losses_core._cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_m(tmp_path: Path) -> None:
    """As a process: output, errors and status, and a reader that stops reading."""
    command = [sys.executable, "-W", "error", "-m", "losses_core"]
    done = subprocess.run([*command, "show", "Nothing"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    with subprocess.Popen([*command, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) == 0
