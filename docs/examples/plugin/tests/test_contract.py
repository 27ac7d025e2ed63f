"""Every loss of the package, run through the contract of the losses packages."""

import numpy as np
import torch

from losses_testkit import Case, Inputs, LossContract, check_complete


def coordinates(generator, n):
    """Errors on both sides of the width, none of them near it or near 0, where the loss has a kink."""
    pred = torch.randn(n, 5, 2, generator=generator, dtype=torch.float64)
    far = torch.arange(n * 10).reshape(n, 5, 2) % 2 * 15.0
    return Inputs(pred + torch.copysign(0.1 + far, pred), torch.zeros(n, 5, 2, dtype=torch.float64))


def oracle(pred, target, width=10.0, curvature=2.0):
    """The published formula in NumPy: the loss of each element, and its share of the denominator."""
    error = np.abs(pred - target)
    inner = width * np.log(1 + error / curvature)
    outer = error - width + width * np.log(1 + width / curvature)
    return np.where(error < width, inner, outer), np.ones_like(error)


CASES = [
    Case("WingLoss", make=coordinates, oracle=oracle, logits=False),
    Case(
        "WingLoss", make=coordinates, oracle=oracle, logits=False, id="narrow", options={"width": 3.0, "curvature": 0.5}
    ),
]


class TestContract(LossContract):
    cases = CASES


def test_every_loss_has_a_case():
    check_complete("acme-losses", CASES)
