"""Knowledge distillation of logits: `KnowledgeDistillationLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import losses_core._blocks
from losses_core import ConfigError, InputError, build_loss
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_distill import KDLoss, KnowledgeDistillationLoss
from losses_distill._kernels import kd as kernels
from losses_distill.functional import kd_loss
from losses_testkit.runs import saved_floats

INF = float("inf")
REVERSE = {"kl_direction": "reverse"}


def kd(*arguments, **options):
    """The unreduced loss by the public function."""
    return kd_loss(*arguments, **options).value


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
    forward = kd(teacher, student, teacher_detach=False)
    reverse = kd(student, teacher, kl_direction="reverse")
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
def test_equal_logits_give_zero(options):
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
        kd(torch.zeros(4), torch.zeros(4))
    with pytest.raises(InputError, match="floating"):
        KnowledgeDistillationLoss()(torch.zeros(4, 6), torch.zeros(4, 6, dtype=torch.long))
    with pytest.raises(InputError, match="expected one of 'forward', 'reverse'"):
        kd(torch.zeros(4, 2), torch.zeros(4, 2), kl_direction="backward")


def test_class_weight_has_no_meaning_here():
    with pytest.raises(TypeError, match="class_weight"):
        KnowledgeDistillationLoss(class_weight=[1.0, 2.0])


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("standardize", [False, True])
def test_logits_of_minus_inf_in_both_contribute_nothing(direction, standardize):
    student, teacher = pair(3, 4)
    options = {"kl_direction": direction, "logit_standardize": standardize}
    expected = kd(student, teacher, **options)
    (wanted,) = torch.autograd.grad(expected.sum(), student)
    wider = torch.cat([student.detach(), torch.full((3, 2), -INF)], 1).requires_grad_()
    actual = kd(wider, torch.cat([teacher, torch.full((3, 2), -INF)], 1), **options)
    (gradient,) = torch.autograd.grad(actual.sum(), wider)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient[:, :4], wanted)
    assert not gradient[:, 4:].any()


def test_inf_and_nan_propagate():
    student = torch.tensor([[0.0, -INF], [float("nan"), 0.0], [0.0, 1.0]], requires_grad=True)
    value = kd(student, torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, float("nan")]]), temperature=1.0)
    assert value[0] == INF
    assert value[1:].isnan().all()
    assert torch.autograd.grad(value[1], student)[0][1].isnan().all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gaps_of_thousands(direction):
    student = torch.tensor([[2000.0, 0.0, 0.0]], requires_grad=True)
    value = kd(student, torch.tensor([[0.0, 2000.0, 0.0]]), temperature=1.0, kl_direction=direction)
    torch.testing.assert_close(value, torch.tensor([2000.0]))
    (gradient,) = torch.autograd.grad(value, student)
    expected = [1.0, -1.0, 0.0] if direction == "forward" else [0.0, 0.0, 0.0]
    torch.testing.assert_close(gradient, torch.tensor([expected]))


def test_a_large_offset_keeps_precision():
    student, teacher = (x.detach().float().round(decimals=2) for x in pair(8, 100))
    expected = kd(student, teacher)
    offset = 8192.0  # the sum is exact to 2^-10
    shifted = ((student + offset) - offset, (teacher - 4 * offset) + 4 * offset)
    torch.testing.assert_close(kd(student + offset, teacher - 4 * offset), kd(*shifted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kd(*shifted), expected, rtol=5e-2, atol=5e-2)


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
        return kd(x, teacher, temperature=t, logit_standardize=standardize)

    torch.testing.assert_close(function(student, temperature), function(student, 2.0))
    assert torch.autograd.gradcheck(function, (student, temperature))


def test_standardized_logits_ignore_scale_and_shift():
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
@pytest.mark.parametrize("reduction", ["batchmean", "none"])
def test_saves_the_logits_alone(shape, reduction):
    logits = pair(*shape, dtype=torch.float32)
    with saved_floats() as saved:
        KnowledgeDistillationLoss(reduction=reduction)(*logits)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in logits}


@pytest.mark.parametrize(
    ("shape", "options"),
    [((4300, 32000), {}), ((8, 150, 340, 340), {}), ((4, 1050, 32000), {"class_dim": -1}), ((4300, 32000), REVERSE)],
    ids=["classes", "dense", "tokens", "reverse"],
)
def test_peak_memory_is_at_most_one_and_a_half_logits(shape, options):
    student, teacher = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for _ in range(2))
    with PeakMemory() as memory:
        KnowledgeDistillationLoss(**options)(student.requires_grad_(), teacher).backward()
    assert student.grad.dtype == torch.bfloat16
    assert memory.peak <= 1.5 * student.nbytes


def test_double_backward_of_a_masked_loss():
    student, teacher = pair(3, 6)
    labels = torch.tensor([0, -100, 2])
    assert torch.autograd.gradgradcheck(lambda x: kd(x, teacher, labels=labels), (student,))


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
    unit = kd(student * scale, teacher * scale, temperature=temperature, kl_direction=direction)
    assert unit.shape == (shape[0], *shape[2:])
    assert (unit >= -1e-9 * max(1.0, scale)).all()
    (gradient,) = torch.autograd.grad(unit.sum(), student)
    # adding a number to all logits of a position changes nothing
    assert gradient.sum(1).abs().max() <= 1e-9 * max(1.0, scale) * temperature


def test_labels_outside_the_classes_are_an_error():
    student, teacher = pair(2, 3, 5)
    labels = torch.zeros(2, 5, dtype=torch.long)
    labels[1, 2] = 3
    message = (
        r"KnowledgeDistillationLoss: expected labels with class indices in \[0, 3\) or ignore_index=-100; "
        r"got 3 at \[1, 2\].*ignore_index=3"
    )
    with pytest.raises(InputError, match=message):
        KnowledgeDistillationLoss(class_dim=1)(student, teacher, labels=labels)
    KnowledgeDistillationLoss(class_dim=1, ignore_index=3)(student, teacher, labels=labels)


def test_no_label_is_ignored_with_none():
    student, teacher = pair(4, 6)
    labels = torch.tensor([0, 2, 5, 1])
    expected = KnowledgeDistillationLoss()(student, teacher)
    for loss in (KnowledgeDistillationLoss(ignore_index=None), KnowledgeDistillationLoss(ignore_index=2)):
        torch.testing.assert_close(loss(student, teacher, labels=labels, ignore_index=None), expected)
    with pytest.raises(InputError, match=r"labels with class indices in \[0, 6\); got -100"):
        KnowledgeDistillationLoss()(student, teacher, labels=labels - 100, ignore_index=None)


@pytest.mark.parametrize("class_dim", [None, 1, -1])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_logits_without_classes_are_an_error(shape, class_dim):
    with pytest.raises(InputError, match="KnowledgeDistillationLoss: expected pred with a batch and a class axis"):
        KnowledgeDistillationLoss(class_dim=class_dim)(torch.zeros(shape), torch.zeros(shape), weight=torch.ones(4))


LAYOUTS = [
    ((5, 6), None),
    ((3, 6, 4, 5), None),
    ((3, 7, 6), -1),
    ((4, 5, 3), 1),
    ((3, 4, 5, 6), -1),
    ((2, 3, 2, 2, 3), 2),
]
OPTIONS = [{}, REVERSE, {"logit_standardize": True}, {**REVERSE, "logit_standardize": True, "temperature": 0.5}]


@pytest.mark.parametrize("block", [1 << 16, 64, 7])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("shape", "class_dim"), LAYOUTS, ids=str)
def test_kernel_equals_definition(shape, class_dim, options, block, monkeypatch):
    monkeypatch.setattr(losses_core._blocks, "CPU_BLOCK", block)
    student, teacher = pair(*shape)
    axis = 1 if class_dim is None else class_dim
    labels = torch.zeros(student.movedim(axis, -1).shape[:-1], dtype=torch.long)
    labels[0] = -100
    loss = KnowledgeDistillationLoss(class_dim=class_dim, **options)
    weight = torch.linspace(0, 2, shape[0], dtype=torch.float64)
    for keywords in ({}, {"labels": labels}, {"weight": weight}, {"reduction_override": "none", "labels": labels}):
        values = []
        for context in (contextlib.nullcontext, use_definitions):
            with context():
                value = loss(student, teacher, **keywords)
                incoming = torch.linspace(1, 2, value.numel(), dtype=torch.float64).view(value.shape)
                values.append((value, *torch.autograd.grad(value, student, incoming)))
        torch.testing.assert_close(*values)


def _by_kernel(function, student, teacher, temperature):
    options = {"temperature": temperature, "kl_direction": "forward", "logit_standardize": False}
    return function(student, teacher, **options, labels=None, ignore_index=None, needs_grad=True)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("kind", ["far", "nearly equal", "offset", "confident"])
@pytest.mark.parametrize("function", [kernels.kd, kernels.kd_cpu])
def test_kernels_are_as_precise_as_the_definition(function, kind, temperature):
    student, teacher = (x.detach() for x in pair(64, 500, dtype=torch.float32))
    if kind == "nearly equal":  # a divergence of 5e-7
        teacher = student + 1e-3 * torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    elif kind == "offset":
        student, teacher = student + 1000, teacher - 1000
    elif kind == "confident":
        student[:, 0] += 40
        teacher = student + teacher / 100
    exact = kd(student.double(), teacher.double(), temperature=temperature)
    with use_definitions():
        allowed = 4 * (kd(student, teacher, temperature=temperature) - exact).abs().max()
    value, _ = _by_kernel(function, student, teacher, temperature)
    assert (value - exact).abs().max() <= allowed + 1e-9
    assert (value >= 0).all()


def test_nearly_equal_logits_keep_a_precise_loss():
    """The plain sum q (log q - log p) has an error as large as the loss itself."""
    student, _ = pair(64, 1000, dtype=torch.float32)
    student = student.detach()
    teacher = student + 1e-3 * torch.randn(64, 1000, generator=torch.Generator().manual_seed(0))
    exact = KnowledgeDistillationLoss(1.0)(student.double(), teacher.double())
    assert 4e-7 < exact < 6e-7
    torch.testing.assert_close(KnowledgeDistillationLoss(1.0)(student, teacher).double(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("function", [kernels.kd, kernels.kd_cpu])
def test_kernels_at_inf_and_nan(function):
    student = torch.tensor([[1.0, -INF, 2.0], [0.0, -INF, 1.0], [0.0, 1.0, 2.0], [0.0, float("nan"), 1.0]])
    teacher = torch.tensor([[1.0, -INF, 0.0], [0.0, 1.0, 1.0], [0.0, -INF, 1.0], [0.0, 0.0, 1.0]])
    value, grad = _by_kernel(function, student, teacher, 1.0)
    expected = kd(student, teacher, temperature=1.0)
    torch.testing.assert_close(value, expected, equal_nan=True)
    assert value[1] == INF
    assert value[3].isnan()
    assert grad[:3].isfinite().all()
