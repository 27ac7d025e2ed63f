"""The exact Euclidean distance transform, batched, for any number of dims.

Along the last axis the nearest source is found by two running maxima. Each further axis takes the minimum over j of
f(j) + (x-j)² (Felzenszwalb and Huttenlocher, Theory of Computing 2012), which is exact, axis after axis: by loops that
read values to do less, or without reading any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 18  # elements that are handled together: 1 MiB of float32
_PART = 1 << 17  # elements of an intermediate that fits the cache of a CPU core
_SHORT = 128  # twice its square is the range of int16
_ROWS = 64  # elements of a line for which the same candidates are tried
_CPU_PART = 1 << 17  # elements whose distances to a boundary are computed together on a CPU
_PART = 1 << 23  # the same elsewhere, where there are more than four times as many
_CANDIDATES = 1 << 24  # elements of the largest intermediate where nothing is read


def boundary_distance(
    loops: bool,
    regions: Sequence[Tensor],
    classes: int,
    ignored: Tensor | None,
    steps: Sequence[float],
    exponent: float,
    dtype: torch.dtype,
) -> Tensor:
    """`losses_seg._ops.boundary_distance`, some images and classes at a time; ``loops``: by loops that read values."""
    size, *spatial = regions[0].shape[:1] + regions[0].shape[-len(steps) :]
    pixels, sides = max(1, math.prod(spatial)), 2 * len(regions)
    few = size * classes * pixels * sides <= 4 * _PART
    limit = _CPU_PART if loops else 4 * _PART if few else _PART
    images = max(1, limit // (pixels * classes * sides))
    channels = max(1, min(classes, limit // (pixels * sides)))
    total = None
    if images < size or channels < classes or size == 0:
        total = torch.zeros((size, classes, *spatial), dtype=dtype, device=regions[0].device)
    for n in range(0, size, images):
        cut = [region[n : n + images] for region in regions]
        for c in range(0, classes, channels):
            keep = None
            if ignored is not None:
                keep = ~ignored[n : n + images].expand(-1, classes, *spatial)[:, c : c + channels]
            result = None if total is None else total[n : n + images, c : c + channels]
            sources = _sources(cut, range(classes)[c : c + channels], len(spatial), keep)
            for group in [torch.stack(list(sources))] if pixels * sides <= limit else (s.unsqueeze(0) for s in sources):
                transform = squared_distance_by_loops if loops else squared_distance_without_sync
                power = transform(group.flatten(0, 2), steps, dtype).view(group.shape).nan_to_num_(posinf=0)
                if exponent != 2:
                    power.pow_(exponent / 2)
                power = power.sum(0) if len(group) > 1 else power.squeeze(0)
                result = power if result is None else result.add_(power)
                del power  # not alive beside the next one
            if keep is not None:
                result = result.mul_(keep)  # type: ignore[union-attr]  # there are sources
    return result if total is None else total  # type: ignore[return-value]  # one of the two


def _sources(regions: Sequence[Tensor], classes: range, dims: int, keep: Tensor | None) -> Iterator[Tensor]:
    """The mask of each region and its complement, of some classes: distances to both add up to one field."""
    for region in regions:
        if region.ndim > dims + 1:
            inside = region[:, classes.start : classes.stop]
        else:
            index = torch.arange(classes.start, classes.stop, device=region.device)
            inside = region.unsqueeze(1) == index.view(-1, *(1 for _ in range(dims)))
        yield inside if keep is None else inside & keep
        yield ~inside if keep is None else ~inside & keep


def squared_distance_by_loops(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """`losses_seg._ops.squared_distance` on the CPU, some images at a time, so that they stay in the cache."""
    images = source.split(max(1, _CHUNK // max(1, source[0].numel())) if len(source) else 1)
    return torch.cat([_squared_distance(part, steps, dtype, _next_axis_by_loops) for part in images])


def squared_distance_without_sync(source: Tensor, steps: Sequence[float], dtype: torch.dtype) -> Tensor:
    """`losses_seg._ops.squared_distance` where reading values would make the CPU wait for a device."""
    return _squared_distance(source, steps, dtype, _next_axis_without_sync)


def _squared_distance(
    source: Tensor, steps: Sequence[float], dtype: torch.dtype, next_axis: Callable[[Tensor, float, bool], Tensor]
) -> Tensor:
    if source.numel() == 0:
        return source.to(dtype)
    size, *shape = source.shape
    # equal steps are left to the end: squares of whole numbers of elements are exact
    scale = steps[0] if min(steps) == max(steps) else 1.0
    steps = [step / scale for step in steps]
    whole = max(steps) == min(steps)
    f = torch.empty_like(source, dtype=dtype, memory_format=torch.contiguous_format)
    lines = max(1, _PART // shape[-1])
    for part, out in zip(source.reshape(-1, shape[-1]).split(lines), f.view(-1, shape[-1]).split(lines), strict=True):
        _along_lines(part, steps[-1], out)
    before, after = [size, *shape[:-1]], shape[-1]
    while len(before) > 1:
        length = before.pop()
        f = next_axis(f.reshape(math.prod(before), length, after), steps[len(before) - 1] ** 2, whole)
        after *= length
    f = f.reshape(source.shape)
    return f if scale == 1 else f.mul_(scale**2)


def _along_lines(source: Tensor, step: float, out: Tensor) -> None:
    """Squared distance along the last axis alone; inf in a line without a source."""
    length = source.shape[-1]
    whole = torch.int16 if length < 1 << 13 else torch.int32
    position = torch.arange(length, dtype=whole, device=source.device)
    nowhere = 3 * length  # by products: on a CPU a choice by a mask takes ten times as long
    source = source.to(whole)
    previous = (source * (position + nowhere)).sub_(nowhere).cummax(-1).values
    following = (source * (nowhere - position)).sub_(nowhere).flip(-1).cummax(-1).values.flip(-1)
    gap = torch.minimum(position - previous, following.add_(position).neg_())
    out.copy_(gap).mul_(step)
    out.mul_(out)
    out.add_(torch.zeros_like(out[:, :1]).masked_fill_(gap[:, :1] >= length, torch.inf))


def _next_axis_without_sync(f: Tensor, weight: float, whole: bool) -> Tensor:
    """Minimize f[:,j] + weight (x-j)² over j along axis 1 of (B,L,R), in place, some lines at a time."""
    size, length, columns = f.shape
    lines, line = size * columns, length * (_coarse(length)[1] + 1)
    if lines * line > 4 * _CANDIDATES:
        lines = max(1, _CANDIDATES // line)
    for rows in f.split(max(1, lines // columns)):
        for part in rows.split(min(lines, columns), 2):
            part.copy_(_envelope(part, weight))
    return f


def _coarse(length: int) -> tuple[int, int]:
    """Width and number of the intervals into which a line is cut: both are about the root of its length."""
    width = 1 << (length.bit_length() // 2)
    return width, -(-length // width)


def _envelope(f: Tensor, weight: float) -> Tensor:
    """The same, of shapes that do not depend on values.

    The best j ascends with x, so those at the ends of an interval enclose the candidates for all x between. Over all
    intervals that is little more than one candidate per element: pairs (interval k, j) in order, j ascending by 1 but
    where k does.
    """
    size, length, columns = f.shape
    width, number = _coarse(length)
    position = torch.arange(length, dtype=f.dtype, device=f.device)
    ends = (torch.arange(number + 1, dtype=f.dtype, device=f.device) * width).clamp(max=length - 1)
    cost = (ends.unsqueeze(1) - position).square_().mul_(weight)
    best = (f.unsqueeze(1) + cost.unsqueeze(-1)).argmin(2).cummax(1).values  # ascending, whatever rounding does
    first = best[:, :1]
    order = torch.arange(length + number - 1, device=f.device).view(1, -1, 1)
    begin = best[:, :-1] - first + order[:, :number]
    k = torch.zeros_like(order).expand(size, -1, columns).scatter(1, begin, 1).cumsum(1).sub_(1)
    j = (order + first - k).clamp(max=length - 1)
    offset = (k * width).sub_(j).to(f.dtype).unsqueeze(2) + position[:width].view(-1, 1)  # x - j of each x
    candidates = torch.addcmul(f.gather(1, j).unsqueeze(2), offset, offset, value=weight)
    result = f.new_full((size, number, width, columns), torch.inf)
    result.scatter_reduce_(1, k.unsqueeze(2).expand_as(candidates), candidates, "amin")
    return result.view(size, -1, columns)[:, :length]


def _next_axis_by_loops(f: Tensor, weight: float, whole: bool) -> Tensor:
    """Minimize f[:,j] + weight (x-j)² over j along axis 1 of (B,L,R), in place; ``whole``: of whole numbers."""
    for part in f.split(max(1, _CHUNK // (f.shape[1] * f.shape[2]))):
        inner = _inner(part)
        if inner.numel():
            _lower_(inner, weight, whole)
    return f


def _inner(f: Tensor) -> Tensor:
    """The part of f around what is not 0: of the zeros along axis 1, only the nearest can be the minimum anywhere."""
    rows, columns = (f.amax(axes).nonzero().flatten().tolist() or [-1] for axes in ((0, 2), (0, 1)))
    return f[:, max(0, rows[0] - 1) : rows[-1] + 2, columns[0] : columns[-1] + 1] if rows[0] >= 0 else f[:, :0]


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
    positions = sites.to(f.dtype)
    few = torch.tensor([0, length // 2, length - 1], dtype=f.dtype, device=f.device)
    near = whole and _minimum(f[:, sites], positions, few, weight).amax().item() < _SHORT**2
    if not (near and _by_offset_(f)):
        f.copy_(_between(f[:, sites], positions, 0, length, weight))


def _by_site(f: Tensor, sites: list[int], weight: float) -> Tensor:
    position = torch.arange(f.shape[1], dtype=f.dtype, device=f.device).unsqueeze(1)
    lowest, candidate = torch.full_like(f, torch.inf), torch.empty_like(f)
    for j in sites:
        torch.add(f[:, j : j + 1], (position - j).square_().mul_(weight), out=candidate)
        torch.minimum(lowest, candidate, out=lowest)
    return lowest


def _by_offset_(f: Tensor) -> bool:
    """Try j = x±1, x±2, … for whole numbers, in place.

    False, and nothing done, if ``_SHORT`` of them do not suffice.
    """
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
        return _minimum(f, sites, torch.arange(start, end, dtype=f.dtype, device=f.device), weight)
    middle = (start + end) // 2
    v = _minimum(f, sites, torch.tensor([middle - 1, middle], dtype=f.dtype, device=f.device), weight)
    bound = middle - 0.5 - (v[:, 1] - v[:, 0]) / (2 * weight)
    low, high, farthest = torch.stack([*bound.aminmax(), v.amax()]).tolist()
    slack = 1 + 4 * torch.finfo(f.dtype).eps * farthest / weight
    first, last = torch.searchsorted(
        sites, torch.tensor([low - slack, high + slack], dtype=f.dtype, device=f.device)
    ).tolist()
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
