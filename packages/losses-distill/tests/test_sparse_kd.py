"""Distillation from the most probable classes: `SparseKDLoss`."""

from __future__ import annotations

import contextlib

import pytest
import torch

from losses_core import ConfigError, InputError
from losses_core._memory import PeakMemory
from losses_core.kernels import use_definitions
from losses_distill import KnowledgeDistillationLoss, SparseKDLoss
from losses_distill.functional import sparse_kd_loss
from losses_testkit.runs import saved_floats

from .test_kd import pair

BOTH = pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])
TAILS = ["bucket", "ignore", "renormalize"]


def sparse(*arguments, **options):
    """The unreduced loss by the public function."""
    return sparse_kd_loss(*arguments, **options).value


def listed(teacher, k, temperature=1.0):
    log_p, ids = (teacher / temperature).log_softmax(-1).topk(k, -1)
    return ids, log_p


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("tail", TAILS)
def test_all_classes_are_knowledge_distillation(tail, temperature):
    student, teacher = pair(5, 10)
    expected = KnowledgeDistillationLoss(temperature)(student, teacher)
    actual = SparseKDLoss(temperature, tail)(student, listed(teacher, 10))
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (actual, expected)))


def test_the_tails_are_those_of_the_trainers():
    student, teacher = pair(4, 6, 11)
    ids, log_p = listed(teacher, 3)
    log_s = student.log_softmax(-1).gather(-1, ids)
    p, s = log_p.exp(), log_s.exp()
    plain = (p * (log_p - log_s)).sum(-1)
    torch.testing.assert_close(sparse(student, (ids, log_p), tail="ignore"), plain)
    rest_p, rest_s = 1 - p.sum(-1), 1 - s.sum(-1)
    torch.testing.assert_close(sparse(student, (ids, log_p)), plain + rest_p * (rest_p / rest_s).log())
    q = p / p.sum(-1, keepdim=True)
    torch.testing.assert_close(sparse(student, (ids, log_p), tail="renormalize"), (q * (q.log() - log_s)).sum(-1))


def test_without_a_tail_the_loss_may_be_negative():
    student = torch.tensor([[3.0, 0.0, 0.0]])
    assert sparse(student, (torch.tensor([[0]]), torch.tensor([[0.5]]).log()), tail="ignore") < 0


@BOTH
def test_a_student_that_is_sure_learns_of_the_rest(context):
    """Its tail is the logsumexp of the other logits: 1 - ΣS is 0 at a logit of 60, with no gradient."""
    student = torch.tensor([[60.0, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0]]), torch.tensor([[0.8]]).log()
    with context():
        value = sparse(student, target)
        (gradient,) = torch.autograd.grad(value.sum(), student)
    torch.testing.assert_close(gradient, torch.tensor([[0.2, -0.05, -0.05, -0.05, -0.05]]))
    rest = (0.2 * (torch.tensor(0.2).log() + 60 - torch.tensor(4.0).log())) + 0.8 * torch.tensor(0.8).log()
    torch.testing.assert_close(value, rest.reshape(1))
    s = student.softmax(1)[0, 0]  # the mistake this guards against
    clamped = 0.2 * torch.log1p(-s.clamp(max=1 - 1e-7))
    (lost,) = torch.autograd.grad(-clamped, student)
    assert lost[0, 1:].abs().max() < 1e-20


@BOTH
@pytest.mark.parametrize("tail", TAILS)
def test_padding_changes_nothing(context, tail):
    student, teacher = pair(3, 8)
    ids, log_p = listed(teacher, 3)
    nothing, low = torch.full((3, 1), -1), torch.zeros(3, 1, dtype=torch.float64)
    padded = torch.cat([nothing, ids, torch.full((3, 1), 7)], 1), torch.cat([low, log_p, low - torch.inf], 1)
    # the first of the padded entries has a probability, the last an id: neither counts
    with context():
        values = [sparse(student, target, tail=tail, temperature=2.0) for target in ((ids, log_p), padded)]
        gradients = [torch.autograd.grad(value.sum(), student)[0] for value in values]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients)


@BOTH
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_position_without_entries_gives_zero(context, tail, temperature):
    student, teacher = pair(3, 8)
    ids, log_p = listed(teacher, 3)
    ids[1] = -1
    with context():
        loss = SparseKDLoss(temperature, tail, reduction="none")
        value = loss(student, (ids, log_p))
        (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value[1] == 0
    assert not gradient[1].any()
    assert gradient[[0, 2]].any(1).all()


@BOTH
def test_a_teacher_whose_probabilities_sum_to_more_than_one(context):
    """As those of half precision do."""
    student = torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True)
    p = torch.tensor([[0.7, 0.304]])
    with context():
        value = sparse(student, (torch.tensor([[0, 1]]), p.log()))
        (gradient,) = torch.autograd.grad(value.sum(), student)
    s = student.detach().softmax(1)
    torch.testing.assert_close(value, (p * (p / s[:, :2]).log()).sum(1).to(value))
    torch.testing.assert_close(gradient, 1.004 * s - torch.tensor([[0.7, 0.304, 0.0]]))


@BOTH
def test_a_vocabulary_that_both_restrict(context):
    student, teacher = (x.detach() for x in pair(2, 6))
    student[:, 3:] = teacher[:, 3:] = -torch.inf
    student.requires_grad_()
    ids, log_p = teacher.log_softmax(1)[:, :3].sort(descending=True)[::-1]
    log_p = log_p - 1e-12  # whatever rounding leaves of the rest is 0 for the teacher too
    with context():
        value = sparse(student, (ids, log_p.clamp(max=0)), tail="ignore")
        (gradient,) = torch.autograd.grad(value.sum(), student)
        exact = sparse(student, (ids[:, :1], torch.zeros(2, 1, dtype=torch.float64)))  # p = 1: no rest at all
    expected = KnowledgeDistillationLoss(1.0, reduction="none")(student, teacher)
    torch.testing.assert_close(value, expected)
    assert gradient.isfinite().all()
    assert exact.isfinite().all()


@BOTH
def test_a_rest_that_the_student_excludes_is_infinite(context):
    student = torch.tensor([[1.0, -torch.inf, -torch.inf]])
    with context():
        assert sparse(student, (torch.tensor([[0]]), torch.tensor([[0.9]]).log())).isposinf()


def test_another_temperature_of_the_teacher():
    """Exact for all classes; with fewer, the rest is one class."""
    student, teacher = pair(4, 7)
    loss = SparseKDLoss(3.0, teacher_temperature=1.5)
    expected = KnowledgeDistillationLoss(3.0)(student, teacher)
    torch.testing.assert_close(loss(student, listed(teacher, 7, 1.5)), expected)
    ids, log_p = listed(teacher, 3, 1.5)
    p = torch.cat([log_p.exp(), 1 - log_p.exp().sum(1, keepdim=True)], 1).sqrt()
    p = p / p.sum(1, keepdim=True)
    log_s = (student / 3).log_softmax(1)
    rest = log_s.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
    expected = 9 * (p * (p.log() - torch.cat([log_s.gather(1, ids), rest], 1))).sum(1)
    torch.testing.assert_close(sparse(student, (ids, log_p), temperature=3.0, teacher_temperature=1.5), expected)


@BOTH
def test_nan_is_visible(context):
    for column in (0, 6):
        student, teacher = pair(3, 7)
        ids, log_p = listed(teacher, 2)
        ids = torch.tensor([[0, 1]] * 3)
        with torch.no_grad():
            student[1, column] = torch.nan
        with context():
            value = sparse(student, (ids, log_p))
            (gradient,) = torch.autograd.grad(value.sum(), student)
        assert value.isnan().tolist() == [False, True, False]
        assert gradient.isnan().any(1).tolist() == [False, True, False]


def test_any_number_of_axes():
    student, teacher = pair(2, 3, 4, 9)
    ids, log_p = listed(teacher, 3)
    value = sparse(student, (ids, log_p))
    assert value.shape == (2, 3, 4)
    one = sparse(student[1, 2, 3], (ids[1, 2, 3], log_p[1, 2, 3]))
    assert one.shape == ()
    torch.testing.assert_close(one, value[1, 2, 3])


def test_the_peak_is_the_gradient():
    student = torch.empty(4200, 32000, dtype=torch.bfloat16, device="meta", requires_grad=True)
    target = torch.empty(4200, 64, dtype=torch.long, device="meta"), torch.empty(4200, 64, device="meta")
    for options in ({}, {"tail": "renormalize", "temperature": 2.0}):
        with PeakMemory() as memory:
            SparseKDLoss(**options)(student, target).backward()
        assert memory.peak <= 1.5 * 2 * student.numel()
        student.grad = None


def test_saves_the_logits_and_the_list():
    student, teacher = pair(64, 512, dtype=torch.float32)
    with saved_floats() as saved:
        SparseKDLoss()(student, listed(teacher, 4))
    assert sum(saved.values()) == student.numel() * 4 + 64 * 5 * 4


def test_bad_input():
    logits = torch.zeros(2, 5)
    ids, log_p = torch.tensor([[0, 1]] * 2), torch.full((2, 2), -1.0)
    loss = SparseKDLoss()
    for target, text in (
        (logits, r"a pair \(ids, log-probabilities\)"),
        ((ids, log_p, log_p), "a pair"),
        ((log_p, log_p), r"target\[0\] with class indices"),
        ((ids[:1], log_p[:1]), r"target\[0\] of shape \(2, 'K'\).*got \(1, 2\)"),
        ((ids[:, :0], log_p[:, :0]), "K >= 1"),
        ((ids, log_p[:, :1]), r"target\[1\] of shape \(2, 2\).*got \(2, 1\)"),
        ((ids + 4, log_p), r"target\[0\] with class indices in \[0, 5\), -1; got 5 at \[0, 1\]"),
        ((ids, log_p.exp()), r"target\[1\] with logarithms of probabilities.*got 0.367"),
    ):
        with pytest.raises(InputError, match=f"SparseKDLoss: expected {text}|SparseKDLoss: .*{text}"):
            loss(logits, target)
    with pytest.raises(InputError, match="labels"):
        loss(logits, (ids, log_p), labels=torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="got 7"):
        loss(logits, (ids, log_p), labels=torch.tensor([0, 7]))
    with pytest.raises(InputError, match="tail"):
        sparse_kd_loss(logits, (ids, log_p), tail="drop")
    with pytest.raises(InputError, match="temperature: expected a number"):
        sparse_kd_loss(logits, (ids, log_p), temperature=torch.tensor(2.0))
    for options in ({"tail": "drop"}, {"temperature": 0}, {"teacher_temperature": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            SparseKDLoss(**options)
