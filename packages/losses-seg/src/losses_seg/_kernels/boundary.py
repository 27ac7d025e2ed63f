"""Kernel of the sums of the boundary loss, which goes through images by slabs of rows, and through slabs by classes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel
from losses_core.utils.precision import upcast
from losses_seg._activation import activate
from losses_seg._targets import Activation, ignored_mask, is_labels, masked
from losses_seg._window import max_pool, max_pool_grad, window_max, window_max_grad
from losses_seg.boundary_loss.boundary import contour_sums

_SMALL = 1 << 23
"""Elements of pred up to which the definition runs on an accelerator: fewer kernels, and memory is no concern."""


@kernel(contour_sums, passes=2, device="cpu")
class ContourSums:
    """Both passes compute probabilities and contours anew."""

    number = 4
    maximum = staticmethod(window_max)
    maximum_grad = staticmethod(window_max_grad)

    @classmethod
    def forward(cls, x: Tensor, target: Tensor, **options: Any) -> Tensor:
        """The sums (N,4,C)."""
        total: Any = 0
        for rows in _slabs(x, **options):
            total = _Slab(cls, x, target, rows, **options).sums() + total
        return total  # type: ignore[no-any-return]

    @classmethod
    def backward(cls, x: Tensor, target: Tensor, grads: Tensor, **options: Any) -> Tensor:
        """The gradient in x."""
        result, grads = torch.empty_like(x), grads.reshape(*grads.shape, *(1 for _ in x.shape[2:]))
        for rows in _slabs(x, **options):
            result[:, :, slice(*rows)] = _Slab(cls, x, target, rows, **options).gradient(grads)
        return result


@kernel(
    contour_sums,
    passes=2,
    device="accelerator",
    supports=lambda pred, target, **_: pred.numel() > _SMALL and pred.ndim <= 5,
)
class PooledContourSums(ContourSums):
    """The same by torch's pooling, for accelerators."""

    maximum = staticmethod(max_pool)
    maximum_grad = staticmethod(max_pool_grad)


def _margin(theta0: int, theta: int) -> int:
    """How many rows away the gradient of a pixel depends on others."""
    return 2 * (theta0 // 2 + theta // 2)


def _slabs(x: Tensor, *, theta0: int, theta: int, **_: Any) -> list[tuple[int, int]]:
    rows = block_size(x) // max(1, math.prod(x.shape[3:]))
    return ranges(x.shape[2], max(rows, 3 * _margin(theta0, theta)))


class _Slab:
    """Rows of images, computed with a margin around them."""

    def __init__(
        self,
        windows: type[ContourSums],
        x: Tensor,
        target: Tensor,
        rows: tuple[int, int],
        *,
        theta0: int,
        theta: int,
        ignore_index: int | None,
        activation: Activation,
    ) -> None:
        self.windows, self.theta0, self.theta, self.activation = windows, theta0, theta, activation
        start, margin = max(0, rows[0] - _margin(theta0, theta)), _margin(theta0, theta)
        length = min(rows[1] + margin, x.shape[2]) - start
        self.inner = slice(rows[0] - start, rows[1] - start)
        target = target.narrow(target.ndim - x.ndim + 2, start, length)
        x = x.narrow(2, start, length)
        ignored = ignored_mask(x, target, ignore_index, activation)
        self.p = activate(upcast(masked(x, ignored)), activation)
        self.truth = (target.unsqueeze(1) if is_labels(x, target) else target).to(self.p.dtype)
        self.valid = None if ignored is None else (~ignored).to(self.p.dtype)
        per_class = max(1, self.p[:, 0].numel())
        self.classes = [slice(*ends) for ends in ranges(x.shape[1], max(1, block_size(x) // per_class))]

    def sums(self) -> Tensor:
        """The sums (N,4,C) of the rows."""
        parts = []
        for classes in self.classes:
            (_, pred), (_, true) = self.contour(self.p[:, classes], classes), self.true_contour(classes)
            near_true, near_pred = (self.windows.maximum(line, self.theta) for line in (true, pred))
            maps = (near_true.mul_(pred), pred, near_pred.mul_(true), true)
            parts.append(torch.stack([m[:, :, self.inner].flatten(2).sum(2) for m in maps], 1))
        return torch.cat(parts, 2)

    def gradient(self, grads: Tensor) -> Tensor:
        """The gradient of the rows, from that of their sums (N,4,C,1,…)."""
        grad = torch.empty_like(self.p)
        for classes in self.classes:
            grad[:, classes] = self.class_gradient(grads[:, :, classes], classes)
        if self.activation == "softmax":
            grad.mul_(self.p)
            grad.addcmul_(self.p, grad.sum(1, keepdim=True), value=-1)
        elif self.activation == "sigmoid":
            grad.mul_(self.p).mul_(1 - self.p)
        return grad[:, :, self.inner]

    def class_gradient(self, grads: Tensor, classes: slice) -> Tensor:
        """The gradient in the probabilities of some classes."""
        near_true, length, near_pred, _ = grads.unbind(1)
        _, true = self.true_contour(classes)
        line = self.windows.maximum(true, self.theta).mul_(near_true).add_(length)
        rest, pred = self.contour(self.p[:, classes], classes)
        line.add_(self.windows.maximum_grad(pred, self.theta, true.mul_(near_pred)))
        line = self.masked(line, classes)
        # the contour is max(rest) - rest, with rest = 1 - p
        return self.masked(line.sub_(self.windows.maximum_grad(rest, self.theta0, line.clone())), classes)

    def contour(self, mask: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
        """The complement of a mask, and its contour; both 0 where ignored."""
        rest = self.masked(1 - mask, classes)
        return rest, self.masked(self.windows.maximum(rest, self.theta0).sub_(rest), classes)

    def true_contour(self, classes: slice) -> tuple[Tensor, Tensor]:
        """The same of the target."""
        if self.truth.shape[1] == self.p.shape[1]:
            return self.contour(self.truth[:, classes], classes)
        p = self.p[:, classes]
        index = torch.arange(classes.start, classes.stop, dtype=p.dtype, device=p.device)
        mask = torch.eq(self.truth, index.view(-1, *(1 for _ in p.shape[2:])), out=torch.empty_like(p))
        return self.contour(mask, classes)

    def masked(self, x: Tensor, classes: slice) -> Tensor:
        """Write 0 where ignored."""
        if self.valid is None:
            return x
        return x.mul_(self.valid if self.valid.shape[1] == 1 else self.valid[:, classes])
