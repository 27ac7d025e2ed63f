"""Relational distillation: `RKDDistanceLoss`, `RKDAngleLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError
from losses_core._blocks import block_size
from losses_core.kernels import use_definitions
from losses_distill import RKDAngleLoss, RKDDistanceLoss
from losses_distill._kernels import rkd as kernels
from losses_distill.functional import rkd_angle_loss, rkd_distance_loss
from losses_testkit.runs import saved_floats

from . import oracles
from .test_feature_loss import pair


def angles(*arguments, **options):
    """The unreduced loss by the public function."""
    return rkd_angle_loss(*arguments, **options).value


def textbook_angles(x):
    """All differences, scaled to length 1, as in the well-known code."""
    e = F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)
    return torch.bmm(e, e.mT)


def test_equals_the_textbook():
    student, teacher = pair(9, 6, teacher=(9, 4), dtype=torch.float64)
    distances = [torch.cdist(x, x) for x in (student, teacher)]
    expected = F.smooth_l1_loss(*(d / d[d > 0].mean() for d in distances))
    torch.testing.assert_close(RKDDistanceLoss()(student, teacher), expected)
    expected = F.smooth_l1_loss(textbook_angles(student), textbook_angles(teacher))
    torch.testing.assert_close(RKDAngleLoss()(student, teacher), expected)


@pytest.mark.parametrize("loss", [RKDDistanceLoss, RKDAngleLoss])
def test_equal_relations_give_zero(loss):
    teacher = pair(8, 6)[1]
    student = (3 * teacher + 5).requires_grad_()
    value = loss()(student, teacher)
    value.backward()
    assert abs(value.item()) < 1e-6
    assert student.grad.abs().max() < 1e-5
    assert loss()(teacher, teacher) == 0


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 7),
    d=st.integers(1, 5),
    scale=st.floats(1e-2, 1e2),
    shift=st.floats(-1e3, 1e3),
    seed=st.integers(0, 99),
)
def test_relations_do_not_move(n, d, scale, shift, seed):
    student, teacher = pair(n, d, teacher=(n, 3), seed=seed, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))[0]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for function in (rkd_distance_loss, angles):
        value = function(student, teacher)
        assert (value >= 0).all()
        moved = function(student @ turn * scale + shift, teacher)
        torch.testing.assert_close(moved, value, rtol=1e-6, atol=1e-6)
        mixed = function(student[order], teacher[order])
        expected = value[order][:, order] if value.ndim == 2 else value[order]
        torch.testing.assert_close(mixed, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 1, 3, 100])
def test_chunks_change_nothing(chunk_size):
    student, teacher = pair(8, 6, dtype=torch.float64)
    whole, chunked = RKDAngleLoss(chunk_size=8), RKDAngleLoss(chunk_size=chunk_size)
    torch.testing.assert_close(chunked(student, teacher), whole(student, teacher))
    gradients = (torch.autograd.grad(loss(student, teacher), student)[0] for loss in (chunked, whole))
    torch.testing.assert_close(*gradients)


def test_chunks_bound_the_memory(monkeypatch):
    sizes = []
    original = kernels._Distances.cosines

    def measured(self, *chunk):
        cosines = original(self, *chunk)
        sizes.append(cosines.numel())
        return cosines

    monkeypatch.setattr(kernels._Distances, "cosines", measured)
    student, teacher = pair(32, 4)
    RKDAngleLoss(chunk_size=2)(student, teacher).backward()
    assert max(sizes) == 2 * 2 * 32 * 32  # of student and teacher
    sizes.clear()
    student, teacher = pair(100, 4)
    RKDAngleLoss()(student, teacher).backward()
    assert max(sizes) <= block_size(student, large=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_offset_features_keep_their_distances(dtype):
    """Without subtracting the batch mean, the matrix product errs by hundreds of per cent."""
    student, teacher = (x.detach() for x in pair(8, 64))
    shifted = student + 3000
    exact = (shifted.double().numpy(), teacher.double().numpy())  # what the rounded features are
    value = rkd_distance_loss(shifted.to(dtype), teacher.to(dtype)).sum()
    assert abs(value / oracles.rkd_distance(*exact)[0].sum() - 1) < 1e-4
    value = angles(shifted.to(dtype), teacher.to(dtype)).sum()
    assert abs(value / oracles.rkd_angle(*exact)[0].sum() - 1) < 1e-4

    def plain(x):
        squares = x.square().sum(1)
        return (squares.unsqueeze(0) + squares.unsqueeze(1) - 2 * x @ x.T).clamp(min=1e-12).sqrt()

    far, near = plain(shifted), torch.cdist(student, student)
    off = ~torch.eye(8, dtype=torch.bool)
    assert ((far - near).abs() / near)[off].max() > 0.1  # the mistake this guards against


def test_clusters_keep_their_angles():
    """Angles within a tight cluster far from another need a matrix product in float64."""
    g = torch.Generator().manual_seed(3)
    centres = torch.randn(2, 16, generator=g) * 10
    student = centres.repeat_interleave(4, 0) + 0.02 * torch.randn(8, 16, generator=g)
    teacher = torch.randn(8, 16, generator=g)
    expected = oracles.rkd_angle(student.double().numpy(), teacher.double().numpy())[0].sum()
    assert abs(angles(student, teacher).sum().item() / expected - 1) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("copies", [2, 5])
def test_duplicate_rows_give_small_gradients(dtype, copies):
    student, teacher = pair(8, 64, dtype=dtype)
    rows = student.detach().clone() * 30 + 7
    rows[:copies] = rows[0]
    for loss in (RKDAngleLoss(), RKDDistanceLoss(), RKDAngleLoss(l2_normalize=True)):
        rows.grad = None
        loss(rows.requires_grad_(), teacher).backward()
        assert rows.grad.abs().max() < 1

    if dtype == torch.float32:  # the mistake this guards against
        e = rows.unsqueeze(0) - rows.unsqueeze(1)
        e = e / (e.square().sum(2, keepdim=True) + 1e-18).sqrt()
        (gradient,) = torch.autograd.grad(F.smooth_l1_loss(torch.bmm(e, e.mT), textbook_angles(teacher)), rows)
        assert gradient.abs().max() > 1e3


def test_one_sample_gives_zero():
    for loss in (RKDDistanceLoss(), RKDAngleLoss()):
        student, teacher = pair(1, 5)
        value = loss(student, teacher)
        value.backward()
        assert value == 0
        assert not student.grad.any()


def test_the_mean_is_over_all_pairs_and_triples():
    student, teacher = pair(5, 6)
    unit = RKDDistanceLoss(reduction="none")(student, teacher)
    assert unit.shape == (5, 5)
    assert not unit.diagonal().any()
    torch.testing.assert_close(RKDDistanceLoss()(student, teacher), unit.sum() / 25)
    unit = RKDAngleLoss(reduction="none")(student, teacher)
    assert unit.shape == (5,)
    torch.testing.assert_close(RKDAngleLoss()(student, teacher), unit.sum() / 125)
    torch.testing.assert_close(RKDAngleLoss(reduction="sum")(student, teacher), unit.sum())


@pytest.mark.parametrize("loss", [RKDDistanceLoss, RKDAngleLoss])
def test_shapes(loss):
    student, teacher = pair(4, 3, 2, 2, teacher=(4, 5))
    torch.testing.assert_close(loss()(student, teacher), loss()(student.flatten(1), teacher))
    with pytest.raises(InputError, match=r"\(4, 3, 2, 2\).*\(3, 5\)"):
        loss()(student, teacher[:3])
    with pytest.raises(InputError, match=r"\(N, D\).*\(4,\)"):
        loss()(torch.zeros(4), torch.zeros(4))
    with pytest.raises(InputError, match=rf"{loss.__name__}: expected weight of the loss's shape .*got \(3,\)"):
        loss()(student, teacher, weight=torch.ones(3))
    with pytest.raises(InputError, match=r"\(N, D\).*\(\)"):
        loss()(torch.zeros(()), torch.zeros(()))
    with pytest.raises(ConfigError, match="eps"):
        loss(eps=-1)
    with pytest.raises(ConfigError, match="chunk_size"):
        RKDAngleLoss(chunk_size=0)


def test_eps_is_the_least_squared_distance():
    rows = torch.tensor([[0.0, 0.0], [1e-2, 0.0], [3.0, 4.0]])
    teacher = torch.tensor([[0.0], [1.0], [3.0]])
    near = rkd_distance_loss(rows, teacher, eps=1e-3)
    same = rkd_distance_loss(torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]), teacher)
    torch.testing.assert_close(near[0, 1], same[0, 1], rtol=1e-3, atol=1e-3)


def test_saves_the_embeddings_alone():
    embeddings = pair(128, 512)
    for loss in (RKDDistanceLoss(), RKDAngleLoss()):
        with saved_floats() as saved:
            loss(*embeddings)
        assert saved.keys() == {x.untyped_storage().data_ptr() for x in embeddings}, loss


@pytest.mark.parametrize("loss", [RKDDistanceLoss, RKDAngleLoss])
def test_a_weight_applies_to_anchors(loss):
    student, teacher = pair(5, 6, dtype=torch.float64)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    unit = loss(reduction="none")(student, teacher)
    weighted = unit * weight.reshape(5, *(1 for _ in unit.shape[1:]))
    torch.testing.assert_close(loss(reduction="none")(student, teacher, weight=weight), weighted)
    # the denominator is that of the mean without a weight
    value, expected = loss()(student, teacher, weight=weight), weighted.sum() / (25 if unit.ndim == 2 else 125)
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(v, student, retain_graph=True)[0] for v in (value, expected)]
    torch.testing.assert_close(*gradients)
    assert gradients[0][1].any()  # a sample of weight 0 is no anchor, but a partner of the others
    torch.testing.assert_close(loss()(student, teacher, weight=torch.ones(5)), loss()(student, teacher))


def test_a_weight_applies_to_pairs():
    student, teacher = pair(5, 6, dtype=torch.float64)
    weight = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = RKDDistanceLoss(reduction="none")(student, teacher)
    value, expected = RKDDistanceLoss()(student, teacher, weight=weight), (unit * weight).sum() / 25
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, student, retain_graph=True)[0] for v in (value, expected)))
    with pytest.raises(InputError, match=r"expected weight of the loss's shape \(5,\)"):
        RKDAngleLoss()(student, teacher, weight=weight)


EDGES = {
    "usual": lambda x: (x, x.flip(0)),
    "duplicates": lambda x: (x[[0, 0, 1, 1, 1, 2]], x),
    "duplicates of the teacher": lambda x: (x, x[[0, 0, 1, 1, 1, 2]]),
    "equal": lambda x: (x[[0] * 6], x),
    "zero": lambda x: (x * 0, x),
    "far from zero": lambda x: (x + 1e4, x),
    "one": lambda x: (x[:1], x[:1]),
    "none": lambda x: (x[:0], x[:0]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    "loss",
    [
        RKDDistanceLoss(),
        RKDDistanceLoss(squared=True),
        RKDDistanceLoss(l2_normalize=True),
        RKDAngleLoss(),
        RKDAngleLoss(chunk_size=4),
        RKDAngleLoss(l2_normalize=True),
    ],
    ids=str,
)
def test_kernel_equals_definition(loss, edge):
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    student, teacher = EDGES[edge](rows)
    student = student.clone().requires_grad_()
    values = []
    for context in (contextlib.nullcontext, use_definitions):
        with context():
            value = loss(student, teacher)
            values.append((value, *torch.autograd.grad(value, student, torch.tensor(3.0, dtype=torch.float64))))
    torch.testing.assert_close(*values, rtol=1e-7, atol=1e-9)
