"""Knowledge distillation of logits: `KnowledgeDistillationLoss`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import ConfigError, InputError, build_loss
from losses_distill import KDLoss, KnowledgeDistillationLoss
from losses_distill.functional import kd_loss
from losses_testkit.runs import saved_floats

INF = float("inf")


def pair(*shape, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(*shape, generator=g, dtype=torch.float64) * 3
    return student.to(dtype).requires_grad_(), (torch.randn(*shape, generator=g, dtype=torch.float64) * 3).to(dtype)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_equals_torch(temperature):
    student, teacher = pair(5, 10)
    log_p, q = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    expected = F.kl_div(log_p, q, reduction="batchmean") * temperature**2
    actual = KnowledgeDistillationLoss(temperature)(student, teacher)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, student)[0] for v in (actual, expected)))


def test_directions_are_each_other_with_the_arguments_swapped():
    student, teacher = pair(5, 10)
    forward = kd_loss(teacher, student, teacher_detach=False)
    reverse = kd_loss(student, teacher, kl_direction="reverse")
    torch.testing.assert_close(forward, reverse)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), student)[0] for v in (forward, reverse)))


def test_mean_counts_positions_and_batchmean_samples():
    student, teacher = pair(4, 6, 3, 5)
    unit = KnowledgeDistillationLoss(reduction="none")(student, teacher)
    assert unit.shape == (4, 3, 5)
    torch.testing.assert_close(KnowledgeDistillationLoss(reduction="mean")(student, teacher), unit.mean())
    torch.testing.assert_close(KnowledgeDistillationLoss()(student, teacher), unit.sum() / 4)
    student, teacher = pair(4, 6)
    mean = KnowledgeDistillationLoss(reduction="mean")(student, teacher)
    torch.testing.assert_close(KnowledgeDistillationLoss()(student, teacher), mean)


def test_sequence_logits_per_position():
    student, teacher = pair(2, 5, 7)
    unit = KnowledgeDistillationLoss(reduction="none", class_dim=-1)(student, teacher)
    assert unit.shape == (2, 5)
    for n, position in ((0, 0), (1, 3)):
        one = KnowledgeDistillationLoss()(student[n, position].unsqueeze(0), teacher[n, position].unsqueeze(0))
        torch.testing.assert_close(unit[n, position], one)
    channels_first = KnowledgeDistillationLoss(reduction="none", class_dim=1)(student.mT, teacher.mT)
    torch.testing.assert_close(channels_first, unit)


@pytest.mark.parametrize("options", [{}, {"kl_direction": "reverse"}, {"logit_standardize": True}], ids=str)
def test_equal_logits_cost_zero(options):
    student, _ = pair(4, 6, dtype=torch.float32)
    loss = KnowledgeDistillationLoss(**options)(student, student.detach())
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert student.grad.abs().max() < 1e-6


def test_three_dims_ask_for_the_class_axis():
    student, teacher = pair(2, 5, 7)
    with pytest.raises(InputError, match=r"class_dim=-1.*class_dim=1.*\(2, 5, 7\)"):
        KnowledgeDistillationLoss()(student, teacher)
    with pytest.raises(InputError, match="class_dim"):
        KnowledgeDistillationLoss()(*pair(1, 2, 2, 2, 2, 2))
    with pytest.raises(InputError, match=r"class_dim=3.*\(2, 5, 7\)"):
        KnowledgeDistillationLoss(class_dim=3)(student, teacher)
    with pytest.raises(InputError, match="class_dim"):
        # the weight is looked at before the loss is computed
        KnowledgeDistillationLoss(class_dim=-4)(student, teacher, weight=torch.ones(2))
    with pytest.raises(ConfigError, match=r"class_dim.*the batch"):
        KnowledgeDistillationLoss(class_dim=0)


def test_shapes_that_differ_are_named():
    with pytest.raises(InputError, match=r"KnowledgeDistillationLoss: .*\(4, 6\).*\(4, 7\)"):
        KnowledgeDistillationLoss()(torch.zeros(4, 6), torch.zeros(4, 7))
    with pytest.raises(InputError, match=r"\(4, 6\).*\(1, 6\)"):
        KnowledgeDistillationLoss()(torch.zeros(4, 6), torch.zeros(1, 6))
    with pytest.raises(InputError, match=r"labels of shape \(4,\) for pred \(4, 6\).*got \(3,\)"):
        KnowledgeDistillationLoss()(torch.zeros(4, 6), torch.zeros(4, 6), labels=torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="kd_loss: expected pred with a batch"):
        kd_loss(torch.zeros(4), torch.zeros(4))
    with pytest.raises(InputError, match="floating"):
        KnowledgeDistillationLoss()(torch.zeros(4, 6), torch.zeros(4, 6, dtype=torch.long))
    with pytest.raises(InputError, match="expected one of 'forward', 'reverse'"):
        kd_loss(torch.zeros(4, 2), torch.zeros(4, 2), kl_direction="backward")


def test_class_weight_has_no_meaning_here():
    with pytest.raises(TypeError, match="class_weight"):
        KnowledgeDistillationLoss(class_weight=[1.0, 2.0])


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("standardize", [False, True])
def test_logits_of_minus_inf_in_both_are_left_out(direction, standardize):
    student, teacher = pair(3, 4)
    options = {"kl_direction": direction, "logit_standardize": standardize}
    expected = kd_loss(student, teacher, **options)
    (wanted,) = torch.autograd.grad(expected.sum(), student)
    wider = torch.cat([student.detach(), torch.full((3, 2), -INF)], 1).requires_grad_()
    actual = kd_loss(wider, torch.cat([teacher, torch.full((3, 2), -INF)], 1), **options)
    (gradient,) = torch.autograd.grad(actual.sum(), wider)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient[:, :4], wanted)
    assert not gradient[:, 4:].any()


def test_what_is_infinite_or_nan_shows():
    student = torch.tensor([[0.0, -INF], [float("nan"), 0.0], [0.0, 1.0]], requires_grad=True)
    value = kd_loss(student, torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, float("nan")]]), temperature=1.0)
    assert value[0] == INF
    assert value[1:].isnan().all()
    assert torch.autograd.grad(value[1], student)[0][1].isnan().all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gaps_of_thousands(direction):
    student = torch.tensor([[2000.0, 0.0, 0.0]], requires_grad=True)
    value = kd_loss(student, torch.tensor([[0.0, 2000.0, 0.0]]), temperature=1.0, kl_direction=direction)
    torch.testing.assert_close(value, torch.tensor([2000.0]))
    (gradient,) = torch.autograd.grad(value, student)
    expected = [1.0, -1.0, 0.0] if direction == "forward" else [0.0, 0.0, 0.0]
    torch.testing.assert_close(gradient, torch.tensor([expected]))


def test_a_large_offset_costs_no_digits():
    student, teacher = (x.detach().float().round(decimals=2) for x in pair(8, 100))
    expected = kd_loss(student, teacher)
    offset = 8192.0  # the sum is exact to 2^-10
    shifted = ((student + offset) - offset, (teacher - 4 * offset) + 4 * offset)
    torch.testing.assert_close(kd_loss(student + offset, teacher - 4 * offset), kd_loss(*shifted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kd_loss(*shifted), expected, rtol=5e-2, atol=5e-2)


def test_labels_mask_positions():
    student, teacher = pair(2, 5, 7)
    labels = torch.zeros(2, 5, dtype=torch.long)
    labels[0, 2:] = 255
    loss = KnowledgeDistillationLoss(class_dim=-1, reduction="mean", ignore_index=255)
    unit = loss(student, teacher, reduction_override="none")
    torch.testing.assert_close(loss(student, teacher, labels=labels), unit[labels != 255].mean())
    # the label may be another one at this call, and batchmean divides by N as ever
    labels[labels == 255] = 7
    actual = loss(student, teacher, labels=labels, ignore_index=7, reduction_override="batchmean")
    torch.testing.assert_close(actual, unit[labels != 7].sum() / 2)


def test_the_temperature_of_a_call_beats_that_of_the_constructor():
    student, teacher = pair(4, 6)
    expected = KnowledgeDistillationLoss(2.0)(student, teacher)
    torch.testing.assert_close(KnowledgeDistillationLoss(9.0)(student, teacher, temperature=2.0), expected)
    for wrong in (0, -1.0, float("nan"), "hot", True):
        with pytest.raises(InputError, match="temperature"):
            KnowledgeDistillationLoss()(student, teacher, temperature=wrong)
    with pytest.raises(InputError, match="0-d"):
        KnowledgeDistillationLoss()(student, teacher, temperature=torch.ones(2))


@pytest.mark.parametrize("standardize", [False, True])
def test_a_temperature_can_learn(standardize):
    student, teacher = pair(4, 6)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def function(x, t):
        return kd_loss(x, teacher, temperature=t, logit_standardize=standardize)

    torch.testing.assert_close(function(student, temperature), function(student, 2.0))
    assert torch.autograd.gradcheck(function, (student, temperature))


def test_standardized_logits_know_no_scale_and_no_shift():
    student, teacher = pair(4, 6)
    loss = KnowledgeDistillationLoss(logit_standardize=True)
    torch.testing.assert_close(loss(3 * student + 5, 0.1 * teacher - 2), loss(student, teacher))
    flat = torch.full((4, 6), 3.3e4, requires_grad=True)
    value = loss(flat, teacher.float())
    value.backward()
    assert value.isfinite()
    assert not flat.grad.any()


def test_mutual_learning_gives_both_a_gradient():
    for direction in ("forward", "reverse"):
        student, teacher = pair(4, 6)
        teacher.requires_grad_()
        loss = KnowledgeDistillationLoss(kl_direction=direction, teacher_detach=False)
        assert torch.autograd.gradcheck(loss, (student, teacher))
        assert torch.autograd.gradgradcheck(loss, (student, teacher))


@pytest.mark.parametrize("shape", [(64, 50), (8, 20, 6, 6)])
@pytest.mark.parametrize(("reduction", "which"), [("batchmean", 0), ("none", 1)])
def test_keeps_no_second_softmax(shape, reduction, which):
    logits = pair(*shape, dtype=torch.float32)
    with saved_floats() as saved:
        KnowledgeDistillationLoss(reduction=reduction)(*logits)
    given = saved.pop(logits[which].untyped_storage().data_ptr())
    assert given == logits[which].nbytes
    assert sum(saved.values()) == given  # one tensor beside the logits of one of the two


def test_double_backward_of_a_masked_loss():
    student, teacher = pair(3, 6)
    labels = torch.tensor([0, -100, 2])
    assert torch.autograd.gradgradcheck(lambda x: kd_loss(x, teacher, labels=labels), (student,))


def test_the_alias_is_the_class():
    assert KDLoss is KnowledgeDistillationLoss
    assert type(build_loss({"type": "KDLoss", "temperature": 2})) is KnowledgeDistillationLoss
    assert build_loss("KDLoss").to_config()["type"] == "KnowledgeDistillationLoss"


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (2, 3), (5, 2), (2, 3, 2, 2), (1, 2, 1, 2, 2)]),
    temperature=st.floats(0.1, 20),
    scale=st.floats(0, 100),
    direction=st.sampled_from(["forward", "reverse"]),
    seed=st.integers(0, 99),
)
def test_is_a_divergence(shape, temperature, scale, direction, seed):
    student, teacher = pair(*shape, seed=seed)
    unit = kd_loss(student * scale, teacher * scale, temperature=temperature, kl_direction=direction)
    assert unit.shape == (shape[0], *shape[2:])
    assert (unit >= -1e-9 * max(1.0, scale)).all()
    (gradient,) = torch.autograd.grad(unit.sum(), student)
    # adding a number to all logits of a position changes nothing
    assert gradient.sum(1).abs().max() <= 1e-9 * max(1.0, scale) * temperature
