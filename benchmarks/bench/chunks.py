"""Peak memory of large heads with and without `ChunkedLoss`, counted on tensors without values: no accelerator needed.

`python -m bench.chunks` prints the table of docs/guide/large-logits.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from losses_core import ChunkedLoss, build_loss
from losses_core._memory import PeakMemory

GIB = 1 << 30
HALF = torch.bfloat16


class Setting(NamedTuple):
    """A head and what it is trained with."""

    name: str
    loss: str
    features: tuple[int, ...]
    target: tuple[int, ...]
    head: Callable[[], nn.Module]
    over: Literal["rows", "batch"]
    chunks: tuple[int, ...]
    teacher: bool = False


class Dense(nn.Module):
    """1×1 convolution, then upsampling to the size of the image."""

    def __init__(self, width: int, classes: int, scale: int) -> None:
        super().__init__()
        self.convolution, self.scale = nn.Conv2d(width, classes, 1), scale

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.interpolate(self.convolution(features), scale_factor=self.scale, mode="bilinear")


def vocabulary() -> nn.Module:
    return nn.Linear(4096, 128_000, bias=False)


TOKENS, IMAGES = (8192, 4096), (16, 256, 128, 128)
SETTINGS = [
    Setting("cross-entropy, 8192 tokens", "CrossEntropyLoss", TOKENS, (8192,), vocabulary, "rows", (1024, 256)),
    Setting("KD, 8192 tokens", "KnowledgeDistillationLoss", TOKENS, TOKENS, vocabulary, "rows", (1024, 256), True),
    Setting("JSD, 8192 tokens", "GeneralizedJSDLoss", TOKENS, TOKENS, vocabulary, "rows", (1024, 256), True),
    Setting(
        "cross-entropy, 16 images",
        "CrossEntropyLoss",
        IMAGES,
        (16, 512, 512),
        lambda: Dense(256, 150, 4),
        "batch",
        (4, 1),
    ),
]


def peak(setting: Setting, chunk: int | None) -> int:
    """Bytes beyond the inputs and the heads, in forward and backward."""
    with torch.device("meta"):
        loss = build_loss(setting.loss)
        head, teacher = setting.head().to(HALF), setting.head().to(HALF)
        features = torch.empty(setting.features, dtype=HALF, requires_grad=True)
        target = torch.empty(setting.target, dtype=HALF if setting.teacher else torch.int64)
    with PeakMemory() as memory:
        if chunk is not None:
            chunked = ChunkedLoss(loss, chunk, setting.over)
            value = chunked(features, target, head, teacher_head=teacher if setting.teacher else None)
        else:
            with torch.no_grad():
                truth = teacher(target) if setting.teacher else target
            value = loss(head(features), truth)
        value.backward()
    return int(memory.peak)


def main() -> None:
    lines = ["| head | whole | chunks of 1024 tokens or 4 images | of 256 or 1 |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS:
        figures = [peak(setting, chunk) / GIB for chunk in (None, *setting.chunks)]
        lines.append(f"| {setting.name} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
