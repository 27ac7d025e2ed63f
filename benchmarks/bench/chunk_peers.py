"""`ChunkedLoss` beside the chunked losses of torch, Liger and TRL: time, peak memory and agreement, in one run.

`python -m bench.chunk_peers` prints the table of docs/guide/large-logits.md. Liger's losses run without compilation, as
they are plain torch; TRL's are its tiles for devices without Triton, with the same number of rows.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.stats import paired
from bench.timing import cpu_clock, interleaved
from losses_core import ChunkedLoss, build_loss
from losses_core._memory import PeakMemory

Losses = Mapping[str, Callable[[], Tensor]]


class Setting:
    """Rows of features, labels, and the heads of a student and a teacher."""

    def __init__(self, rows: int, width: int, classes: int, chunk: int) -> None:
        torch.manual_seed(0)
        self.chunk = chunk
        self.features = torch.randn(rows, width, requires_grad=True)
        self.of_teacher = torch.randn(rows, width)
        self.labels = torch.randint(classes, (rows,))
        self.head, self.teacher = (nn.Linear(width, classes, bias=False) for _ in range(2))
        self.teacher.requires_grad_(False)

    def chunked(self, config: dict[str, Any]) -> ChunkedLoss:
        return ChunkedLoss(build_loss(config), self.chunk)


def cross_entropies(s: Setting) -> Losses:
    """Cross-entropy: torch's own with the same chunks, and that of all logits."""
    ours = s.chunked({"type": "CrossEntropyLoss"})
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=s.chunk)
    return {
        "ours": lambda: ours(s.features, s.labels, s.head),
        "torch": lambda: F.linear_cross_entropy(s.features, s.head.weight, s.labels, options=options),
    }


def divergences(s: Setting, beta: float) -> Losses:
    """Generalized Jensen-Shannon divergence of two heads."""
    ours = s.chunked({"type": "GeneralizedJSDLoss", "beta": beta})
    liger = importlib.import_module("liger_kernel.chunked_loss.jsd_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, chunk_size=s.chunk, compiled=False
    )
    tiles: Any = importlib.import_module("trl.kernels.chunked_divergence")
    tiles.TOKEN_CHUNK_SIZE = s.chunk

    def trl() -> Tensor:
        function = tiles.ChunkedDivergenceFunction
        heads = s.features, s.head.weight, None, s.of_teacher, s.teacher.weight, None
        value: Tensor = function.apply(*heads, beta, 1.0, 1.0, None, 1.0, None)[0].mean()
        return value

    return {
        "ours": lambda: ours(s.features, s.of_teacher, s.head, teacher_head=s.teacher),
        "Liger": lambda: liger(s.features, s.head.weight, s.of_teacher, s.teacher.weight, s.labels),
        "TRL": trl,
    }


def step(s: Setting, loss: Callable[[], Tensor]) -> list[Tensor]:
    """Forward and backward: the value and both gradients."""
    value = loss()
    return [value.detach(), *torch.autograd.grad(value, (s.features, s.head.weight))]


def differences(s: Setting, losses: Losses) -> dict[str, float]:
    """Largest difference from ours, relative to the largest entry: of the value or of a gradient."""
    results = {name: [part.clone() for part in step(s, loss)] for name, loss in losses.items()}
    return {
        name: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(parts, results["ours"], strict=True))
        for name, parts in results.items()
    }


def peak(s: Setting, loss: Callable[[], Tensor]) -> int:
    with PeakMemory() as memory:
        step(s, loss)
    return int(memory.peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=16_000)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each loss of a row")
    given = parser.parse_args()
    torch.set_num_threads(1)
    s = Setting(given.rows, given.width, given.classes, given.chunk)
    write = sys.stdout.write
    write("| loss | of | time / ours, quartiles | peak, MiB | largest difference |\n| --- | --- | --- | --- | --- |\n")
    groups = {"cross-entropy": cross_entropies(s)}
    groups |= {f"JSD, beta {beta:g}": divergences(s, beta) for beta in (0.0, 0.5)}
    for name, losses in groups.items():
        apart = differences(s, losses)
        steps = {label: partial(step, s, loss) for label, loss in losses.items()}
        times = interleaved(steps, cpu_clock, given.seconds)
        for label, loss in losses.items():
            found = paired(times[label], times["ours"])
            ratio = "1" if label == "ours" else f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"
            write(f"| {name} | {label} | {ratio} | {peak(s, loss) / 2**20:.0f} | {apart[label]:.1e} |\n")


if __name__ == "__main__":
    main()
