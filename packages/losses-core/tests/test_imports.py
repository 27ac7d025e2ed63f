"""What is imported when: the package waits with torch until a name is asked for, and its modules in any order."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import losses_core

FOLDER = Path(losses_core.__file__).parent


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_names_are_those_that_type_checkers_see() -> None:
    (block,) = [node for node in ast.parse((FOLDER / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    homes = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {*homes, "__version__"} == set(losses_core.__all__)
    for name, module in homes.items():
        assert getattr(losses_core, name) is getattr(import_module(str(module)), name)


def test_torch_is_imported_with_the_first_name() -> None:
    run(
        """
import sys, losses_core
assert losses_core.__version__ and "BaseLoss" in dir(losses_core) and not hasattr(losses_core, "banana")
assert "torch" not in sys.modules
losses_core.BaseLoss
assert "torch" in sys.modules and "build_loss" in vars(losses_core)
assert losses_core.weighting and losses_core.kernels
"""
    )


def test_a_name_that_is_not_there() -> None:
    assert "module 'losses_core' has no attribute 'BaseLos'" in run(
        """
import losses_core
try:
    losses_core.BaseLos
except AttributeError as error:
    print(error)
"""
    )


def test_every_module_can_be_the_first() -> None:
    modules = sorted(
        ".".join(("losses_core", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
        for path in FOLDER.rglob("*.py")
        if path.stem not in ("__main__", "_yaml")
    )
    assert len(modules) > 50
    run(
        f"""
import importlib, sys, torch
for name in {modules}:
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("losses_core")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    )


def test_a_kernel_is_registered_with_its_definition() -> None:
    run(
        """
from losses_core.utils.focal import sigmoid_focal
from losses_core.kernels import definition_of
assert [kernel.name for kernel in definition_of(sigmoid_focal).kernels] == [
    "losses_core._kernels.focal.sigmoid_focal_kernel"
]
"""
    )


def test_threads_that_ask_for_the_first_name() -> None:
    run(
        """
import sys, threading, losses_core
sys.setswitchinterval(1e-6)
found, start = [], threading.Barrier(8)
def ask(name):
    start.wait()
    found.append(getattr(losses_core, name))
names = ["BaseLoss", "build_loss", "LOSSES", "LayeredLoss", "debug", "reduce_loss", "ChunkedLoss", "explain"]
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 8
"""
    )
