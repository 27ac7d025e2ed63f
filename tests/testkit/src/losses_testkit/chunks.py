"""The part of the contract about chunks: a loss computed chunk by chunk is the loss of the whole, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses_core import ConfigError
from losses_testkit.case import Case
from losses_testkit.runs import prepared


class Scale(nn.Module):
    """A head that keeps the shape: a learned factor of each element of a sample."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.factor = nn.Parameter(0.9 + 0.1 * torch.rand(shape, generator=generator, dtype=dtype))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factor


class ChunkContract:
    """With ``coupled`` None or, over samples, ``'image'``, chunks change nothing; other losses are refused."""

    def test_chunks_of_samples_equal_the_whole(self, case: Case) -> None:
        from losses_core.chunked import ChunkedLoss

        loss, inputs = case.build().double(), prepared(case.inputs(5))
        if loss.coupled == "batch":
            with pytest.raises(ConfigError, match="couples"):
                ChunkedLoss(loss, over="batch")
            return
        if not isinstance(inputs.pred, Tensor) or not inputs.pred.ndim or case.draws:
            pytest.skip("pred is no tensor of samples, or a call draws numbers")
        head = Scale(inputs.pred.shape[1:], inputs.pred.dtype)
        wanted = [inputs.pred, *head.parameters(), *(p for p in loss.parameters() if p.requires_grad)]
        options: list[dict[str, Any]] = [{}, {"reduction_override": "sum"}]
        if case.weight:
            options.append({"weight": torch.tensor([1.0, 0.0, 2.0, 0.5, 1.5], dtype=torch.float64)})
        if case.avg_factor:
            options.append({"avg_factor": torch.tensor(3.0), "reduction_override": "mean"})
        for keywords in options:
            expected = loss(head(inputs.pred), inputs.target, **inputs.call, **keywords)
            value = ChunkedLoss(loss, 2, "batch")(inputs.pred, inputs.target, head, **inputs.call, **keywords)
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
            pair = (torch.autograd.grad(v, wanted, materialize_grads=True) for v in (value, expected))
            for actual, gradient in zip(*pair, strict=True):
                torch.testing.assert_close(actual, gradient, rtol=1e-12, atol=1e-12)
