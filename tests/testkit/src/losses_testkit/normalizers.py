"""The part of the contract about ``loss.normalizer``: what ``mean`` divides by, from the target alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from losses_core import BaseLoss, InputError
from losses_core.utils.precision import first_tensor
from losses_testkit.case import Case, Inputs
from losses_testkit.distribution import close, shards
from losses_testkit.runs import prepared

SIZES = (2, 0, 3)
"""Rows of the micro-batches."""


def normalizer(loss: BaseLoss, inputs: Inputs) -> Tensor:
    """The normalizer of some inputs; the prediction tells only the number of classes, where that is asked for."""
    pred, target = first_tensor(inputs.pred), inputs.target
    assert pred is not None
    if isinstance(target, Tensor) and target.shape == pred.shape and pred.ndim > 2 and pred.shape[1] > 1:
        target = target.to(pred.dtype)  # an integer target would be one of class indices
    try:
        return loss.normalizer(target, **inputs.call)
    except InputError as error:
        if "num_classes=" not in str(error):
            raise
    return loss.normalizer(target, num_classes=pred.shape[1], **inputs.call)


class NormalizerContract:
    """Without a prediction the normalizer is that of the formula, and those of parts add up to that of the batch."""

    def test_normalizer_of_the_target(self, case: Case) -> None:
        loss, inputs = case.build().double(), case.inputs(5)
        if loss.coupled == "batch":
            with pytest.raises(InputError, match="as a whole"):
                normalizer(loss, inputs)
            return
        if not case.normalizer:
            with pytest.raises(InputError, match="does not tell"):
                normalizer(loss, inputs)
            return
        state = torch.get_rng_state()
        expected = 5.0 if loss.reduction == "batchmean" else float(np.sum(case.reference(inputs)[1]))
        found = normalizer(loss, inputs)
        assert found.ndim == 0 and not found.requires_grad
        assert float(found) == pytest.approx(expected, rel=_tolerance(found))
        assert torch.equal(torch.get_rng_state(), state)
        if case.ignore is not None and loss.reduction != "batchmean":
            inputs, _ = case.ignore(inputs)
            expected = float(np.sum(case.reference(inputs)[1]))
            assert float(normalizer(loss, inputs)) == pytest.approx(expected, rel=_tolerance(found))
        if case.ignore_all is not None and loss.reduction != "batchmean":
            assert float(normalizer(loss, case.ignore_all(inputs))) == 0

    def test_micro_batches_add_up(self, case: Case) -> None:
        loss, inputs = case.build().double(), prepared(case.inputs(sum(SIZES)))
        if loss.coupled == "batch" or not case.normalizer:
            pytest.skip("it has no normalizer")
        if case.draws or not case.avg_factor:
            pytest.skip("a call draws numbers, or takes no avg_factor")
        parts = shards(inputs, SIZES if case.empty else (2, 3))
        total: Any = sum(normalizer(loss, part) for part in parts)
        accumulated = torch.stack([loss(p.pred, p.target, avg_factor=total, **p.call) for p in parts]).sum()
        whole = loss(inputs.pred, inputs.target, **inputs.call)
        tolerance = _tolerance(total)
        close(accumulated.detach(), whole.detach(), tolerance)
        wanted = list(inputs.pred) if isinstance(inputs.pred, list | tuple) else [inputs.pred]
        pairs = (torch.autograd.grad(value, wanted, materialize_grads=True) for value in (accumulated, whole))
        for actual, expected in zip(*pairs, strict=True):
            close(actual, expected, tolerance)


def _tolerance(found: Tensor) -> float:
    return 1e-6 if found.dtype == torch.float32 else 1e-12  # class weights are float32 beside class indices
