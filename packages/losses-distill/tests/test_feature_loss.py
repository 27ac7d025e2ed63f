"""Elementwise feature losses: layouts, adapter, pooling, masks, zero vectors."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError, check_optimizer, trainable_parameters
from losses_core._memory import PeakMemory
from losses_core.kernels import explain, use_definitions
from losses_distill import FeatureCosineLoss, FeatureL1Loss, FeatureMSELoss
from losses_distill.functional import feature_cosine_loss, feature_l1_loss, feature_mse_loss

LOSSES = [FeatureMSELoss, FeatureL1Loss, FeatureCosineLoss]


def pair(*shape, teacher=None, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    return student, torch.randn(*(teacher or shape), generator=g, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6), (4, 6, 3, 2)])
def test_equals_torch(shape):
    student, teacher = pair(*shape)
    channels = 2 if len(shape) == 3 else 1
    torch.testing.assert_close(FeatureMSELoss()(student, teacher), F.mse_loss(student, teacher))
    torch.testing.assert_close(FeatureL1Loss()(student, teacher), F.l1_loss(student, teacher))
    cosine = 1 - F.cosine_similarity(student, teacher, dim=channels)
    torch.testing.assert_close(FeatureCosineLoss(reduction="none")(student, teacher), cosine)
    unit = [F.normalize(x, dim=channels) for x in (student, teacher)]
    torch.testing.assert_close(FeatureMSELoss(normalize=True)(student, teacher), F.mse_loss(*unit))
    torch.testing.assert_close(FeatureL1Loss(normalize=True)(student, teacher), F.l1_loss(*unit))
    # (x/|x| - t/|t|)² summed over channels is 2 (1 - cos)
    summed = feature_mse_loss(student, teacher, normalize=True).sum(channels)
    torch.testing.assert_close(summed, 2 * cosine)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_equal_features_is_zero(loss):
    student, _ = pair(4, 6, 3, 2)
    for options in ({}, {"normalize": True}):
        value = loss(**options)(student, student.detach())
        assert abs(value.item()) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_sizes_that_differ_name_what_mends_them(loss):
    with pytest.raises(InputError, match=r"\(2, 4, 5, 5\).*\(2, 8, 5, 5\).*student_channels=4, teacher_channels=8"):
        loss()(torch.zeros(2, 4, 5, 5), torch.zeros(2, 8, 5, 5))
    with pytest.raises(InputError, match=r"\(2, 4, 6, 6\).*\(2, 4, 3, 3\).*resize='min'"):
        loss()(torch.zeros(2, 4, 6, 6), torch.zeros(2, 4, 3, 3))
    with pytest.raises(InputError, match=r"\(2, 4, 6\).*\(2, 3, 6\).*resize='min'"):
        loss()(torch.zeros(2, 4, 6), torch.zeros(2, 3, 6))
    with pytest.raises(InputError, match=r"one number of dims.*\(2, 4, 6\) and \(2, 4, 6, 1\)"):
        loss()(torch.zeros(2, 4, 6), torch.zeros(2, 4, 6, 1))
    with pytest.raises(InputError, match=r"\(2,\)"):
        loss()(torch.zeros(2), torch.zeros(2))
    with pytest.raises(InputError, match=r"pred with 3 channels, by student_channels=3; got \(2, 4\)"):
        loss(student_channels=3, teacher_channels=4)(torch.zeros(2, 4), torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"target with 4 channels, by teacher_channels=4; got \(2, 5\)"):
        loss(student_channels=3, teacher_channels=4)(torch.zeros(2, 3), torch.zeros(2, 5))
    with pytest.raises(InputError, match="expected pred as a tensor"):
        loss()([torch.zeros(2, 4)], [torch.zeros(2, 4)])
    with pytest.raises(ConfigError, match="teacher_channels: expected a number too"):
        loss(student_channels=3)
    with pytest.raises(ConfigError, match="student_channels: expected a number too"):
        loss(teacher_channels=3)
    with pytest.raises(ConfigError, match="student_channels"):
        loss(student_channels=0, teacher_channels=3)
    with pytest.raises(ConfigError, match="resize"):
        loss(resize="max")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 4, 5, 2), (3, 4, 2, 2, 2)])
def test_the_adapter_is_learnable(loss, shape):
    axis = 2 if len(shape) == 3 else 1
    teacher_shape = [*shape]
    teacher_shape[axis] = 6
    student, teacher = pair(*shape, teacher=teacher_shape)
    criterion = loss(student_channels=4, teacher_channels=6)
    names = dict(criterion.named_parameters())
    assert {name: tuple(p.shape) for name, p in names.items()} == {"adapter.weight": (6, 4), "adapter.bias": (6,)}
    adapted = F.linear(student.movedim(axis, -1), names["adapter.weight"], names["adapter.bias"]).movedim(-1, axis)
    torch.testing.assert_close(criterion(student, teacher), loss()(adapted, teacher))
    criterion(student, teacher).backward()
    assert all(p.grad is not None and p.grad.any() for p in names.values())
    assert student.grad.any()


def test_no_adapter_where_the_channels_are_equal():
    assert list(FeatureMSELoss(student_channels=4, teacher_channels=4).parameters()) == []
    assert FeatureMSELoss(student_channels=4, teacher_channels=4).adapter is None


def test_the_optimizer_is_checked():
    model = torch.nn.Linear(2, 4)
    loss = FeatureMSELoss(student_channels=4, teacher_channels=6)
    with pytest.raises(ConfigError, match=r"feature_mse\.adapter\.weight"):
        check_optimizer(torch.optim.SGD(model.parameters(), lr=0.1), loss)
    check_optimizer(torch.optim.SGD(trainable_parameters(model, loss), lr=0.1), loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_an_adapter_of_another_dtype(dtype):
    student, teacher = pair(3, 4, teacher=(3, 6), dtype=torch.float16)
    loss = FeatureMSELoss(student_channels=4, teacher_channels=6).to(dtype)
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    value.backward()
    assert all(p.grad.dtype == dtype for p in loss.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_pooling_goes_to_the_smaller_size_on_each_axis(loss):
    student, teacher = pair(2, 3, 6, 2, teacher=(2, 3, 4, 5))
    expected = loss()(F.adaptive_avg_pool2d(student, (4, 2)), F.adaptive_avg_pool2d(teacher, (4, 2)))
    torch.testing.assert_close(loss(resize="min")(student, teacher), expected)
    tokens = pair(2, 6, 3, teacher=(2, 4, 3))
    expected = loss()(F.adaptive_avg_pool1d(tokens[0].mT, 4).mT, tokens[1])
    torch.testing.assert_close(loss(resize="min")(*tokens), expected)
    vectors = pair(2, 6)
    torch.testing.assert_close(loss(resize="min")(*vectors), loss()(*vectors))


def test_pure_functions_pool_too():
    student, teacher = pair(2, 3, 6, 2, teacher=(2, 3, 3, 2))
    for function in (feature_mse_loss, feature_l1_loss, feature_cosine_loss):
        assert function(student, teacher, resize="min").shape[-2:] == (3, 2)
        with pytest.raises(InputError, match="resize='min'"):
            function(student, teacher)
        with pytest.raises(InputError, match=f"{function.__name__}: expected target with the 3 channels"):
            function(student, teacher[:, :2], resize="min")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("shape", "masks"),
    [
        ((3, 6), [(3,)]),
        ((3, 4, 6), [(3,), (3, 4)]),
        ((3, 6, 4, 2), [(3,), (3, 4, 2), (3, 1, 4, 2)]),
        ((3, 6, 4, 2, 2), [(3,), (3, 4, 2, 2), (3, 1, 4, 2, 2)]),
    ],
)
def test_masks(loss, shape, masks):
    student, teacher = pair(*shape)
    criterion = loss(reduction="none")
    unit = criterion(student, teacher)
    for mask_shape in masks:
        mask = torch.randint(0, 2, mask_shape, generator=torch.Generator().manual_seed(1)).float()
        weighted = criterion(student, teacher, weight=mask)
        if len(mask_shape) == 1:
            shown = mask.reshape(-1, *(1,) * (unit.ndim - 1))
        elif loss is FeatureCosineLoss:
            shown = mask.reshape(unit.shape)
        elif len(shape) == 3:
            shown = mask.unsqueeze(2)
        else:
            shown = mask.reshape(shape[0], 1, *shape[2:])
        torch.testing.assert_close(weighted, unit * shown)
        total = loss()(student, teacher, weight=mask, avg_factor=mask.sum())
        torch.testing.assert_close(total, (unit * shown).sum() / mask.sum())


@pytest.mark.parametrize("loss", LOSSES)
def test_masks_of_another_shape_raise_an_error(loss):
    student, teacher = pair(3, 6, 4, 2)
    for shape in [(4,), (3, 6), (3, 4), (1, 4, 2), (3, 2, 4, 2), (4, 2)]:
        with pytest.raises(InputError, match="expected weight of shape"):
            loss()(student, teacher, weight=torch.ones(shape))
    # at the pooled size, not at that of the features
    with pytest.raises(InputError, match=r"expected weight of shape \(3,\), \(3, 2, 2\)"):
        loss(resize="min")(student, torch.zeros(3, 6, 2, 2), weight=torch.ones(3, 4, 2))


def test_a_weight_for_each_element():
    student, teacher = pair(3, 6, 4, 2)
    weight = torch.rand(3, 6, 4, 2, generator=torch.Generator().manual_seed(2))
    unit = feature_mse_loss(student, teacher)
    torch.testing.assert_close(FeatureMSELoss()(student, teacher, weight=weight), (unit * weight).mean())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("resize", [None, "min"])
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_masked_locations_cannot_poison_anything(loss, normalize, resize, adapter, side):
    student, teacher = pair(
        2, 4, 4, 4, teacher=(2, 6 if adapter else 4, 2, 2) if resize else (2, 6 if adapter else 4, 4, 4)
    )
    channels = {"student_channels": 4, "teacher_channels": 6} if adapter else {}
    torch.manual_seed(0)
    criterion = loss(normalize=normalize, resize=resize, **channels)
    size = 2 if resize else 4
    mask = torch.ones(2, size, size)
    mask[0, 0, 1] = mask[1] = 0

    def run(student, teacher):
        student = student.detach().requires_grad_()
        value = criterion(student, teacher, weight=mask)
        return value, torch.autograd.grad(value, [student, *criterion.parameters()])

    expected, wanted = run(student, teacher)
    spoiled = (student if side == "student" else teacher).detach().clone()
    hidden = F.interpolate((mask == 0).float().unsqueeze(1), spoiled.shape[2:]).bool().expand_as(spoiled)
    spoiled[hidden] = float("nan")
    value, gradients = run(spoiled, teacher) if side == "student" else run(student, spoiled)
    torch.testing.assert_close(value, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want)
    assert not gradients[0][1].any()


@pytest.mark.parametrize("function", [feature_mse_loss, feature_l1_loss])
def test_a_vector_without_length_has_no_direction(function):
    student = torch.zeros(2, 4, requires_grad=True)
    teacher = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    value = function(student, teacher, normalize=True)
    expected = torch.tensor([[0.6, 0.8, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(value, expected.square() if function is feature_mse_loss else expected)
    assert not torch.autograd.grad(value.sum(), student)[0].any()
    cosine = feature_cosine_loss(student, teacher)
    torch.testing.assert_close(cosine, torch.ones(2))
    assert not torch.autograd.grad(cosine.sum(), student)[0].any()


def test_eps_is_the_least_length():
    student, teacher = torch.tensor([[1e-3, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert FeatureCosineLoss()(student, teacher) == 0
    assert FeatureCosineLoss(eps=1e-2)(student, teacher) == 1


CRITERIA = [
    FeatureMSELoss(),
    FeatureMSELoss(normalize=True),
    FeatureL1Loss(),
    FeatureL1Loss(normalize=True),
    FeatureCosineLoss(),
]


@pytest.mark.parametrize("loss", CRITERIA, ids=repr)
@pytest.mark.parametrize("shape", [(64, 256, 92, 92), (2, 256, 64, 64, 64), (256, 1024, 512)], ids=str)
def test_peak_memory(loss, shape):
    """Two large volumes too."""
    student, teacher = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for _ in range(2))
    student.requires_grad_()
    with PeakMemory() as memory:
        loss(student, teacher).backward()
    assert memory.peak <= 1.5 * student.nbytes
    assert student.grad.dtype == torch.bfloat16


def kernels_of(loss, *inputs, **keywords):
    return explain(loss, *inputs, **keywords).rpartition(".")[2]


@pytest.mark.parametrize("shape", [(3, 6), (3, 4, 6), (3, 6, 4, 2)])
def test_kernels_of_normalized_features(shape):
    """They sum the channels of a location, which one weight may multiply; else the definition runs."""
    student, teacher = pair(*shape)
    axis = 2 if len(shape) == 3 else 1
    locations = [n for i, n in enumerate(shape) if i != axis]
    for loss, kernel in ((FeatureMSELoss, "squared_of_unit"), (FeatureL1Loss, "absolute_of_unit")):
        criterion = loss(normalize=True)
        assert kernels_of(criterion, student, teacher) == kernel
        for weight in (torch.rand(3), torch.rand(locations)):
            assert kernels_of(criterion, student, teacher, weight=weight) == kernel
            value = criterion(student, teacher, weight=weight)
            (gradient,) = torch.autograd.grad(value, student, create_graph=True)
            (second,) = torch.autograd.grad(gradient.square().sum(), student)
            with use_definitions():
                expected = criterion(student, teacher, weight=weight)
                (wanted,) = torch.autograd.grad(expected, student, create_graph=True)
                (wanted_second,) = torch.autograd.grad(wanted.square().sum(), student)
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(gradient, wanted)
            torch.testing.assert_close(second, wanted_second)
        assert "definition" in explain(criterion, student, teacher, weight=torch.rand(shape))
        assert "definition" in explain(criterion, student, teacher, reduction_override="none")


def test_channels_last():
    student, teacher = pair(3, 6, 5, 4)
    for loss in CRITERIA:
        expected = torch.autograd.grad(loss(student, teacher), student)
        last = student.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        actual = torch.autograd.grad(loss(last, teacher.contiguous(memory_format=torch.channels_last)), last)
        torch.testing.assert_close(actual, expected)


def test_a_large_sum_keeps_its_precision():
    g = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(16, 64, 60, 60, generator=g) for _ in range(2))
    exact = F.mse_loss(student.double(), teacher.double())
    assert abs(FeatureMSELoss()(student, teacher) / exact - 1) < 2e-7
    exact = F.l1_loss(student.double(), teacher.double())
    assert abs(FeatureL1Loss()(student, teacher) / exact - 1) < 2e-7


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5])
def test_the_cosine_of_nearly_equal_features_keeps_its_precision(distance):
    g = torch.Generator().manual_seed(0)
    teacher = torch.randn(4, 256, 6, 6, generator=g)
    student = (teacher + distance * torch.randn(teacher.shape, generator=g)).requires_grad_()
    exact_student = student.detach().double().requires_grad_()
    exact = FeatureCosineLoss()(exact_student, teacher.double())
    torch.testing.assert_close(exact, (1 - F.cosine_similarity(exact_student, teacher.double())).mean())
    (wanted,) = torch.autograd.grad(exact, exact_student)
    actual = {}
    for name in ("kernel", "definition"):
        with use_definitions() if name == "definition" else contextlib.nullcontext():
            value = FeatureCosineLoss()(student, teacher)
            (gradient,) = torch.autograd.grad(value, student)
        actual[name] = abs(value.double() / exact - 1), (gradient.double() - wanted).norm() / wanted.norm()
    for value_error, gradient_error in actual.values():
        # a rounding error of the features is 1e-7 of their length, so that much of the distance
        assert value_error < 1e-6 + 1e-8 / distance
        assert gradient_error < 1e-6 + 1e-6 / distance


@pytest.mark.parametrize("loss", CRITERIA, ids=repr)
def test_a_gradient_with_a_graph(loss):
    student, teacher = pair(4, 6, 3, 2)
    for reduction in ("mean", "none"):
        value = loss(student, teacher, reduction_override=reduction).sum()
        (gradient,) = torch.autograd.grad(value, student, create_graph=True)
        assert gradient.requires_grad
        (second,) = torch.autograd.grad(gradient.sum(), student)
        assert second.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3, 4, 5, 6)])
def test_features_have_two_to_five_dims(loss, shape):
    with pytest.raises(InputError, match=r"\(N, D\), \(N, L, C\) or \(N, C, \*S\)"):
        loss()(torch.zeros(shape), torch.zeros(shape))


def test_a_teacher_of_another_dtype():
    student, teacher = pair(3, 6, 4, 2)
    for loss in CRITERIA:
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            for reduction in ("mean", "none"):
                value = loss(student, teacher.to(dtype), reduction_override=reduction)
                assert value.dtype == torch.float32
                torch.testing.assert_close(
                    value, loss(student, teacher.to(dtype).float(), reduction_override=reduction)
                )


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(1, 3), (2, 3, 4), (2, 4, 1, 3), (2, 2, 1, 2, 2)]),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_normalized_losses_know_no_scale(shape, scale, seed):
    student, teacher = pair(*shape, seed=seed, dtype=torch.float64)
    for function in (feature_mse_loss, feature_l1_loss):
        torch.testing.assert_close(
            function(student * scale, teacher, normalize=True), function(student, teacher, normalize=True)
        )
    cosine = feature_cosine_loss(student * scale, teacher)
    torch.testing.assert_close(cosine, feature_cosine_loss(student, teacher))
    assert ((cosine > -1e-12) & (cosine < 2 + 1e-12)).all()


WEIGHTS = {
    "samples": (2,),
    "locations": (2, 3, 4),
    "one channel": (2, 1, 3, 4),
    "elements": (2, 5, 3, 4),
}


@pytest.mark.parametrize("shape", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("loss", [FeatureMSELoss, FeatureL1Loss, FeatureCosineLoss])
def test_the_weighted_mean_divides_by_the_weights(loss, shape):
    if loss is FeatureCosineLoss and shape == (2, 5, 3, 4):
        pytest.skip("has no elements")
    student, teacher = pair(2, 5, 3, 4, dtype=torch.float64)
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight.flatten()[1] = 0
    unit = loss(reduction="none")(student, teacher)
    if len(shape) == 1:
        full = weight.reshape(2, *(1,) * (unit.ndim - 1)).expand_as(unit)
    elif unit.ndim == 3:
        full = weight.reshape(2, 3, 4)
    else:
        full = (weight.unsqueeze(1) if weight.ndim == 3 else weight).expand_as(unit)
    expected = (unit * full).sum() / full.sum()
    actual = loss(weighted_mean=True)(student, teacher, weight=weight)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, student, retain_graph=True)[0] for v in (actual, expected)))
    # nothing changes without a weight, with avg_factor, and for the other reductions
    for options in ({}, {"weight": weight, "avg_factor": 7}, {"weight": weight, "reduction_override": "sum"}):
        torch.testing.assert_close(
            loss(weighted_mean=True)(student, teacher, **options), loss()(student, teacher, **options)
        )


def test_the_weighted_mean_of_tokens_and_vectors():
    for shape, weights in (((2, 6, 5), [(2,), (2, 6), (2, 6, 5)]), ((4, 5), [(4,), (4, 5)])):
        student, teacher = pair(*shape, dtype=torch.float64)
        unit = FeatureMSELoss(reduction="none")(student, teacher)
        for size in weights:
            weight = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            full = weight.reshape(*size, *(1,) * (len(shape) - len(size))).expand(shape)
            actual = FeatureMSELoss(weighted_mean=True)(student, teacher, weight=weight)
            torch.testing.assert_close(actual, (unit * full).sum() / full.sum())


def test_a_map_of_scores_is_score_weighted_distillation():
    """Σ w d² / (C Σ w), as for detectors of one stage."""
    student, teacher = pair(2, 5, 3, 4, dtype=torch.float64)
    scores = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    squares = ((student - teacher) ** 2 * scores.unsqueeze(1)).sum()
    expected = squares / (5 * scores.sum())
    torch.testing.assert_close(FeatureMSELoss(weighted_mean=True)(student, teacher, weight=scores), expected)


def test_the_weighted_mean_of_nothing_is_zero():
    student, teacher = pair(2, 5, 3, 4)
    value = FeatureMSELoss(weighted_mean=True)(student, teacher, weight=torch.zeros(2, 3, 4))
    value.backward()
    assert value == 0
    assert not student.grad.any()


def test_the_weighted_mean_with_an_adapter_and_pooling():
    student, teacher = pair(2, 3, 6, 6, teacher=(2, 5, 3, 3))
    loss = FeatureMSELoss(student_channels=3, teacher_channels=5, resize="min", weighted_mean=True)
    weight = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1))
    unit = loss(student, teacher, reduction_override="none")
    expected = (unit * weight.unsqueeze(1)).sum() / (5 * weight.sum())
    torch.testing.assert_close(loss(student, teacher, weight=weight), expected)
    with pytest.raises(InputError, match="expected weight"):
        loss(student, teacher, weight=torch.ones(2, 6, 6))


def test_a_learned_weight_gets_the_gradient_of_the_weighted_mean():
    student, teacher = pair(2, 5, 3, dtype=torch.float64)
    weight = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    loss = FeatureMSELoss(weighted_mean=True)
    assert torch.autograd.gradcheck(lambda w: loss(student.detach(), teacher, weight=w), weight)


# torch's own tracer instantiates torch.autograd.Function, and warns of it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_weighted_mean_compiles_to_one_graph():
    torch._dynamo.reset()
    student, teacher = pair(2, 5, 3, 4)
    weight = torch.rand(2, 3, 4)
    for loss in (FeatureMSELoss(weighted_mean=True), FeatureCosineLoss(weighted_mean=True)):
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(student, teacher, weight=weight), loss(student, teacher, weight=weight))
