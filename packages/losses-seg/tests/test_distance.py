"""The distance transform against scipy's, on the CPU's loops and on the path without any (compiled, other devices)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from losses_core.errors import InputError
from losses_seg import _edt, _ops
from losses_seg._distance import steps_of
from losses_seg.functional import distance_transform


def by_scipy(mask, spacing=None):
    return np.stack([distance_transform_edt(one, sampling=spacing) for one in mask.numpy()])


def blobs(*shape, level=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n, *sides = shape
    coarse = torch.randn(n, 1, *(max(2, side // 16) for side in sides), generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    return torch.nn.functional.interpolate(coarse, size=sides, mode=mode)[:, 0] > level


def disc(side, radius):
    x = torch.arange(side) - side / 2
    return (x.square().unsqueeze(1) + x.square() < radius**2).unsqueeze(0)


def point(*shape):
    mask = torch.ones(1, *shape, dtype=torch.bool)
    mask.view(-1)[mask.numel() // 3] = False
    return mask


MASKS = {
    "random": torch.rand(2, 40, 33, generator=torch.Generator().manual_seed(0)) < 0.6,
    "sparse": torch.rand(2, 60, 70, generator=torch.Generator().manual_seed(1)) < 0.999,
    "blobs": blobs(3, 150, 90),
    "few blobs": blobs(2, 200, 130, level=1.2),
    "far from blobs": ~blobs(2, 200, 130, level=1.2),
    "disc": disc(300, 70),
    "far from a disc": ~disc(420, 105),  # more than 128 pixels: beyond what the short integers hold
    "one source": point(211, 100),
    "line": blobs(2, 500),
    "long line": point(40_000),
    "volume": blobs(2, 24, 30, 36),
    "far in a volume": ~blobs(1, 24, 40, 36, level=1.5),
    "one pixel": torch.tensor([[[True]], [[False]]])[1:],
    "one row": blobs(1, 1, 50),
}
SPACINGS = {
    "unit": lambda dims: None,
    "number": lambda dims: 0.3,
    "growing": lambda dims: [0.5 * (k + 1) for k in range(dims)],
    "unit then half": lambda dims: [1.0] * (dims - 1) + [0.5],
    "long first": lambda dims: [20.0] + [1.0] * (dims - 1),
    "short first": lambda dims: [0.05] + [1.0] * (dims - 1),
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", MASKS)
def test_equals_scipy(name, spacing):
    mask = MASKS[name]
    steps = SPACINGS[spacing](mask.ndim - 1)
    expected = by_scipy(mask, steps)
    np.testing.assert_allclose(distance_transform(mask, spacing=steps).numpy(), expected, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [name for name in MASKS if name != "long line"])
def test_without_reading_values_it_equals_scipy(name, spacing, monkeypatch):
    """As on accelerators."""
    monkeypatch.setattr(_edt, "_CANDIDATES", 1 << 16)  # several parts
    mask = MASKS[name]
    steps = SPACINGS[spacing](mask.ndim - 1)
    found = _edt.squared_distance_without_sync(~mask, steps_of(steps, mask.ndim - 1), torch.float32).sqrt()
    np.testing.assert_allclose(found.numpy(), by_scipy(mask, steps), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("loop", ["_by_site", "_by_offset_", "_between"])
def test_every_loop_is_used_and_alone_is_right(loop, monkeypatch):
    used = []
    original = getattr(_edt, loop)
    monkeypatch.setattr(_edt, loop, lambda *args: used.append(loop) or original(*args))
    for mask in MASKS.values():
        distance_transform(mask)
    assert used


def test_compiled():
    mask = MASKS["blobs"]
    compiled = torch.compile(distance_transform, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(mask), distance_transform(mask))


def test_squares_of_whole_numbers_are_exact():
    source = ~MASKS["far from a disc"]
    squared = _ops.squared_distance(source, [1.0, 1.0], torch.float32)
    assert torch.equal(squared, squared.round())
    assert torch.equal(squared, _edt.squared_distance_without_sync(source, [1.0, 1.0], torch.float32))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    n=st.integers(1, 3),
    share=st.sampled_from([0.3, 0.9, 0.98]),
    seed=st.integers(0, 10_000),
    step=st.sampled_from([None, 0.25, 3.0]),
)
def test_any_shape(shape, n, share, seed, step):
    mask = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) < share
    mask.view(n, -1)[:, seed % mask[0].numel()] = False  # scipy says nothing sensible of an image without a source
    expected = by_scipy(mask, None if step is None else [step] * len(shape))
    np.testing.assert_allclose(distance_transform(mask, spacing=step).numpy(), expected, atol=1e-4)


def test_images_without_a_source_or_without_a_distance():
    mask = torch.stack([torch.ones(5, 6), torch.zeros(5, 6), MASKS["random"][0, :5, :6]]).bool()
    distance = distance_transform(mask)
    assert torch.isinf(distance[0]).all()
    assert not distance[1].any()
    np.testing.assert_allclose(distance[2:].numpy(), by_scipy(mask[2:]), atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 5, 0)])
def test_empty(shape):
    assert distance_transform(torch.ones(shape, dtype=torch.bool)).shape == shape


def test_any_dtype_and_no_change():
    mask = MASKS["random"]
    for dtype in (torch.uint8, torch.int64, torch.float32):
        given = mask.to(dtype) * 3
        kept = given.clone()
        assert torch.equal(distance_transform(given), distance_transform(mask))
        assert torch.equal(given, kept)


@pytest.mark.parametrize("spacing", [0, -1.0, [1.0], [1.0, 2.0, 3.0], [1.0, 0.0], "1", True, float("nan")])
def test_spacing_is_checked(spacing):
    with pytest.raises(InputError, match="spacing: expected a number > 0, or 2 of them, one per spatial axis; got"):
        distance_transform(torch.ones(1, 3, 3), spacing=spacing)


def test_axes_are_needed():
    with pytest.raises(
        InputError, match=r"expected a mask of shape \(N, \*S\), with one or more spatial axes; got \(3,\)"
    ):
        distance_transform(torch.ones(3))
