"""Kernel of the error that the Hausdorff distance loss weights."""

from __future__ import annotations

from torch import Tensor

from losses_core.kernels import kernel
from losses_seg._activation import activate
from losses_seg._targets import Activation, masked
from losses_seg.boundary_loss.hausdorff import weighted_squared_error


@kernel(weighted_squared_error, passes=2, temporaries=6)
class WeightedSquaredError:
    """Sums of one block; its backward computes the probabilities anew."""

    number = 1

    @staticmethod
    def forward(x: Tensor, target: tuple[Tensor, Tensor], *, ignored: Tensor | None, activation: Activation) -> Tensor:
        """Σ w (p-g)²."""
        truth, weight = target
        error = _error(activate(masked(x, ignored), activation), truth, ignored)
        return error.square_().mul_(weight).flatten(2).sum(2).unsqueeze(1)

    @staticmethod
    def backward(
        x: Tensor, target: tuple[Tensor, Tensor], grads: Tensor, *, ignored: Tensor | None, activation: Activation
    ) -> Tensor:
        """2 w (p-g), through the activation."""
        truth, weight = target
        p = activate(masked(x, ignored), activation)
        grad = _error(p, truth, ignored).mul_(weight).mul_(2 * grads.squeeze(1).unsqueeze(-1))
        if activation == "none":
            return grad
        if activation == "sigmoid":
            return grad.mul_(p).mul_(1 - p)
        grad.mul_(p)
        return grad.addcmul_(p, grad.sum(1, keepdim=True), value=-1)


def _error(p: Tensor, truth: Tensor, ignored: Tensor | None) -> Tensor:
    """p - g, and any number where ignored."""
    if truth.ndim == p.ndim:
        return p - truth
    labels = masked(truth.unsqueeze(1), ignored)
    return p.scatter_add(1, labels, p.new_full((), -1).expand(labels.shape))
