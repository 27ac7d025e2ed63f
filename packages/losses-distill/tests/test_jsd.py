"""The generalized Jensen-Shannon divergence: `GeneralizedJSDLoss`."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
import torch.nn.functional as F

from losses_core import ConfigError, InputError
from losses_core.kernels import use_definitions
from losses_distill import GeneralizedJSDLoss, KnowledgeDistillationLoss
from losses_distill.functional import generalized_jsd_loss
from losses_testkit.runs import saved_floats

from .test_kd import pair

INF = float("inf")
ENDS = [{"beta": 0}, {"beta": 1}, {"beta": 0, "skew": 0.1}, {"beta": 1, "skew": 0.1}]
OPTIONS = [{}, {"beta": 0.1, "temperature": 3.0}, *ENDS]


def jsd(*arguments, **options):
    """The unreduced loss by the public function."""
    return generalized_jsd_loss(*arguments, **options).value


def mixed_by_logsumexp(student, teacher, beta, temperature):
    """The loss of each token in the form of the trainers of language models."""
    log_s, log_p = (F.log_softmax(x / temperature, -1) for x in (student, teacher))
    logs = torch.stack([log_s + math.log(1 - beta), log_p + math.log(beta)])
    log_m = torch.logsumexp(logs, 0)
    of_teacher, of_student = (F.kl_div(log_m, log, reduction="none", log_target=True) for log in (log_p, log_s))
    return (beta * of_teacher + (1 - beta) * of_student).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_equals_the_form_of_the_trainers(beta, temperature):
    student, teacher = pair(3, 6, 11)
    labels = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(1))
    labels[1, 3:] = -100
    loss = GeneralizedJSDLoss(beta, temperature, class_dim=-1)
    counted = labels != -100
    tokens = mixed_by_logsumexp(student, teacher, beta, temperature)[counted]
    for actual, expected in (
        (loss(student, teacher, labels=labels), tokens.sum() / counted.sum()),
        (loss(student, teacher, labels=labels, avg_factor=torch.tensor(40)), tokens.sum() / 40),
    ):
        torch.testing.assert_close(actual, expected)
        gradients = [torch.autograd.grad(value, student, retain_graph=True)[0] for value in (actual, expected)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("beta", "direction"), [(0, "forward"), (1, "reverse")])
def test_the_ends_are_the_divergences(beta, direction):
    student, teacher = pair(5, 10)
    for squared in (False, True):
        expected = KnowledgeDistillationLoss(2.0, kl_direction=direction)(student, teacher)
        actual = GeneralizedJSDLoss(beta, 2.0, temperature_squared=squared)(student, teacher)
        torch.testing.assert_close(actual, expected if squared else expected / 4)
        gradients = [torch.autograd.grad(value, student)[0] for value in (actual, expected)]
        torch.testing.assert_close(gradients[0], gradients[1] if squared else gradients[1] / 4)


def test_the_value_jumps_at_the_ends():
    student, teacher = pair(5, 10)
    near = jsd(student, teacher, beta=1e-7)
    assert near.max() < 1e-4
    torch.testing.assert_close(near / 1e-7, jsd(student, teacher, beta=0), rtol=1e-4, atol=1e-4)


def test_a_half_is_symmetric_and_bounded():
    student, teacher = pair(50, 4)
    student, teacher = 10 * student.detach(), 10 * teacher
    value = jsd(student, teacher)
    torch.testing.assert_close(value, jsd(teacher, student))
    assert value.max() > 0.69
    assert value.max() <= math.log(2) + 1e-12


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("skew", [0.1, 0.6])
def test_skewed_divergences(beta, skew):
    student, teacher = pair(5, 10)
    first, second = (F.softmax(x, 1) for x in ((teacher, student) if beta == 0 else (student, teacher)))
    expected = (first * (first / (skew * first + (1 - skew) * second)).log()).sum(1)
    actual = jsd(student, teacher, beta=beta, skew=skew)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(value.sum(), student)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients)


def test_distillm_has_the_same_gradient_and_another_value():
    student, teacher = pair(5, 10)
    p, s = F.softmax(teacher, 1), F.softmax(student, 1)
    theirs = -(p * (0.1 * p + 0.9 * s).log()).sum(1)
    ours = jsd(student, teacher, beta=0, skew=0.1)
    entropy = -(p * p.log()).sum(1)
    torch.testing.assert_close(ours, theirs - entropy)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), student)[0] for value in (ours, theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])
def test_logit_gaps_of_thousands(dtype, options, context):
    student = torch.tensor([[2000.0, 0.0, -2000.0], [200.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-2000.0, 2000.0, 0.0], [0.0, 200.0, 0.0]], dtype=dtype)
    with context():
        value = jsd(student, teacher, **options)
        (gradient,) = torch.autograd.grad(value.sum(), student)
    assert gradient.isfinite().all()
    temperature = options.get("temperature", 1.0)
    for row, gap in enumerate((2000.0, 200.0)):
        beta, skew = options.get("beta", 0.5), options.get("skew")
        if skew is not None:
            expected = -math.log(skew)
        elif beta in (0, 1):
            expected = (4000.0 if beta == 1 and gap == 2000 else gap) / temperature
        else:
            expected = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        assert math.isclose(value[row].item(), expected, rel_tol=1e-5), (row, expected)
    if options == ENDS[2] and dtype == torch.float32:  # the mistake this guards against
        p, s = F.softmax(teacher, 1), F.softmax(student, 1)
        mixed = (p * (0.9 * s + 0.1 * p).log()).sum(1)
        assert mixed.isnan().all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])
def test_classes_masked_in_both_do_not_count(options, context):
    student, teacher = (x.detach().float() for x in pair(4, 6))
    masked = [torch.cat([x[:, :3], torch.full((4, 2), -INF), x[:, 3:]], 1) for x in (student, teacher)]
    masked[0].requires_grad_()
    student.requires_grad_()
    with context():
        value, expected = jsd(*masked, **options), jsd(student, teacher, **options)
        torch.testing.assert_close(value, expected)
        gradient, wanted = (torch.autograd.grad(v.sum(), x)[0] for v, x in ((value, masked[0]), (expected, student)))
    assert not gradient[:, 3:5].any()
    torch.testing.assert_close(gradient[:, [0, 1, 2, 5, 6, 7]], wanted)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("context", [contextlib.nullcontext, use_definitions])
def test_a_class_that_one_of_them_excludes(options, context):
    """A divergence is infinite only where its second distribution excludes what the first does not."""
    student, teacher = (x.detach() for x in pair(2, 4))
    student[0, 1] = teacher[1, 2] = -INF
    student.requires_grad_()
    with context():
        value = jsd(student, teacher, **options)
        infinite = {0: [True, False], 1: [False, True]}.get(options.get("beta"), [False, False])
        assert value.isinf().tolist() == ([False, False] if options.get("skew") else infinite)
        finite = value[value.isfinite()].sum()
        (gradient,) = torch.autograd.grad(finite, student)
    assert gradient[value.isfinite()].isfinite().all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_distributions_give_zero(options):
    student = pair(8, 50, dtype=torch.float32)[0]
    value = jsd(student, student.detach() + 3, **options)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.min() >= 0
    assert value.max() < 1e-6
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nan_is_visible(options):
    for context in (contextlib.nullcontext, use_definitions):
        student, teacher = pair(3, 5)
        with torch.no_grad():
            student[1, 2] = torch.nan
        with context():
            value = jsd(student, teacher, **options)
            (gradient,) = torch.autograd.grad(value.sum(), student)
        assert value.isnan().tolist() == [False, True, False]
        assert gradient.isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_learned_temperature_gets_a_gradient(options):
    student, teacher = pair(3, 5)
    temperature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    options = {name: value for name, value in options.items() if name != "temperature"}
    assert torch.autograd.gradcheck(
        lambda t: jsd(student.detach(), teacher, **{**options, "temperature": t}), temperature
    )
    loss = GeneralizedJSDLoss(**options)
    with_tensor = loss(student, teacher, temperature=torch.tensor(1.5))
    torch.testing.assert_close(with_tensor, loss(student, teacher, temperature=1.5))


def test_mutual_learning():
    student, teacher = pair(3, 5)
    teacher.requires_grad_()
    jsd(student, teacher, teacher_detach=False).sum().backward()
    assert teacher.grad.any()
    assert torch.autograd.gradcheck(
        lambda t: jsd(student.detach(), t, teacher_detach=False, beta=0.2), teacher.detach().requires_grad_()
    )


def test_half_precision_keeps_the_gradient_in_fp16_where_it_is_bounded():
    student, teacher = pair(64, 512, dtype=torch.float16)
    for options, bytes_kept in (({}, 2), ({"beta": 0}, 2), ({"beta": 1, "skew": 0.1}, 2)):
        loss = GeneralizedJSDLoss(**options)
        with saved_floats() as saved:
            loss(student, teacher)
        assert sum(saved.values()) == 2 * bytes_kept * student.numel()


def test_saves_the_logits_alone():
    student, teacher = pair(64, 512, dtype=torch.float32)
    with saved_floats() as saved:
        GeneralizedJSDLoss()(student, teacher)
    assert saved.keys() == {x.untyped_storage().data_ptr() for x in (student, teacher)}


def test_options_outside_their_range():
    with pytest.raises(ConfigError, match="beta"):
        GeneralizedJSDLoss(beta=1.1)
    for options in ({"beta": 0.5, "skew": 0.1}, {"beta": 0, "skew": 1.0}, {"beta": 1, "skew": 0.0}):
        with pytest.raises(ConfigError, match="skew"):
            GeneralizedJSDLoss(**options)
    logits = torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"generalized_jsd_loss: skew: .*beta=0.5"):
        generalized_jsd_loss(logits, logits, skew=0.1)
    with pytest.raises(InputError, match=r"beta: expected a number in \[0, 1\]; got -1"):
        generalized_jsd_loss(logits, logits, beta=-1)
    with pytest.raises(InputError, match="class_dim"):
        GeneralizedJSDLoss()(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match=r"\(2, 3\).*\(2, 4\)"):
        GeneralizedJSDLoss()(logits, torch.zeros(2, 4))
