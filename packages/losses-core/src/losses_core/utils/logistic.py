"""Binary cross-entropy of logits, from which focal and quality losses are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses_core.utils import temporaries
from losses_core.utils.autograd import transforms_active


def logistic(x: Tensor, t: Tensor | None) -> Tensor:
    """-t ln σ(x) - (1-t) ln σ(-x) of each element, a new tensor.

    Args:
        x: logits.
        t: targets in [0,1], of the shape of ``x``; None: all are 0.
    """
    if t is None:
        return F.softplus(x)
    on_device = not (x.is_cpu or torch.compiler.is_compiling())
    if on_device or torch.is_grad_enabled() or transforms_active():
        # fewer operations, and a derivative at 0
        return temporaries.addcmul(F.softplus(x), x, t, -1)
    # of a large logit that is right, softplus(x) - x t would keep the rounding of x: this takes no longer, and does not
    rest = temporaries.addcmul(x.clamp(min=0), x, t, -1)
    return temporaries.add(_log1p_exp(x), rest)


def _log1p_exp(x: Tensor) -> Tensor:
    """ln(1 + exp(-|x|))"""
    if torch.compiler.is_compiling():
        return torch.log1p(torch.exp(-x.abs()))
    return x.abs().neg_().exp_().log1p_()
