"""The one channel adapter of the feature losses: a linear map over channels, whatever the layout of the features."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from losses_core import ConfigError
from losses_core.utils import checks


def channel_axis(features: Tensor) -> int:
    """Where the channels stand: axis 1 of (N,D) and (N,C,*S), the last of tokens (N,L,C)."""
    return 2 if features.ndim == 3 else 1


def check_channels(owner: object, student_channels: Any, teacher_channels: Any) -> None:
    """Check the two constructor parameters: both or neither."""
    for name, value in (("student_channels", student_channels), ("teacher_channels", teacher_channels)):
        if value is not None:
            checks.number(owner, name, value, low=1, integer=True)
    if (student_channels is None) != (teacher_channels is None):
        missing = "teacher_channels" if teacher_channels is None else "student_channels"
        raise ConfigError(f"{type(owner).__name__}: {missing}: expected a number too, as its counterpart is given.")


def adapt(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map the channels by ``weight`` (out, in): a linear layer on (N,D) and (N,L,C), a 1×1 convolution on (N,C,*S)."""
    # the losses compute in the precision of their inputs, at least float32, whatever that of the parameters
    weight = weight.to(features.dtype)
    bias = None if bias is None else bias.to(features.dtype)
    if features.ndim == 4:
        return F.conv2d(features, weight[..., None, None], bias)
    if features.ndim == 5:
        return F.conv3d(features, weight[..., None, None, None], bias)
    return F.linear(features, weight, bias)


class ChannelAdapter(nn.Linear):
    """`adapt` with parameters of its own."""

    def forward(self, features: Tensor) -> Tensor:
        return adapt(features, self.weight, self.bias)


def make_adapter(student_channels: int | None, teacher_channels: int | None) -> ChannelAdapter | None:
    """An adapter where the two are given and differ."""
    if student_channels is None or teacher_channels is None or student_channels == teacher_channels:
        return None
    return ChannelAdapter(student_channels, teacher_channels)
