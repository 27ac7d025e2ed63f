"""The definition of a loss beside the kernels that run in its place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bench.case import Function, Inputs
from losses_core.kernels import explain, use_definitions


class ByDefinition(nn.Module):
    """A loss that runs its definitions, and no kernel.

    Args:
        loss: the loss, or what `torch.compile` made of it.
    """

    def __init__(self, loss: Function) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, pred: Tensor, target: Any, **call: Any) -> Tensor:
        with use_definitions():
            return self.loss(pred, target, **call)


def kernels_of(loss: Function, given: Inputs) -> list[str]:
    """What a call runs instead of definitions: kernels as ``losses_det.giou``, or an operator of torch."""
    lines = explain(loss, given.pred, given.target, **given.call).splitlines()
    chosen = [line.partition(": ")[2] for line in lines if ": " in line]
    return list(dict.fromkeys(_short(name) for name in chosen if not name.startswith("definition")))


def _short(choice: str) -> str:
    """``losses_det._kernels.iou_loss.giou`` without the modules in between; a choice in words without its reason."""
    words, _, reason = choice.partition(",")
    if reason:
        return words
    parts = choice.split(".")
    return f"{parts[0]}.{parts[-1]}"
