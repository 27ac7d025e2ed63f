"""Contrastive distillation: `CRDLoss`, its three modes and what they remember."""

from __future__ import annotations

import collections
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from losses_core import ConfigError, InputError, build_loss, check_optimizer, trainable_parameters
from losses_distill import CRDLoss
from losses_distill.functional import crd_loss
from losses_testkit import Inputs
from losses_testkit.distribution import shards
from losses_testkit.ranks import pool
from losses_testkit.runs import saved_floats

from . import oracles
from .test_feature_loss import pair

LAZY_OR_NOT = [{}, {"student_channels": 6, "teacher_channels": 6, "feat_dim": 6}]


def rows(x):
    return F.normalize(x.detach().double(), dim=1).numpy()


def step(loss, n=3, seed=0, **call):
    """One call, with its gradient."""
    student, teacher = pair(n, 6, seed=seed)
    value = loss(student, teacher, **call)
    value.sum().backward()
    return value.detach(), student.grad


def on_ranks(loss, student, teacher, sizes, **call):
    """One call in processes that hold so many samples each."""
    job = {"config": loss.to_config(), "state": loss.state_dict(), "keywords": {}, "compiled": False}
    parts = shards(Inputs(student.detach(), teacher, call), sizes)
    return pool().run("losses_testkit.jobs:run_loss", [{**job, "inputs": part} for part in parts])


def state_of(loss):
    return {name: tensor.clone() for name, tensor in loss.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestModes:
    def test_auto(self):
        assert type(CRDLoss().memory).__name__ == "LazyNegativeQueue"
        assert type(CRDLoss(num_samples=5).memory).__name__ == "LazyMemoryBank"
        assert CRDLoss(mode="batch", num_samples=5).memory is None
        assert type(CRDLoss(mode="queue", num_samples=5).memory).__name__ == "LazyNegativeQueue"

    def test_a_bank_needs_its_size(self):
        with pytest.raises(ConfigError, match="num_samples"):
            CRDLoss(mode="memory")
        with pytest.raises(ConfigError, match="num_samples"):
            CRDLoss(num_samples=1)
        with pytest.raises(ConfigError, match="mode: expected one of 'auto', 'queue', 'memory', 'batch'"):
            CRDLoss(mode="bank")
        with pytest.raises(ConfigError, match="teacher_channels"):
            CRDLoss(student_channels=3)

    def test_the_keywords_of_a_mode(self):
        student, teacher = pair(3, 6)
        with pytest.raises(TypeError, match="sample_idx="):
            CRDLoss(num_samples=9)(student, teacher)
        index = torch.arange(3)
        with pytest.raises(InputError, match=r"contrast_idx.*memory"):
            CRDLoss()(student, teacher, contrast_idx=torch.zeros(3, 4, dtype=torch.long))
        for wrong in (torch.zeros(3, 1), torch.zeros(2, 4), torch.zeros(3)):
            with pytest.raises(InputError, match=r"contrast_idx of shape \(3, 1 \+ K\)"):
                CRDLoss(num_samples=9)(student, teacher, sample_idx=index, contrast_idx=wrong.long())
        with pytest.raises(InputError, match=r"sample_idx of shape \(3,\)"):
            CRDLoss()(student, teacher, sample_idx=torch.arange(4))
        with pytest.raises(InputError, match="integer"):
            CRDLoss()(student, teacher, sample_idx=torch.ones(3))

    def test_widths(self):
        for loss in (CRDLoss(), CRDLoss(mode="batch")):
            with pytest.raises(InputError, match=r"\(3, 6\).*\(3, 4\).*student_channels=6, teacher_channels=4"):
                loss(torch.zeros(3, 6), torch.zeros(3, 4))
        heads = CRDLoss(student_channels=6, teacher_channels=4)
        with pytest.raises(InputError, match=r"pred of width 6, by student_channels=6; got \(3, 5\)"):
            heads(torch.zeros(3, 5), torch.zeros(3, 4))
        with pytest.raises(InputError, match=r"target of width 4, by teacher_channels=4; got \(3, 5\)"):
            heads(torch.zeros(3, 6), torch.zeros(3, 5))
        for loss in (CRDLoss(), CRDLoss(num_samples=9)):
            step(loss, sample_idx=torch.arange(3))
            with pytest.raises(InputError, match=r"stored widths 6 and 6; got pred \(3, 5\)"):
                loss(torch.zeros(3, 5), torch.zeros(3, 5), sample_idx=torch.arange(3))
        for shape in ((), (3,)):
            with pytest.raises(InputError, match=r"CRDLoss: expected pred of shape \(N, D\)"):
                CRDLoss()(torch.zeros(shape), torch.zeros(shape))

    @pytest.mark.parametrize("mode", ["queue", "memory", "batch"])
    def test_a_weight_applies_to_anchors(self, mode):
        student, teacher = pair(4, 6, dtype=torch.float64)
        weight = torch.tensor([1.0, 0.0, 2.0, 0.5])
        values = []
        for weights in (None, weight):
            loss = CRDLoss(mode=mode, num_samples=9, neg_num=5, reduction="none")
            torch.manual_seed(0)
            values.append(loss(student, teacher, sample_idx=torch.arange(4), weight=weights))
        torch.testing.assert_close(values[1], values[0] * weight)
        torch.testing.assert_close(
            *(torch.autograd.grad(v.sum(), student, retain_graph=True)[0] for v in (values[1], values[0] * weight))
        )
        with pytest.raises(InputError, match=r"CRDLoss: expected weight of the loss's shape \(4,\)"):
            CRDLoss(mode="batch")(student, teacher, weight=torch.ones(4, 4))

    def test_features_are_flattened(self):
        student, teacher = pair(3, 2, 3)
        torch.testing.assert_close(crd_loss(student, teacher), crd_loss(student.flatten(1), teacher.flatten(1)))

    @pytest.mark.parametrize("mode", ["queue", "memory", "batch"])
    def test_heads_are_learnable(self, mode):
        student, teacher = pair(5, 6, teacher=(5, 4))
        loss = CRDLoss(mode=mode, num_samples=9, neg_num=4, student_channels=6, teacher_channels=4, feat_dim=3)
        for seed in range(2):
            torch.manual_seed(seed)
            value = loss(student, teacher, sample_idx=torch.arange(5))
        value.backward()
        shapes = {name: tuple(p.shape) for name, p in loss.named_parameters()}
        assert shapes == {
            "student_head.weight": (3, 6),
            "student_head.bias": (3,),
            "teacher_head.weight": (3, 4),
            "teacher_head.bias": (3,),
        }
        assert all(p.grad.any() for p in loss.parameters())
        check_optimizer(torch.optim.SGD(trainable_parameters(loss), lr=1.0), loss)
        with pytest.raises(ConfigError, match=r"crd\.student_head\.weight"):
            check_optimizer(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), loss)


class TestBatch:
    def test_equals_two_cross_entropies(self):
        student, teacher = pair(5, 6)
        scores = F.normalize(student) @ F.normalize(teacher).T / 0.07
        label = torch.arange(5)
        expected = F.cross_entropy(scores, label) + F.cross_entropy(scores.T, label)
        torch.testing.assert_close(CRDLoss(mode="batch")(student, teacher), expected)

    def test_other_views_of_an_image_are_no_negatives(self):
        student, teacher = pair(5, 6, dtype=torch.float64)
        index = np.array([0, 1, 0, 2, 1])
        expected = oracles.info_nce(rows(student), rows(teacher), 0.07, index)
        actual = crd_loss(student, teacher, sample_idx=torch.from_numpy(index))
        np.testing.assert_allclose(actual.detach().numpy(), expected)

    @pytest.mark.parametrize("temperature", [0.005, 0.02, 0.07, 1.0])
    def test_cold_and_warm(self, temperature):
        student, teacher = pair(5, 6)
        value = crd_loss(student, teacher, temperature=temperature)
        exact = crd_loss(student.double(), teacher.double(), temperature=temperature)
        torch.testing.assert_close(value, exact.float(), rtol=1e-4, atol=1e-4)
        assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()

    def test_equals_the_function(self):
        student, teacher = pair(5, 6)
        index = torch.tensor([0, 1, 0, 2, 1])
        value = CRDLoss(mode="batch", temperature=0.1, reduction="none")(student, teacher, sample_idx=index)
        torch.testing.assert_close(value, crd_loss(student, teacher, temperature=0.1, sample_idx=index))

    def test_has_no_state(self):
        assert CRDLoss(mode="batch").state_dict() == {}

    def test_one_sample_gives_zero(self):
        value, gradient = step(CRDLoss(mode="batch"), 1)
        assert abs(value) < 1e-6
        assert gradient.abs().max() < 1e-5


class TestQueue:
    @pytest.mark.parametrize("temperature", [0.2, 0.03])  # of both ways to sum over the batch
    @pytest.mark.parametrize("indexed", [False, True])
    def test_equals_info_nce_over_batch_and_queue(self, indexed, temperature):
        loss = CRDLoss(neg_num=7, reduction="none", temperature=temperature)
        queue = collections.deque(maxlen=7)
        for seed in range(5):
            student, teacher = pair(3, 6, seed=seed, dtype=torch.float64)
            index = torch.tensor([seed, seed + 1, 9 * seed])
            s, t = rows(student), rows(teacher)
            queued = tuple(zip(*queue, strict=True)) or ([], [], [])
            expected = oracles.info_nce(s, t, temperature, index.numpy() if indexed else None, queued)
            value = loss(student, teacher, sample_idx=index if indexed else None)
            # the queue holds float32
            np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-6)
            queue.extend(zip(s, t, index.tolist() if indexed else [-1] * 3, strict=True))

    def test_the_derivative_is_right_with_a_filled_queue(self):
        for options in LAZY_OR_NOT:
            loss = CRDLoss(neg_num=4, **options)
            for seed in range(3):
                step(loss, seed=seed)
            loss.eval()
            student, teacher = pair(3, 6, seed=9, dtype=torch.float64)
            assert torch.autograd.gradcheck(lambda x, loss=loss, t=teacher: loss(x, t), (student,))

    @settings(max_examples=40, deadline=None)
    @given(size=st.integers(1, 6), batches=st.lists(st.integers(0, 9), max_size=6), indexed=st.booleans())
    def test_is_first_in_first_out(self, size, batches, indexed):
        loss = CRDLoss(neg_num=size)
        expected = collections.deque(maxlen=size)
        start = 0
        for seed, n in enumerate([2, *batches]):
            student, teacher = pair(n, 4, seed=seed)
            index = torch.arange(start, start + n)
            loss(student, teacher, sample_idx=index if indexed else None)
            expected.extend(
                zip(F.normalize(student.detach()), F.normalize(teacher), index if indexed else [-1] * n, strict=True)
            )
            start += n
        memory = loss.memory
        assert memory.fill == len(expected)
        newest_first = [(memory.pointer - 1 - i) % size for i in range(len(expected))]
        for slot, (student, teacher, index) in zip(newest_first, reversed(expected), strict=True):
            torch.testing.assert_close(memory.student[slot], student)
            torch.testing.assert_close(memory.teacher[slot], teacher)
            assert memory.index[slot] == index

    def test_starts_empty(self):
        for options in LAZY_OR_NOT:
            torch.manual_seed(0)
            loss = CRDLoss(neg_num=4, **options)
            torch.manual_seed(0)
            alone = CRDLoss(mode="batch", **options)
            student, teacher = pair(3, 6)
            torch.testing.assert_close(loss(student, teacher), alone(student, teacher))

    def test_nothing_of_the_size_of_the_queue_is_kept(self):
        loss = CRDLoss(neg_num=4096)
        step(loss, 8)
        student, teacher = pair(8, 6)
        with saved_floats() as saved:
            loss(student, teacher)
        assert sum(saved.values()) < 16 * student.nbytes

    def test_no_second_derivative_but_an_error(self):
        for loss, call in ((CRDLoss(neg_num=4), {}), (CRDLoss(num_samples=9), {"sample_idx": torch.arange(3)})):
            student, teacher = pair(3, 6)
            value = loss(student, teacher, **call)
            (gradient,) = torch.autograd.grad(value, student, create_graph=True)
            with pytest.raises(InputError, match="CRDLoss: has no second derivative"):
                gradient.sum().backward()


class TestMemory:
    @pytest.mark.parametrize("k", [1, 3, 40])
    @pytest.mark.parametrize("options", LAZY_OR_NOT, ids=["lazy", "heads"])
    def test_equals_the_nce_formula_for_given_indices(self, k, options):
        """For few negatives the rows are gathered, for many the scores of a product with the whole bank."""
        torch.manual_seed(1)
        loss = CRDLoss(num_samples=30, neg_num=k, reduction="none", momentum=0.3, **options)
        log_z = None
        for seed in range(3):
            student, teacher = pair(4, 6, seed=seed, dtype=torch.float64)
            index = torch.tensor([3, 0, 29, 7])
            drawn = torch.randint(30, (4, k), generator=torch.Generator().manual_seed(seed))
            contrast = torch.cat([index.unsqueeze(1), drawn], 1)
            if seed == 0 and not options:  # the banks are made at the first call
                loss.eval()
                loss(student, teacher, sample_idx=index, contrast_idx=contrast)
                loss.train()
            banks = [x.double().numpy() for x in (loss.memory.student, loss.memory.teacher)]
            s, t = (x.detach().numpy() for x in loss._embeddings(student, teacher))
            expected, found = oracles.nce(s, t, banks, contrast.numpy(), 0.07, 1e-7, log_z)
            log_z = found if log_z is None else log_z  # that of the first batch is kept
            value = loss(student, teacher, sample_idx=index, contrast_idx=contrast)
            np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5)
            np.testing.assert_allclose(loss.memory.log_z.numpy(), log_z, rtol=1e-5)
            for bank, features, rows_of in ((banks[0], s, loss.memory.student), (banks[1], t, loss.memory.teacher)):
                moved = 0.3 * bank[index] + 0.7 * features
                bank[index] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
                np.testing.assert_allclose(rows_of.numpy(), bank, atol=1e-6)

    def test_the_student_meets_the_teachers_bank(self):
        """And the other way round: a student equal to the teacher's stored rows beats one equal to its own."""
        torch.manual_seed(0)
        loss = CRDLoss(num_samples=20, neg_num=64, student_channels=6, teacher_channels=6, feat_dim=6).eval()
        loss.student_head = loss.teacher_head = None
        index = torch.arange(5)
        theirs, own = loss.memory.teacher[:5].clone(), loss.memory.student[:5].clone()
        values = []
        for student, teacher in ((theirs, own), (own, theirs)):
            torch.manual_seed(1)
            values.append(loss(student, teacher, sample_idx=index))
        assert values[0] < values[1]

    @pytest.mark.parametrize("share", [True, False])
    def test_the_derivative_is_right(self, share):
        for k in (3, 50):
            torch.manual_seed(0)
            loss = CRDLoss(num_samples=20, neg_num=k, share_negatives=share)
            index = torch.tensor([4, 8, 4])
            step(loss, sample_idx=index)  # Z is known from now on
            loss.eval()
            student, teacher = pair(3, 6, seed=9, dtype=torch.float64)

            def function(x, loss=loss, teacher=teacher, index=index):
                torch.manual_seed(1)
                return loss(x, teacher, sample_idx=index)

            assert torch.autograd.gradcheck(function, (student,))

    def test_one_set_of_negatives_equals_the_same_indices_given(self):
        torch.manual_seed(0)
        loss = CRDLoss(num_samples=20, neg_num=30, reduction="none").eval()
        student, teacher = pair(3, 6)
        index = torch.tensor([1, 5, 9])
        loss(student, teacher, sample_idx=index)
        torch.manual_seed(3)
        shared = torch.randint(20, (30,))
        torch.manual_seed(3)
        value = loss(student, teacher, sample_idx=index)
        for i in range(3):
            others = shared[shared != index[i]]  # the own image is left out
            contrast = torch.cat([index[i : i + 1], others]).unsqueeze(0)
            s, t = (rows(x[i : i + 1]) for x in (student, teacher))
            banks = [x.double().numpy() for x in (loss.memory.student, loss.memory.teacher)]
            # Z and K are those of all thirty
            every = torch.cat([index.unsqueeze(1), shared.expand(3, 30)], 1).numpy()
            _, log_z = oracles.nce(rows(student), rows(teacher), banks, every, 0.07, 1e-7)
            expected = 0.0
            for side, (v, bank) in enumerate(((s, banks[1]), (t, banks[0]))):
                p = np.exp(bank[contrast[0]] @ v[0] / 0.07 - log_z[side])
                c = 30 / 20
                expected -= np.log(p[0] / (p[0] + c + 1e-7)) + np.log(c / (p[1:] + c + 1e-7)).sum()
            np.testing.assert_allclose(value[i].item(), expected, rtol=1e-4)

    def test_negatives_are_never_the_own_image(self):
        loss = CRDLoss(num_samples=3, neg_num=500, share_negatives=False)
        index = torch.tensor([0, 1, 2, 1])
        positive, negative = loss._contrast(index, None)
        assert torch.equal(positive, index)
        assert negative.shape == (4, 500)
        assert not (negative == index.unsqueeze(1)).any()
        for row, own in zip(negative, index, strict=True):
            assert set(row.tolist()) == {0, 1, 2} - {own.item()}

    def test_seeds_reproduce_the_draw(self):
        values = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            values.append(step(CRDLoss(num_samples=20, neg_num=3), sample_idx=torch.arange(3))[0].item())
        assert values[0] == values[1] != values[2]

    def test_of_one_image_twice_the_last_is_stored(self):
        loss = CRDLoss(num_samples=9, neg_num=3, momentum=0.0)
        for index in ([4, 4, 4, 7], [7, 4, 7, 4]):
            student, teacher = pair(4, 6)
            loss(student, teacher, sample_idx=torch.tensor(index))
            for image in (4, 7):
                last = 3 - index[::-1].index(image)
                torch.testing.assert_close(loss.memory.student[image], F.normalize(student[last].detach(), dim=0))
                torch.testing.assert_close(loss.memory.teacher[image], F.normalize(teacher[last], dim=0))

    def test_an_empty_batch_leaves_everything(self):
        loss = CRDLoss(num_samples=9, neg_num=3)
        call = {"sample_idx": torch.arange(3)}
        step(loss, **call)
        before = state_of(loss)
        assert step(loss, 0, sample_idx=torch.arange(0))[0] == 0
        assert same(state_of(loss), before)

    def test_the_first_rows_are_those_of_every_rank(self):
        """Ranks have seeds of their own, and the banks have to be equal all the same."""
        for options in LAZY_OR_NOT:
            banks = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                loss = CRDLoss(num_samples=9, neg_num=3, **options).eval()
                step(loss, sample_idx=torch.arange(3))
                banks.append((loss.memory.student, loss.memory.teacher))
            assert torch.equal(banks[0][0], banks[1][0])
            assert torch.equal(banks[0][1], banks[1][1])

    def test_z_of_all_ranks_at_a_cold_temperature(self):
        """The exponentials of the scores, up to ±1/τ, are 0 or inf in float32; their logarithms are not."""
        call = {"sample_idx": torch.arange(5), "contrast_idx": torch.arange(40).reshape(5, 8) % 9}
        student, teacher = pair(5, 6)
        options = {"num_samples": 9, "neg_num": 7, "temperature": 0.003}
        value = CRDLoss(**options)(student, teacher, **call).item()
        for result in on_ranks(CRDLoss(**options, sync_dist=True), student, teacher, (3, 2), **call):
            assert result["value"].item() == pytest.approx(value, rel=1e-4)

    def test_rows_start_on_the_sphere(self):
        torch.manual_seed(0)
        bank = CRDLoss(num_samples=500, student_channels=6, teacher_channels=6, feat_dim=8).memory
        for side in (bank.student, bank.teacher):
            torch.testing.assert_close(side.norm(dim=1), torch.ones(500))
            assert side.mean(0).abs().max() < 0.1
        assert not torch.equal(bank.student, bank.teacher)

    def test_gathers_no_row_per_pair(self):
        loss = CRDLoss(num_samples=5000, neg_num=4096)
        index = torch.arange(8)
        step(loss, 8, sample_idx=index)
        student, teacher = pair(8, 6)
        with saved_floats() as saved:
            loss(student, teacher, sample_idx=index)
        assert sum(saved.values()) < 8 * student.nbytes


MEMORIES = [
    ({"neg_num": 4}, {}),
    ({"neg_num": 4}, {"sample_idx": torch.tensor([0, 5, 7])}),
    ({"neg_num": 6, "num_samples": 9}, {"sample_idx": torch.tensor([0, 5, 7])}),
    ({"neg_num": 6, "num_samples": 9, "share_negatives": False}, {"sample_idx": torch.tensor([0, 5, 7])}),
]


@pytest.mark.parametrize(("options", "call"), MEMORIES, ids=["queue", "queue indexed", "bank", "bank rows"])
class TestState:
    @pytest.mark.parametrize("lazy", [True, False])
    def test_a_checkpoint_in_the_middle(self, options, call, lazy):
        options = options if lazy else {**options, **LAZY_OR_NOT[1]}
        torch.manual_seed(0)
        loss = CRDLoss(**options)
        for seed in range(3):
            step(loss, seed=seed, **call)
        saved = state_of(loss)
        torch.manual_seed(1)
        expected = [step(loss, seed=seed, **call) for seed in range(3, 6)]

        again = build_loss(loss.to_config())
        again.load_state_dict(saved)
        assert same(state_of(again), saved)
        torch.manual_seed(1)
        for want, actual in zip(expected, [step(again, seed=seed, **call) for seed in range(3, 6)], strict=True):
            assert torch.equal(actual[0], want[0])
            assert torch.equal(actual[1], want[1])
        assert same(state_of(again), state_of(loss))

    def test_options_come_from_the_config_after_loading(self, options, call):
        loss = CRDLoss(**options, temperature=0.07, momentum=0.5, eps=1e-7)
        step(loss, **call)
        other = CRDLoss(**options, temperature=0.5, momentum=0.9, eps=1e-3)
        other.load_state_dict(loss.state_dict())
        assert (other.temperature, other.momentum, other.eps) == (0.5, 0.9, 1e-3)
        loss.eval()
        other.eval()
        values = []
        for criterion in (loss, other):
            torch.manual_seed(0)
            values.append(step(criterion, seed=1, **call)[0])
        assert values[0] != values[1]
        names = " ".join(loss.state_dict())
        assert not any(word in names for word in ("temperature", "momentum", "eps", "neg_num", "num_samples"))

    def test_another_size_does_not_load(self, options, call):
        loss = CRDLoss(**options)
        step(loss, **call)
        with pytest.raises(RuntimeError, match="size mismatch"):
            CRDLoss(
                **{name: value + 1 for name, value in options.items() if name != "share_negatives"}
            ).load_state_dict(loss.state_dict())

    def test_two_forwards_before_one_backward(self, options, call):
        def gradients(together):
            torch.manual_seed(0)
            loss = CRDLoss(**options)
            step(loss, **call)
            pairs = [pair(3, 6, seed=seed) for seed in (1, 2)]
            torch.manual_seed(1)
            values = []
            for student, teacher in pairs:
                values.append(loss(student, teacher, **call))
                if not together:
                    values[-1].backward()
            if together:
                sum(values).backward()
            return [student.grad for student, _ in pairs]

        for one, other in zip(gradients(True), gradients(False), strict=True):
            torch.testing.assert_close(one, other)

    def test_nothing_moves_in_evaluation(self, options, call):
        torch.manual_seed(0)
        loss = CRDLoss(**options)
        step(loss, **call)
        loss.eval()
        before = state_of(loss)
        values = []
        for _ in range(2):
            torch.manual_seed(1)
            values.append(step(loss, seed=1, **call)[0])
        assert torch.equal(*values)
        assert same(state_of(loss), before)
        loss.train()
        step(loss, seed=1, **call)
        assert not same(state_of(loss), before)

    def test_is_the_same_on_every_rank(self, options, call):
        call = {"sample_idx": torch.tensor([0, 5, 7, 5, 1])} if call else {}
        if "num_samples" in options:  # each rank draws for its samples, so that the draw has to be given
            call["contrast_idx"] = torch.arange(20).reshape(5, 4) % 9
        loss = CRDLoss(**options, sync_dist=True)
        step(loss, 5, **call)
        student, teacher = pair(5, 6, seed=1)
        ranks = on_ranks(loss, student, teacher, (3, 0, 2), **call)
        loss(student, teacher, **call)
        for rank in ranks:
            assert same(rank["state"], ranks[0]["state"])
            for name, tensor in loss.state_dict().items():
                torch.testing.assert_close(rank["state"][name], tensor)

    def test_is_updated_after_the_loss(self, options, call):
        torch.manual_seed(0)
        loss = CRDLoss(**options)
        step(loss, **call)
        twin = copy.deepcopy(loss).eval()
        values = []
        for criterion in (loss, twin):
            torch.manual_seed(1)
            values.append(step(criterion, seed=1, **call)[0])
        assert torch.equal(*values)

    def test_casting_keeps_the_precision(self, options, call):
        for lazy in (True, False):
            loss = CRDLoss(**options, **({} if lazy else LAZY_OR_NOT[1]))
            step(loss, **call)
            before = {name: tensor.clone() for name, tensor in loss.memory.named_buffers()}
            for cast in ("half", "bfloat16", "double", "float"):
                getattr(loss, cast)()
                after = dict(loss.memory.named_buffers())
                assert same(after, before)
                assert all(after[name].dtype == before[name].dtype for name in before)
            assert loss.memory.student.dtype == torch.float32

    def test_meta_device_and_back(self, options, call):
        loss = CRDLoss(**options, **LAZY_OR_NOT[1]).to("meta")
        assert loss.memory.student.is_meta
        loss.to_empty(device="cpu")
        assert loss.memory.student.dtype == torch.float32

    def test_an_overflow_is_not_remembered(self, options, call):
        """A step with inf or NaN is skipped by a gradient scaler; it must not spoil the steps after it."""
        torch.manual_seed(0)
        loss = CRDLoss(**options)
        for first in (True, False):
            student, teacher = pair(3, 6, seed=1)
            spoiled = student.detach().clone()
            spoiled[1, 2] = float("nan") if first else float("inf")
            assert not loss(spoiled, teacher, **call).isfinite()
            value, gradient = step(loss, seed=2, **call)
            assert value.isfinite()
            assert gradient.isfinite().all()
        assert all(tensor.isfinite().all() for tensor in loss.state_dict().values())

    def test_a_fresh_loss_continues_one_that_never_ran(self, options, call):
        fresh = CRDLoss(**options)
        twin = CRDLoss(**options)
        twin.load_state_dict(fresh.state_dict())
        for criterion in (fresh, twin):
            torch.manual_seed(0)
            step(criterion, **call)
        assert same(state_of(fresh), state_of(twin))

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    @pytest.mark.parametrize("lazy", [True, False])
    def test_compiled_steps_remember_alike(self, options, call, lazy):
        torch._dynamo.reset()
        options = options if lazy else {**options, **LAZY_OR_NOT[1]}
        states = []
        for compiled in (False, True):
            torch.manual_seed(0)
            loss = CRDLoss(**options)
            run = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiled else loss
            torch.manual_seed(1)
            values = [step(run, seed=seed, **call) for seed in range(3)]
            states.append((values, state_of(loss)))
        for one, other in zip(states[0][0], states[1][0], strict=True):
            torch.testing.assert_close(one, other)
        assert states[0][1].keys() == states[1][1].keys()
        for name, tensor in states[0][1].items():
            torch.testing.assert_close(tensor, states[1][1][name])


def test_a_row_that_overflowed_takes_no_place_in_the_queue():
    loss = CRDLoss(neg_num=4)
    student, teacher = pair(6, 6)
    student = student.detach()
    student[1] = float("nan")
    teacher[2, 0] = float("inf")
    loss(student[:3], teacher[:3], sample_idx=torch.arange(3))
    assert (loss.memory.fill, loss.memory.pointer) == (1, 1)
    assert loss.memory.index.tolist() == [0, -1, -1, -1]
    loss(student, teacher, sample_idx=torch.arange(6))
    assert (loss.memory.fill, loss.memory.pointer) == (4, 1)
    assert loss.memory.index.tolist() == [5, 0, 3, 4]
    torch.testing.assert_close(loss.memory.teacher[[1, 2, 3, 0]], F.normalize(teacher[[0, 3, 4, 5]]))
    loss(student, teacher, sample_idx=torch.arange(6, 12))
    assert loss.memory.index.tolist() == [11, 6, 9, 10]


def test_a_batch_larger_than_the_queue_leaves_its_last_rows():
    loss = CRDLoss(neg_num=4)
    student, teacher = pair(10, 6)
    loss(student, teacher)
    assert loss.memory.fill == 4
    order = torch.argsort((torch.arange(4) - loss.memory.pointer) % 4)
    torch.testing.assert_close(loss.memory.teacher[order], F.normalize(teacher[-4:]))


def test_the_embeddings_of_a_step_are_not_held():
    loss = CRDLoss(neg_num=4, student_channels=6, teacher_channels=6)
    step(loss)
    assert not any(tensor.requires_grad for tensor in loss.buffers())


def test_inside_checkpoint_the_gradient_sees_the_queued_batch():
    """Documented: a recomputation in the backward reads the queue as the forward left it, also at the first use."""
    assert "torch.utils.checkpoint" in CRDLoss.__doc__
    loss = CRDLoss(neg_num=8)
    for seed in range(2):
        student, teacher = pair(3, 6, seed=seed)
        before = copy.deepcopy(loss)
        checkpoint(lambda x, t=teacher: loss(x, t), student, use_reentrant=False).backward()
        gradients = [torch.autograd.grad(each(student, teacher), student)[0] for each in (before, copy.deepcopy(loss))]
        assert not torch.allclose(student.grad, gradients[0])
        torch.testing.assert_close(student.grad, gradients[1])
