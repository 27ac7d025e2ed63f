"""Kernel of the seesaw loss: that of cross-entropy on logits that are shifted by the logarithm of the factors."""

from __future__ import annotations

from torch import Tensor

from losses_cls._kernels._labels import split_labels
from losses_cls._kernels.cross_entropy import cross_entropy_of_labels
from losses_cls.seesaw_loss import log_factors, seesaw_loss
from losses_core.kernels import kernel


@kernel(seesaw_loss, bound=1.0, temporaries=6, large_blocks=True)
def seesaw_kernel(
    x: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    p: float,
    q: float,
    eps: float,
    ignore_index: int | None,
    needs_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Value and gradient softmax(z) - onehot of the shifted logits z, as the factors carry no gradient."""
    labels, _ = split_labels(target, ignore_index)
    shifted = log_factors(x, labels, counts, p, q, eps).add_(x)
    return cross_entropy_of_labels(
        shifted, target, class_weight=None, ignore_index=ignore_index, label_smoothing=0.0, needs_grad=needs_grad
    )
