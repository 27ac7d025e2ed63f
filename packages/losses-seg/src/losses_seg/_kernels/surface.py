"""Kernel of the surface loss, which keeps one field of distances, of a block of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses_core._blocks import block_size, ranges
from losses_core.kernels import kernel
from losses_seg import _ops
from losses_seg._activation import activate
from losses_seg._distance import with_sign
from losses_seg._targets import Activation, ignored_mask, is_labels, masked
from losses_seg.boundary_loss.surface import counted_pairs, pair_scale, surface_loss


@kernel(surface_loss, temporaries=12)
def surface(
    x: Tensor,
    target: Tensor,
    *,
    ignore_index: int | None,
    spacing: list[float],
    activation: Activation,
    target_dist: Tensor | None,
    needs_grad: bool,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Σ p φ of each image, and its gradient: p (φ - Σ p φ) of a softmax."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    ignored = ignored_mask(x, target, ignore_index, activation)
    region = target if is_labels(x, target) else target > 0.5
    distance = target_dist
    if distance is None:
        distance = _ops.boundary_distance([region], x.shape[1], ignored, spacing, 1.0, dtype)
    counted = counted_pairs(x, target, ignore_index=ignore_index, activation=activation, **options)
    scale = pair_scale(counted, ignored, x.shape[2:].numel(), dtype).unsqueeze(2)
    # in fp16 the gradient of one of many pixels is rounded only once it is scaled
    grad = torch.empty_like(x, dtype=dtype if x.dtype == torch.float16 else x.dtype) if needs_grad else None
    flat, first = x.flatten(2), region.ndim - x.ndim + 2
    region, distance = region.flatten(first), distance.flatten(2)
    value = x.new_zeros(x.shape[0], dtype=dtype)
    for start, end in ranges(flat.shape[2], max(1, block_size(x) // max(1, x.shape[1]))):
        hidden = None if ignored is None else ignored.flatten(2)[..., start:end]
        phi = distance[..., start:end]
        if target_dist is None:
            phi = with_sign(phi, region[..., start:end], 0, min(spacing))
        phi = masked(phi, hidden) * scale
        p = activate(masked(flat[..., start:end], hidden).to(dtype), activation)
        product = p * phi
        value = value + product.flatten(1).sum(1)
        if grad is not None:
            grad.flatten(2)[..., start:end] = _through(activation, p, phi, product)
    return value, grad


def _through(activation: Activation, p: Tensor, phi: Tensor, product: Tensor) -> Tensor:
    """The gradient in the logits, of φ in the probabilities; ``product`` is p φ."""
    if activation == "softmax":
        return product - p.mul_(product.sum(1, keepdim=True))
    return product.mul_(1 - p) if activation == "sigmoid" else phi
