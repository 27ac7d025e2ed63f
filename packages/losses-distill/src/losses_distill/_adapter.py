"""The channel adapter of the feature losses: a linear map over the channels, for every layout of features."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from losses_core import ConfigError
from losses_core.utils import checks


def channel_axis(features: Tensor) -> int:
    """The channel axis: 1 of (N,D) and (N,C,*S), the last of tokens (N,L,C)."""
    return 2 if features.ndim == 3 else 1


def check_channels(owner: object, student_channels: Any, teacher_channels: Any) -> None:
    """Check the two constructor parameters: both are given, or neither."""
    for name, value in (("student_channels", student_channels), ("teacher_channels", teacher_channels)):
        if value is not None:
            checks.number(owner, name, value, low=1, integer=True)
    if (student_channels is None) != (teacher_channels is None):
        missing = "teacher_channels" if teacher_channels is None else "student_channels"
        raise ConfigError(f"{type(owner).__name__}: {missing}: expected a number too, as its counterpart is given.")


def adapt(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map the channels by ``weight`` (out, in): a linear layer on (N,D) and (N,L,C), a 1×1 convolution on (N,C,*S)."""
    # a loss is computed in the precision of its inputs, at least float32, also where its parameters are in another
    weight = weight.to(features.dtype)
    bias = None if bias is None else bias.to(features.dtype)
    if features.ndim == 4:
        return F.conv2d(features, weight[..., None, None], bias)
    if features.ndim == 5:
        return F.conv3d(features, weight[..., None, None, None], bias)
    return F.linear(features, weight, bias)


class ChannelAdapter(nn.Linear):
    """A linear layer over the channels, applied by `adapt`."""

    def forward(self, features: Tensor) -> Tensor:
        return adapt(features, self.weight, self.bias)


def make_adapter(student_channels: int | None, teacher_channels: int | None) -> ChannelAdapter | None:
    """Build an adapter if both numbers are given and differ."""
    if student_channels is None or teacher_channels is None or student_channels == teacher_channels:
        return None
    return ChannelAdapter(student_channels, teacher_channels)
