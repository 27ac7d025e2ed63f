"""Losses of other libraries, each library in a process of its own, so that none is changed by what another needs.

How they are loaded, often without the packages around them, is in `bench.peers`.

As a program, ``python peers.py``, this is that process: it answers calls from its standard input.
"""

import io
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor

from bench import peers

# ------------------------------------------------------------------------------------------------ the side of the tests


class Peers:
    """Calls losses of peers; a peer that is not installed skips the test."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, loss: str, pred: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Value of a loss and gradient of its sum in ``pred``.

        Args:
            loss: ``module:name`` of a function or of a class.
            pred: the first argument.
            *args: further arguments of the call.
            **options: keywords of the function, or of the constructor of the class.
        """
        peer = loss.partition(":")[0].partition(".")[0]
        if not peers.is_installed(peer):
            pytest.skip(f"{peer} is not installed")
        if peer not in self._processes:
            env = os.environ | {"PYTHONPATH": str(Path(peers.__file__).parents[1])}
            self._processes[peer] = subprocess.Popen([sys.executable, __file__], stdin=-1, stdout=-1, env=env)
        process = self._processes[peer]
        assert process.stdin and process.stdout
        pickle.dump((loss, pred, args, options), process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
        if isinstance(answer, str):
            pytest.fail(f"{loss} in the process of {peer}:\n{answer}")
        value, gradient = answer
        return value, gradient

    def close(self) -> None:
        for process in self._processes.values():
            process.communicate(timeout=60)  # the end of its input ends it


def compare(
    ours: Callable[..., Tensor],
    theirs: tuple[Tensor, Tensor],
    pred: Tensor,
    *args: Any,
    rtol: float = 1e-6,
    atol: float = 1e-7,
) -> None:
    """Hold our loss against the value and the gradient of a peer."""
    pred = pred.clone().requires_grad_()
    value = ours(pred, *args)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    for name, got, want in zip(("value", "gradient"), (value.detach(), gradient), theirs, strict=True):
        assert want.abs().max() > 0, f"a {name} of zeros says nothing"
        torch.testing.assert_close(
            got, want.to(got.dtype), rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


# --------------------------------------------------------------------------------------------------- the peer's process


def _evaluate(loss: str, pred: Tensor, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    function = peers.load(loss)
    pred = pred.clone().requires_grad_()
    value = function(**options)(pred, *args) if isinstance(function, type) else function(pred, *args, **options)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    return value.detach(), gradient


def _answer(calls: BinaryIO, answers: BinaryIO) -> None:
    while True:
        try:
            call = pickle.load(calls)
        except EOFError:
            return
        answer: Any
        try:
            answer = _evaluate(*call)
        except Exception:  # whatever it is, the test tells it
            answer = traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a peer prints is not an answer
    _answer(io.BufferedReader(sys.stdin.buffer.raw), _answers)
