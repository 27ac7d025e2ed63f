"""The exact Euclidean distance transform in torch, batched, for any number of dims.

Along the last axis the nearest source is found by two running maxima. Each further axis takes the minimum over j of
f(j) + (x-j)² (Felzenszwalb and Huttenlocher, Theory of Computing 2012), which is exact, axis after axis.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from losses_core.errors import InputError
from losses_core.utils import checks, host

_CHUNK = 1 << 18  # elements that are handled together: 1 MiB of float32
_PART = 1 << 17  # elements of an intermediate that fits the cache of a CPU core
_SHORT = 128  # twice its square is the range of int16
_ROWS = 64  # elements of a line for which the same candidates are tried
_CUBE = 1 << 26  # elements of the largest intermediate on other devices


def distance_transform(mask: Tensor, *, spacing: float | Sequence[float] | None = None) -> Tensor:
    """Distance of each true element to the nearest false one, as scipy's ``distance_transform_edt``, batched.

    Args:
        mask: bool (N,*S), or anything that is true where not 0.
        spacing: size of an element along each axis of S, one number or one per axis. Default: 1.

    Returns:
        float32 (N,*S): 0 where the mask is false, inf in an image that is true everywhere.

    Raises:
        InputError: no spatial axis; a spacing that does not fit.

    Example:
        >>> import torch
        >>> distance_transform(torch.tensor([[0, 1, 1, 1, 0]]))
        tensor([[0., 1., 2., 1., 0.]])
    """
    return squared_distance(checks.tensor("mask", mask) == 0, spacing).sqrt()


@torch.no_grad()
def squared_distance(
    source: Tensor, spacing: float | Sequence[float] | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Squared distance of each element of (N,*S) to the nearest true one of its image; inf where there is none."""
    if source.ndim < 2:
        raise InputError(f"expected a mask of shape (N, *S), with one or more spatial axes; got {tuple(source.shape)}.")
    steps = _steps(spacing, source.ndim - 1)
    if host.compiling_for_host(source):
        from losses_seg import _opaque  # registering an operator takes milliseconds

        result: Tensor = _opaque.squared_distance_on_host(source, steps, dtype)
        return result
    return squared_steps(source, steps, dtype)


def squared_steps(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The same with one step per axis."""
    size, *shape = source.shape
    # equal steps are left to the end: squares of whole numbers of elements are exact
    scale = steps[0] if min(steps) == max(steps) else 1.0
    steps = [step / scale for step in steps]
    whole = max(steps) == min(steps)
    f = _along_lines(source, steps[-1], dtype)
    if f.numel() == 0:
        return f
    before = [size, *shape[:-1]]
    after = shape[-1]
    while len(before) > 1:
        length = before.pop()
        f = _next_axis(f.reshape(math.prod(before), length, after), steps[len(before) - 1] ** 2, whole)
        after *= length
    f = f.reshape(source.shape)
    return f if scale == 1 else f.mul_(scale**2)


def is_spacing(value: object, dims: int | None = None) -> bool:
    """Whether a value is a number > 0 or a sequence of them, one for each of ``dims`` where that is known."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) == (dims or len(value)) > 0 and all(
            not isinstance(s, Sequence) and is_spacing(s) for s in value
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < float(value) < math.inf  # math.isfinite takes no number that a compiler left open


def _steps(spacing: float | Sequence[float] | None, dims: int) -> list[float]:
    spacing = 1.0 if spacing is None else spacing
    if not is_spacing(spacing, dims):
        raise InputError(f"spacing: expected a number > 0, or {dims} of them, one per spatial axis; got {spacing!r}.")
    return [float(step) for step in spacing] if isinstance(spacing, Sequence) else [float(spacing)] * dims


def squared_field(
    mask: Tensor, counted: Tensor | None, spacing: float | Sequence[float] | None, dtype: torch.dtype
) -> Tensor:
    """Squared distance of each element of (N,C,*S) to the nearest counted one on the other side of its mask.

    0 where there is none on the other side. None: all are counted.
    """
    sources = torch.cat([mask, ~mask] if counted is None else [mask & counted, ~mask & counted])
    squared = squared_distance(sources.flatten(0, 1), spacing, dtype).view_as(sources)
    inside, outside = squared.chunk(2)
    field = torch.where(mask, outside, inside)
    return field.masked_fill_(field == torch.inf, 0)


def _along_lines(source: Tensor, step: float, dtype: torch.dtype) -> Tensor:
    """Squared distance along the last axis alone."""
    length = source.shape[-1]
    if length == 0:
        return source.to(dtype)
    whole = torch.int16 if length < 1 << 13 else torch.int32
    position = torch.arange(length, dtype=whole, device=source.device)
    nowhere = -3 * length
    previous = torch.where(source, position, nowhere).cummax(-1).values
    following = torch.where(source, -position, nowhere).flip(-1).cummax(-1).values.flip(-1)
    gap = torch.minimum(position - previous, -position - following)
    f = gap.to(dtype) * step
    return (f * f).masked_fill_(gap >= length, torch.inf)


def _next_axis(f: Tensor, weight: float, whole: bool) -> Tensor:
    """min over j of f[:,j] + weight (x-j)², along axis 1 of (B,L,R); ``whole``: of whole numbers."""
    if torch.compiler.is_compiling():
        return _product(f, weight)
    length = f.shape[1]
    if not host.on_host(f):
        rows, columns = max(1, _CUBE // max(1, length * length * f.shape[2])), max(1, _CUBE // (length * length))
        parts = [torch.cat([_product(c, weight) for c in b.split(columns, 2)], 2) for b in f.split(rows)]
        return torch.cat(parts)
    for part in f.split(max(1, _CHUNK // (length * f.shape[2]))):
        inner = _inner(part)
        if inner.numel():
            _lower_(inner, weight, whole)
    return f


def _inner(f: Tensor) -> Tensor:
    """The part of f around what is not 0: of the zeros along axis 1, only the nearest can be the minimum anywhere."""
    rows, columns = (f.amax(axes).nonzero().flatten().tolist() or [-1] for axes in ((0, 2), (0, 1)))
    return f[:, max(0, rows[0] - 1) : rows[-1] + 2, columns[0] : columns[-1] + 1] if rows[0] >= 0 else f[:, :0]


def _product(f: Tensor, weight: float) -> Tensor:
    """The minimum over all j at once: one fused kernel where this is compiled, and no value is read."""
    position = torch.arange(f.shape[1], dtype=f.dtype, device=f.device)
    cost = (position.unsqueeze(1) - position).square() * weight
    return (f.unsqueeze(1) + cost.unsqueeze(-1)).amin(2)


def _lower_(f: Tensor, weight: float, whole: bool) -> None:
    """The same in place on the CPU, by the cheapest of three loops; all read values to do less.

    An entry f[b,j] is finite for all of R or for none of it, as the axes of R are done: few j may be left.
    """
    length = f.shape[1]
    finite = f[:, :, 0].isfinite()
    if not (some := finite.any(1)).all():
        # an image without any source stays as it is, and would keep the loops going to their ends
        rows = some.nonzero().squeeze(1)
        if len(rows):
            part = f[rows]
            _lower_(part, weight, whole)
            f[rows] = part
        return
    sites = finite.any(0).nonzero().squeeze(1)
    gaps = sites.diff() // 2
    reach = max(int(sites[0]), length - 1 - int(sites[-1]), *gaps.tolist(), 0)  # offsets go at least this far
    if 2 * len(sites) < 3 * reach:
        f.copy_(_by_site(f, sites.tolist(), weight))
        return
    places = sites.to(f.dtype)
    few = torch.tensor([0, length // 2, length - 1], dtype=f.dtype)
    near = whole and _minimum(f[:, sites], places, few, weight).amax().item() < _SHORT**2
    if not (near and _by_offset_(f)):
        f.copy_(_between(f[:, sites], places, 0, length, weight))


def _by_site(f: Tensor, sites: list[int], weight: float) -> Tensor:
    position = torch.arange(f.shape[1], dtype=f.dtype).unsqueeze(1)
    lowest, candidate = torch.full_like(f, torch.inf), torch.empty_like(f)
    for j in sites:
        torch.add(f[:, j : j + 1], (position - j).square_().mul_(weight), out=candidate)
        torch.minimum(lowest, candidate, out=lowest)
    return lowest


def _by_offset_(f: Tensor) -> bool:
    """Of whole numbers: try j = x±1, x±2, …, in place; False, and nothing done, if ``_SHORT`` of them do not
    suffice."""
    # in int16, of which a CPU handles twice as many at a time
    start = f.clamp(max=_SHORT**2).to(torch.int16)
    lowest, shifted = start.clone(), torch.empty_like(start)
    for k in range(1, min(_SHORT, f.shape[1])):
        # looked up now and then, as it reads everything
        if k % 4 == 1 and lowest.amax().item() <= k * k:
            break
        torch.add(start, k * k, out=shifted)
        torch.minimum(lowest[:, k:], shifted[:, :-k], out=lowest[:, k:])
        torch.minimum(lowest[:, :-k], shifted[:, k:], out=lowest[:, :-k])
    done = lowest.amax().item() < _SHORT**2
    if done:
        f.copy_(lowest)
    return done


def _between(f: Tensor, sites: Tensor, start: int, end: int, weight: float) -> Tensor:
    """The minimum (B,end-start,R) over all j in ``sites`` at x from ``start`` to ``end``, of f (B,J,R).

    The best j ascends with x, so each half needs only a part of them. With v the minimum, v(a) ≤ f(j) + w (a-j)² for
    the best j of a-1, and the other way round: j(a-1) ≤ a - 1/2 - (v(a) - v(a-1)) / 2w ≤ j(a).
    """
    if end - start <= _ROWS:
        return _minimum(f, sites, torch.arange(start, end, dtype=f.dtype), weight)
    middle = (start + end) // 2
    v = _minimum(f, sites, torch.tensor([middle - 1, middle], dtype=f.dtype), weight)
    bound = middle - 0.5 - (v[:, 1] - v[:, 0]) / (2 * weight)
    low, high, farthest = torch.stack([*bound.aminmax(), v.amax()]).tolist()
    slack = 1 + 4 * torch.finfo(f.dtype).eps * farthest / weight
    first, last = torch.searchsorted(sites, torch.tensor([low - slack, high + slack], dtype=f.dtype)).tolist()
    below = _between(f[:, :last], sites[:last], start, middle, weight)
    return torch.cat([below, _between(f[:, first:], sites[first:], middle, end, weight)], 1)


def _minimum(f: Tensor, sites: Tensor, x: Tensor, weight: float) -> Tensor:
    """min over all j of f[:,j] + weight (x-j)², some j at a time."""
    cost = (x.unsqueeze(1) - sites).square().mul_(weight).unsqueeze(2)
    at_once = max(1, _PART // (f.shape[0] * len(x) * f.shape[2]))
    parts = zip(f.unsqueeze(1).split(at_once, 2), cost.split(at_once, 1), strict=True)
    lowest: Tensor
    lowest, *others = ((f_j + cost_j).amin(2) for f_j, cost_j in parts)
    for other in others:
        torch.minimum(lowest, other, out=lowest)
    return lowest
