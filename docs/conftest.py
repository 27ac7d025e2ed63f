"""Every code block of the pages is run: `pytest docs`.

`python` blocks run in order, the names of one page shared; what the comment after `print(…)  # ` shows must be printed.
`pycon` blocks are sessions with their output. `yaml`, `json` and `toml` blocks that hold a `loss` are read and built.
A block whose first line is a comment with a file's name, `# loss.yaml`, is written under that name (and, of Python, not
run before a `console` block does it). Each `$ losses …` and `$ python …` of a `console` block is run and must print the
lines below it. `bash` blocks install things and are not run, `text` blocks hold no code. Each page runs in an empty
folder of its own.
"""

import contextlib
import doctest
import functools
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.abstract import DocTestStringParser
from sybil.parsers.myst import CodeBlockParser

from losses_core import LOSSES, build_loss, load_config
from losses_core.__main__ import main

collect_ignore = ["examples"]  # programs with tests of their own
if importlib.util.find_spec("mmengine") is None:  # `nox -s interop` has the frameworks
    collect_ignore.append("frameworks")

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
CONFIGS = ("yaml", "json", "toml")
RUN = ("python", "pycon", "console", *CONFIGS)
NOT_RUN = ("bash", "text")
PRINTS = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)
FILE = re.compile(r"(?:#|//) ([\w.-]+\.\w+)\n")
FENCES = re.compile(r"^(`{3,})([^`\n]*)\n.*?^\1$", re.MULTILINE | re.DOTALL)


def compare(expected: str, printed: str) -> str:
    """Nothing, or what differs."""
    if doctest.OutputChecker().check_output(expected, printed, FLAGS):
        return ""
    return f"expected:\n{expected}\nprinted:\n{printed}"


def python(example: Example) -> str:
    if file := FILE.match(example.parsed):
        return write(file[1], example.parsed)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    return compare("".join(f"{line}\n" for line in PRINTS.findall(example.parsed)), printed.getvalue())


def config(language: str, example: Example) -> str:
    file = FILE.match(example.parsed)
    name = file[1] if file else f"block.{language}"
    # JSON has no comments: the line with the name is for the reader
    write(name, example.parsed[file.end() :] if file and language == "json" else example.parsed)
    content = load_config(name, key=None)
    if "loss" in content:
        build_loss(content["loss"])
    return ""


def write(name: str, text: str) -> str:
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return ""


def console(example: Example) -> str:
    faults = []
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", example.parsed, re.MULTILINE):
        program, *arguments = shlex.split(command, comments=True)
        faults.append(compare(expected, COMMANDS[program](arguments)))
    return "\n".join(filter(None, faults))


def run_losses(arguments: list[str]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main(arguments)
    return printed.getvalue()


def run_python(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    return done.stdout


COMMANDS: dict[str, Callable[[list[str]], str]] = {"losses": run_losses, "python": run_python}


def sessions(document: Document) -> Iterable[Region]:
    """`pycon` blocks, each prompt an example."""
    prompts = DocTestStringParser(DocTestEvaluator(FLAGS))
    for block in CodeBlockParser("pycon", python)(document):
        for region in prompts(block.parsed, document.path):
            region.adjust(block, block.parsed)
            yield region


def known_languages(document: Document) -> Iterable[Region]:
    """No block escapes by its language."""
    for fence in FENCES.finditer(document.text):
        language = fence[2].strip()
        if not language.startswith("{") and language not in (*RUN, *NOT_RUN):
            raise ValueError(f"{document.path}: a block in {language!r}; expected one of {', '.join((*RUN, *NOT_RUN))}")
    return ()


def start(namespace: dict[str, Any]) -> None:
    namespace["_stack"] = stack = contextlib.ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    stack.callback(os.chdir, os.getcwd())
    os.chdir(folder)
    registered = dict(LOSSES._registered)
    stack.callback(LOSSES._registered.update, registered)
    stack.callback(LOSSES._registered.clear)
    # what a page shows of torch.compile is that it works, which needs no C++ compiler
    stack.callback(setattr, torch, "compile", torch.compile)
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    torch.manual_seed(0)


def stop(namespace: dict[str, Any]) -> None:
    namespace["_stack"].close()


pytest_collect_file = Sybil(
    parsers=[
        known_languages,
        CodeBlockParser("python", python),
        sessions,
        CodeBlockParser("console", console),
        *(CodeBlockParser(language, functools.partial(config, language)) for language in CONFIGS),
    ],
    patterns=["*.md", "**/*.md"],
    excludes=["examples/**", "_build/**", "_generated/**", "adr/**"],
    setup=start,
    teardown=stop,
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # torch's own tracer instantiates torch.autograd.Function for every custom Function, and warns of it
        item.add_marker(pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"))
