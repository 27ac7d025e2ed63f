"""The learnable part of masked generative distillation, with known channels or with those of the first call."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from losses_distill._adapter import adapt


def _shapes(student_channels: int, teacher_channels: int) -> dict[str, tuple[int, ...]]:
    c = teacher_channels
    shapes: dict[str, tuple[int, ...]] = {"first_weight": (c, c, 3, 3), "second_weight": (c, c, 3, 3)}
    if student_channels != teacher_channels:
        shapes["align_weight"] = (c, student_channels)
    return shapes


class Generation(nn.Module):
    """Align the channels where they differ, mask, then 3×3 convolution, ReLU, 3×3 convolution."""

    first_weight: Tensor
    first_bias: Tensor
    second_weight: Tensor
    second_bias: Tensor
    align_weight: Tensor | None
    align_bias: Tensor | None

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.register_parameter("align_weight", None)
        self.register_parameter("align_bias", None)
        for name, shape in _shapes(student_channels, teacher_channels).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
            self.register_parameter(name.replace("weight", "bias"), nn.Parameter(torch.empty(shape[0])))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch does linear layers and convolutions."""
        for part in ("align", "first", "second"):
            weight, bias = getattr(self, f"{part}_weight"), getattr(self, f"{part}_bias")
            if weight is not None:
                bound = 1 / math.sqrt(weight[0].numel())
                nn.init.uniform_(weight, -bound, bound)
                nn.init.uniform_(bias, -bound, bound)

    def forward(self, pred: Tensor, target: Tensor, masked: float, mask_mode: str) -> Tensor:
        """Generate features from those of the student; of the target only the channels matter, in the lazy form."""
        if self.align_weight is not None:
            pred = adapt(pred, self.align_weight, self.align_bias)
        n, c, h, w = pred.shape
        shape = (n, 1, h, w) if mask_mode == "spatial" else (n, c, 1, 1)
        keep = torch.rand(shape, device=pred.device) >= masked
        hidden = torch.relu(self._convolve(pred * keep, self.first_weight, self.first_bias))
        return self._convolve(hidden, self.second_weight, self.second_bias)

    @staticmethod
    def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=1)


class LazyGeneration(LazyModuleMixin, Generation):
    """`Generation` whose parameters get their shapes at the first call, or from a state that is loaded."""

    cls_to_become = Generation  # torch declares it as None

    def __init__(self) -> None:
        with warnings.catch_warnings():  # earlier versions of torch warn of every lazy module
            warnings.simplefilter("ignore")
            super().__init__(1, 2)
        for name in self._parameters:
            self._parameters[name] = UninitializedParameter()  # type: ignore[assignment]

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, pred: Tensor, target: Tensor, *args: Any) -> None:
        if self.has_uninitialized_params():
            shapes = _shapes(int(pred.shape[1]), int(target.shape[1]))
            if "align_weight" not in shapes:
                self.align_weight = self.align_bias = None
            for name, shape in shapes.items():
                self._parameters[name].materialize(shape)  # type: ignore[union-attr]
                self._parameters[name.replace("weight", "bias")].materialize(shape[:1])  # type: ignore[union-attr]
            self.reset_parameters()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if f"{prefix}first_weight" in state_dict and f"{prefix}align_weight" not in state_dict:
            self.align_weight = self.align_bias = None  # it was saved where the channels are equal
        super()._load_from_state_dict(state_dict, prefix, *args)
