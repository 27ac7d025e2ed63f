"""Online hard example mining: the limit from which on the loss of a pixel counts as hard."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses_core.distributed import group_name
from losses_core.errors import InputError
from losses_seg import _ops
from losses_seg._sync import SyncGroup


def check_rule(thresh: float | None, min_kept: int | float) -> None:
    """Refuse a rule of mining outside its range."""
    if thresh is not None and not 0 < thresh <= 1:
        raise InputError(f"thresh: expected None or a probability > 0 and <= 1; got {thresh}.")
    if min_kept < 1 if isinstance(min_kept, int) else not 0 < min_kept <= 1:
        raise InputError(f"min_kept: expected an integer >= 1, or a part > 0 and <= 1; got {min_kept!r}.")


def hard_limit(loss: Tensor, thresh: float | None, min_kept: int | float, group: SyncGroup | None) -> Tensor | float:
    """The smallest loss of a hard pixel: the K-th largest, or the first one above -log(thresh) if that is less.

    With ``thresh=1`` every pixel is hard, also where the probability of its class rounds to 1.

    Args:
        loss: of all pixels, -1 where ignored; without a gradient.
        thresh: probability of the true class below which a pixel is hard; None: the K hardest alone.
        min_kept: K, or the share of the pixels that it is.
        group: the processes that hold the batch together.
    """
    if thresh == 1:
        return 0.0
    enough = math.inf if thresh is None else next_above(-math.log(thresh), torch.finfo(loss.dtype).eps)
    number, share = (min_kept, None) if isinstance(min_kept, int) else (None, min_kept)
    name = None if group is None else group_name(group.handle)
    limit = _ops.kth_largest(loss.flatten(), number, share, enough, name)
    return limit.clamp(0, enough)


def next_above(x: float, eps: float) -> float:
    """The first number of a floating type above ``x`` > 0, where ``eps`` is the distance from 1 to the next."""
    step = eps * 2.0 ** (math.frexp(x)[1] - 1)
    return (round(x / step) + 1) * step
