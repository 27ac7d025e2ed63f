"""Masked generative distillation: `MGDLoss`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from losses_core import ConfigError, InputError, build_multi_loss, check_optimizer, trainable_parameters
from losses_distill import MGDLoss
from losses_distill.functional import mgd_loss

from .oracles import convolve
from .test_feature_loss import pair

LAZY = "ignore:MGDLoss without student_channels"


def build(student=3, teacher=5, **options):
    torch.manual_seed(0)
    return MGDLoss(student_channels=student, teacher_channels=teacher, **options)


@pytest.mark.parametrize(("mode", "shape"), [("spatial", (2, 1, 4, 6)), ("channel", (2, 5, 1, 1))])
def test_equals_the_formula_for_the_mask_drawn(mode, shape):
    student, teacher = pair(2, 3, 4, 6, teacher=(2, 5, 4, 6))
    loss = build(mask_mode=mode, lambda_mgd=0.4, reduction="none", alpha_mgd=0.5)
    state = {k.removeprefix("generation."): v.double().numpy() for k, v in loss.state_dict().items()}
    torch.manual_seed(7)
    keep = (torch.rand(shape) >= 0.4).numpy()
    x = np.einsum("ncij,dc->ndij", student.detach().double().numpy(), state["align_weight"])
    x = (x + state["align_bias"][:, None, None]) * keep
    x = np.maximum(convolve(x, state["first_weight"], state["first_bias"]), 0)
    x = convolve(x, state["second_weight"], state["second_bias"])
    expected = 0.5 * ((teacher.double().numpy() - x) ** 2).sum((1, 2, 3))
    torch.manual_seed(7)
    np.testing.assert_allclose(loss(student, teacher).detach().numpy(), expected, rtol=1e-5)


def test_lambda_is_the_fraction_masked():
    student, teacher = torch.ones(4, 2, 50, 50), torch.zeros(4, 2, 50, 50)
    seen = []
    loss = build(2, 2, lambda_mgd=0.3)
    loss.generation._convolve = lambda x, weight, bias: (seen.append(x), x)[1]
    loss(student, teacher)
    assert abs((seen[0] == 0).float().mean() - 0.3) < 0.02
    # one mask for all channels of a location
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])
    build(2, 2, lambda_mgd=1.0)(student, teacher)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="lambda_mgd"):
            build(lambda_mgd=wrong)


def test_the_mean_is_per_sample():
    student, teacher = pair(4, 3, 4, 4, teacher=(4, 5, 4, 4))
    loss = build(lambda_mgd=0.0)
    unit = loss(student, teacher, reduction_override="none")
    assert unit.shape == (4,)
    torch.testing.assert_close(loss(student, teacher), unit.sum() / 4)
    torch.testing.assert_close(mgd_loss(teacher + 1, teacher, alpha_mgd=0.5), torch.full((4,), 40.0))


def test_seeds_reproduce_mask_and_parameters():
    student, teacher = pair(2, 3, 4, 4, teacher=(2, 5, 4, 4))
    loss = build()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(loss(student, teacher).item())
    assert values[0] == values[1] != values[2]
    for one, other in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(one, other)


def test_starts_like_torchs_layers():
    torch.manual_seed(0)
    ours = MGDLoss(student_channels=300, teacher_channels=200).generation
    theirs = {"align": nn.Conv2d(300, 200, 1), "first": nn.Conv2d(200, 200, 3), "second": nn.Conv2d(200, 200, 3)}
    for name, layer in theirs.items():
        for part in ("weight", "bias"):
            std = getattr(ours, f"{name}_{part}").std()
            assert abs(std / getattr(layer, part).std() - 1) < 0.15


def test_no_alignment_where_the_channels_are_equal():
    names = [name for name, _ in build(4, 4).named_parameters()]
    assert sorted(names) == [f"generation.{n}_{p}" for n in ("first", "second") for p in ("bias", "weight")]


def test_shapes():
    loss = build()
    with pytest.raises(InputError, match=r"\(2, 3, 4, 4\) and \(2, 5, 2, 2\)"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 2, 2))
    with pytest.raises(InputError, match="by student_channels=3"):
        loss(torch.zeros(2, 4, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(InputError, match="by teacher_channels=5"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4))
    with pytest.raises(InputError, match=r"\(2, 3, 4\)"):
        loss(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4))
    with pytest.raises(InputError, match="weight of shape"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4), weight=torch.ones(2, 4, 4))
    for length in (1, 3):
        with pytest.raises(InputError, match=r"expected weight of shape \(2,\)"):
            loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4), weight=torch.ones(length))
    with pytest.raises(InputError, match="MGDLoss: expected weight as a tensor"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4), weight=2.0)
    for wrong in (torch.zeros(()), torch.zeros(2)):
        with pytest.raises(InputError, match=r"\(N, C, H, W\)"):
            loss(wrong, wrong)
        with pytest.raises(InputError, match=r"\(N, C, H, W\)"):
            mgd_loss(wrong, wrong)
    with pytest.raises(ConfigError, match="teacher_channels"):
        MGDLoss(student_channels=3)
    with pytest.raises(ConfigError, match="mask_mode"):
        build(mask_mode="random")


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_sample_of_weight_zero_cannot_poison_the_parameters(side):
    student, teacher = pair(3, 3, 4, 4, teacher=(3, 5, 4, 4))
    loss, weight = build(lambda_mgd=0.0), torch.tensor([1.0, 0.0, 2.0])

    def run(student, teacher):
        student = student.detach().requires_grad_()
        value = loss(student, teacher, weight=weight)
        return value, *torch.autograd.grad(value, [student, *loss.parameters()])

    expected = run(student, teacher)
    spoiled = (student if side == "student" else teacher).detach().clone()
    spoiled[1] = float("nan")
    actual = run(spoiled, teacher) if side == "student" else run(student, spoiled)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)
    value = loss(student, teacher, weight=torch.tensor(2.0).expand(3))
    torch.testing.assert_close(value, 2 * loss(student, teacher))


def test_saves_no_more_than_it_must():
    from losses_testkit.runs import saved_floats

    student, teacher = pair(2, 16, 16, 16)
    loss = build(16, 16)
    given = {t.untyped_storage().data_ptr() for t in (student, teacher, *loss.parameters())}
    with saved_floats() as saved:
        loss(student, teacher)
    kept = sum(size for address, size in saved.items() if address not in given)
    # the masked features, the hidden layer, the generated features, and the mask itself
    assert kept <= 3.05 * student.nbytes


class TestLazy:
    """Without channels: those of the first call."""

    def test_warns_once_and_of_the_users_line(self):
        with pytest.warns(UserWarning, match="DistributedDataParallel") as caught:
            MGDLoss()
            build_multi_loss([{"type": "MGDLoss"}])
        assert [warning.filename for warning in caught] == [__file__] * 2

    @pytest.mark.filterwarnings(LAZY)
    @pytest.mark.parametrize("channels", [(3, 5), (4, 4)])
    def test_equals_the_eager_form(self, channels):
        student, teacher = pair(2, channels[0], 4, 4, teacher=(2, channels[1], 4, 4))
        lazy, eager = MGDLoss(lambda_mgd=0.0), build(*channels, lambda_mgd=0.0)
        lazy(student, teacher)
        assert {n: p.shape for n, p in lazy.named_parameters()} == {n: p.shape for n, p in eager.named_parameters()}
        lazy.load_state_dict(eager.state_dict())
        torch.testing.assert_close(lazy(student, teacher), eager(student, teacher))

    @pytest.mark.filterwarnings(LAZY)
    @pytest.mark.parametrize("channels", [(3, 5), (4, 4)])
    def test_takes_its_shapes_from_a_loaded_state(self, channels):
        student, teacher = pair(2, channels[0], 4, 4, teacher=(2, channels[1], 4, 4))
        eager, lazy = build(*channels, lambda_mgd=0.0), MGDLoss(lambda_mgd=0.0)
        lazy.load_state_dict(eager.state_dict())
        torch.testing.assert_close(lazy(student, teacher), eager(student, teacher))

    @pytest.mark.filterwarnings(LAZY)
    def test_an_optimizer_made_before_the_first_call_trains_it(self):
        student, teacher = pair(2, 3, 4, 4, teacher=(2, 5, 4, 4))
        loss = MGDLoss(lambda_mgd=0.0, alpha_mgd=0.1)
        optimizer = torch.optim.SGD(trainable_parameters(nn.Linear(1, 1), loss), lr=0.01)
        before = loss(student, teacher)
        check_optimizer(optimizer, loss)
        before.backward()
        optimizer.step()
        assert loss(student, teacher) < before

    @pytest.mark.filterwarnings(LAZY)
    def test_copies(self):
        student, teacher = pair(2, 3, 4, 4, teacher=(2, 5, 4, 4))
        fresh = MGDLoss()
        for twin in (copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))):
            assert twin.load_state_dict(fresh.state_dict())
            assert twin(student, teacher).isfinite()

    @pytest.mark.filterwarnings(LAZY)
    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    def test_compiles_at_the_first_call(self):
        torch._dynamo.reset()
        student, teacher = pair(2, 3, 4, 4, teacher=(2, 5, 4, 4))
        loss = MGDLoss(lambda_mgd=0.0)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        value = compiled(student, teacher)
        torch.testing.assert_close(value, loss(student, teacher))
        value.backward()
        assert all(p.grad.any() for p in loss.parameters())

    @pytest.mark.filterwarnings(LAZY)
    def test_data_parallelism_refuses_it(self, tmp_path):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
        try:
            with pytest.raises(RuntimeError, match="uninitialized parameters"):
                nn.parallel.DistributedDataParallel(MGDLoss())
        finally:
            torch.distributed.destroy_process_group()
