"""What detection.md promises of quality focal, distribution focal and varifocal loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from losses_core import LOSSES, ConfigError, InputError
from losses_det import DistributionFocalLoss, QualityFocalLoss, VariFocalLoss
from losses_det.functional import distribution_focal_loss, quality_focal_loss, varifocal_loss

from . import oracles

# torch's own tracer instantiates torch.autograd.Function for every custom Function, and warns of it
INSTANTIATED = "ignore:.*should not be instantiated:DeprecationWarning"


def gradient(value, *leaves):
    return torch.autograd.grad(value.sum(), leaves)


def quality_inputs(n=40, classes=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pred = (torch.randn(n, classes, generator=generator, dtype=dtype) * 3).requires_grad_()
    label = torch.randint(-1, classes + 1, (n,), generator=generator)
    return pred, label, torch.rand(n, generator=generator, dtype=dtype)


def dense(pred, label, score):
    return torch.from_numpy(oracles.dense_scores(pred.detach().numpy(), (label.numpy(), score.numpy())))


class TestQualityFocal:
    @pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.7, 2.0, 3])
    @pytest.mark.parametrize("use_sigmoid", [True, False])
    def test_target_forms_agree(self, beta, use_sigmoid):
        pred, label, score = quality_inputs()
        if not use_sigmoid:
            pred = pred.detach().sigmoid().requires_grad_()
        loss = QualityFocalLoss(beta=beta, use_sigmoid=use_sigmoid, reduction="none")
        forms = [(label, score), [label, score], (label.int(), score.float().double()), dense(pred, label, score)]
        values = [loss(pred, form) for form in forms]
        for value in values[1:]:
            rounding = 0 if value is not values[2] else 1e-6
            torch.testing.assert_close(value, values[0], rtol=1e-12 + rounding, atol=1e-12 + rounding)
            got, want = gradient(value, pred), gradient(loss(pred, forms[0]), pred)
            torch.testing.assert_close(got, want, rtol=1e-11 + rounding, atol=1e-11 + rounding)

    @pytest.mark.parametrize("label", [8, 255, -100])
    def test_a_label_outside_the_classes_is_an_error(self, label):
        pred, _, score = quality_inputs(3)
        with pytest.raises(InputError, match=rf"QualityFocalLoss: .*\[0, 7\), 7, -1; got {label} at \[1\]"):
            QualityFocalLoss()(pred, (torch.tensor([0, label, 1]), score))

    @pytest.mark.parametrize("loss", [QualityFocalLoss, VariFocalLoss])
    def test_numbers_that_are_no_probabilities_are_an_error(self, loss):
        pred = torch.zeros(2, 3)
        with pytest.raises(InputError, match=r"target with numbers in \[0, 1\]; got 255.0 at \[1, 2\]"):
            loss()(pred, torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0, 255.0]]))
        with pytest.raises(InputError, match=r"pred with numbers in \[0, 1\]; got -3.0 at \[0, 0\].*use_sigmoid=True"):
            loss(use_sigmoid=False)(pred - 3, pred)

    def test_background_in_every_spelling(self):
        pred, _, score = quality_inputs(5)
        values = [quality_focal_loss(pred, (torch.full((5,), label), score)) for label in (7, -1)]
        for value in values:
            torch.testing.assert_close(value, quality_focal_loss(pred, torch.zeros_like(pred)))

    def test_a_background_score_does_not_matter(self):
        pred, label, score = quality_inputs()
        background = (label < 0) | (label >= 7)
        value = quality_focal_loss(pred, (label, score))
        again = quality_focal_loss(pred, (label, score.masked_fill(background, math.nan)))
        torch.testing.assert_close(again, value, rtol=0, atol=0)
        torch.testing.assert_close(gradient(again, pred), gradient(value, pred), rtol=0, atol=0)

    def test_any_mix_of_dtypes(self):
        pred, label, score = quality_inputs(dtype=torch.float32)
        wanted = QualityFocalLoss()(pred, (label, score))
        assert QualityFocalLoss()(pred.bfloat16(), (label.short(), score.half())).dtype == torch.float32
        torch.testing.assert_close(QualityFocalLoss()(pred.double(), (label, score.double())).float(), wanted)
        inputs = pred.half(), (label, score.half())
        assert torch.equal(
            QualityFocalLoss()(*inputs), QualityFocalLoss()(pred.half().float(), (label, score.half().float()))
        )

    def test_logits_and_their_probabilities(self):
        pred, label, score = quality_inputs()
        pred = pred.detach().clamp(-5, 5)
        by_logits = quality_focal_loss(pred, (label, score))
        torch.testing.assert_close(quality_focal_loss(pred.sigmoid(), (label, score), use_sigmoid=False), by_logits)
        assert QualityFocalLoss().use_sigmoid is True
        assert QualityFocalLoss(use_sigmoid=False).use_sigmoid is False

    def test_hard_scores_give_the_focal_loss(self):
        pred, label, _ = quality_inputs()
        one = torch.ones(len(label), dtype=torch.float64)
        p, y = pred.sigmoid(), dense(pred, label, one)
        p_t = p * y + (1 - p) * (1 - y)
        torch.testing.assert_close(quality_focal_loss(pred, (label, one)), (-((1 - p_t) ** 2) * p_t.log()).sum(-1))

    def test_zero_where_the_score_is_met(self):
        score = torch.tensor([0.3], dtype=torch.float64)
        pred = torch.logit(score).unsqueeze(0).requires_grad_()
        value = quality_focal_loss(pred, (torch.tensor([0]), score))
        assert value.item() == pytest.approx(0, abs=1e-20)
        assert gradient(value, pred)[0].abs().item() < 1e-12

    def test_gradients_of_higher_order_and_in_the_score(self):
        pred, label, score = quality_inputs(4)
        assert torch.autograd.gradgradcheck(lambda x: quality_focal_loss(x, (label, score)), (pred,))
        assert torch.autograd.gradcheck(lambda x, s: quality_focal_loss(x, (label, s)), (pred, score.requires_grad_()))

    def test_leading_dims_and_transforms(self):
        pred, label, score = quality_inputs(6)
        value = quality_focal_loss(pred.reshape(2, 3, 7), (label.reshape(2, 3), score.reshape(2, 3)))
        torch.testing.assert_close(value.flatten(), quality_focal_loss(pred, (label, score)))
        per_sample = torch.func.vmap(torch.func.grad(lambda x, y, s: quality_focal_loss(x, (y, s))))
        wanted = gradient(quality_focal_loss(pred, (label, score)), pred)[0]
        torch.testing.assert_close(per_sample(pred.detach(), label, score), wanted)
        jacobian = torch.func.jacrev(lambda x: quality_focal_loss(x, (label, score)))(pred.detach())
        torch.testing.assert_close(jacobian.sum(0), wanted)
        over = torch.func.vmap(lambda y: quality_focal_loss(pred, (y, score)))(torch.stack((label, label - 1)))
        torch.testing.assert_close(over[1], quality_focal_loss(pred, (label - 1, score)))

    @pytest.mark.filterwarnings(INSTANTIATED)
    def test_compiled_forms_agree(self):
        pred, label, score = quality_inputs(dtype=torch.float32)
        for target in ((label, score), dense(pred, label, score)):
            torch._dynamo.reset()
            compiled = torch.compile(QualityFocalLoss(), fullgraph=True, backend="aot_eager")
            torch.testing.assert_close(compiled(pred, target), QualityFocalLoss()(pred, target))

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            (
                torch.zeros(4, 4),
                r"of shape \(4, 3\) for pred \(4, 3\), or a pair \(label, score\); got \(4, 4\)",
            ),
            (torch.zeros(4).long(), "a pair \\(label, score\\) or as scores \\(N, C\\); got labels only"),
            ((torch.zeros(4).long(),), "a pair"),
            ((torch.zeros(4).long(), torch.zeros(3)), r"the score, of shape \(4,\) for pred \(4, 3\); got \(3,\)"),
            ((torch.zeros(4, 1).long(), torch.zeros(4)), r"the label, of shape \(4,\)"),
            ((torch.zeros(4), torch.zeros(4)), "the label, with class indices"),
            ((torch.zeros(4).long(), 1.0), "the score, as a tensor; got float"),
            (None, "got NoneType"),
        ],
    )
    def test_errors(self, target, text):
        with pytest.raises(InputError, match=f"QualityFocalLoss: expected target.*{text}"):
            QualityFocalLoss()(torch.zeros(4, 3), target)

    def test_more_errors(self):
        with pytest.raises(InputError, match="quality_focal_loss: expected pred of shape"):
            quality_focal_loss(torch.tensor(0.0), torch.tensor(0.0))
        with pytest.raises(ConfigError, match="beta: expected a number >= 0"):
            QualityFocalLoss(beta=-1)
        with pytest.raises(TypeError, match="use_sigmoid: expected True or False"):
            QualityFocalLoss(use_sigmoid=1)


class TestVarifocal:
    def test_is_registered_under_both_names(self):
        assert LOSSES["VarifocalLoss"] is LOSSES["VariFocalLoss"] is VariFocalLoss

    def test_alpha_weights_the_negatives(self):
        pred, target = torch.zeros(1, 2), torch.tensor([[0.8, 0.0]])
        half, full = (varifocal_loss(pred, target, alpha=a)[0] for a in (0.5, 1.0))
        assert half[0] == full[0]
        torch.testing.assert_close(2 * half[1], full[1])
        torch.testing.assert_close(full, torch.tensor([0.8 * math.log(2), 0.25 * math.log(2)]))

    def test_positives_are_weighted_by_their_score(self):
        pred, target = torch.randn(5, 3), torch.rand(5, 3) * 0.9 + 0.1
        bce = F.binary_cross_entropy_with_logits(pred, target, reduction="none")
        torch.testing.assert_close(varifocal_loss(pred, target), target * bce)
        torch.testing.assert_close(varifocal_loss(pred, target, iou_weighted=False), bce)

    def test_negatives_are_focused(self):
        pred = torch.randn(5, 3)
        wanted = 0.75 * pred.sigmoid() ** 2 * F.softplus(pred)
        torch.testing.assert_close(varifocal_loss(pred, torch.zeros(5, 3)), wanted)

    @pytest.mark.parametrize("with_logits", [True, False])
    @pytest.mark.parametrize("gamma", [2.0, 1.5])
    def test_constants_of_the_gradient(self, gamma, with_logits):
        """With ``detach_weight`` the factor of a negative, p^γ, is not differentiated."""
        pred = 3 * torch.randn(40, 7, dtype=torch.float64)
        pred = pred if with_logits else pred.sigmoid()
        target = (torch.rand_like(pred) * (torch.rand_like(pred) > 0.5)).double()
        leaf = pred.clone().requires_grad_()
        p = leaf.sigmoid() if with_logits else leaf
        factor = torch.where(target > 0, target, 0.75 * p.detach() ** gamma)
        wanted = factor * F.binary_cross_entropy(p, target, reduction="none")
        loss = VariFocalLoss(gamma=gamma, use_sigmoid=with_logits, detach_weight=True, reduction="none")
        value = loss(leaf, target)
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(gradient(value, leaf), gradient(wanted, leaf))

    @pytest.mark.parametrize("gamma", [0, 0.5, 1, 1.5, 2, 3])
    @pytest.mark.parametrize("iou_weighted", [True, False])
    def test_gradient(self, gamma, iou_weighted):
        pred = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        target = torch.rand(6, 4, dtype=torch.float64) * (torch.rand(6, 4) > 0.5)
        loss = VariFocalLoss(gamma=gamma, iou_weighted=iou_weighted, reduction="sum")
        assert torch.autograd.gradcheck(lambda x: loss(x, target), (pred,))
        probabilities = VariFocalLoss(gamma=gamma, iou_weighted=iou_weighted, reduction="sum", use_sigmoid=False)
        torch.testing.assert_close(probabilities(pred.sigmoid(), target), loss(pred, target))

    def test_weight_of_rows(self):
        pred, target, weight = torch.randn(3, 4), torch.rand(3, 4), torch.tensor([0.0, 1.0, 3.0])
        plain = varifocal_loss(pred, target)
        pred[0] = math.nan
        torch.testing.assert_close(
            VariFocalLoss()(pred, target, weight, 2.5), (plain * weight[:, None])[1:].sum() / 2.5
        )

    def test_errors(self):
        with pytest.raises(InputError, match=r"of the shape of pred \(4, 3\); got \(4,\).*QualityFocalLoss"):
            VariFocalLoss()(torch.zeros(4, 3), torch.zeros(4))
        with pytest.raises(InputError, match=r"got \(4, 2\)\.$"):
            VariFocalLoss()(torch.zeros(4, 3), torch.zeros(4, 2))
        for option in ("alpha", "gamma"):
            with pytest.raises(ConfigError, match=f"{option}: expected a number >= 0"):
                VariFocalLoss(**{option: -1})


class TestDistributionFocal:
    def test_whole_targets_give_the_cross_entropy(self):
        """Exact at both ends, y = reg_max included."""
        pred = torch.randn(17, 17, dtype=torch.float64, requires_grad=True)
        bins = torch.arange(17)
        value = distribution_focal_loss(pred, bins.double())
        wanted = F.cross_entropy(pred, bins, reduction="none")
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(value, pred), gradient(wanted, pred), rtol=1e-12, atol=1e-12)

    @settings(max_examples=80, deadline=None)
    @given(st.integers(1, 20), st.data())
    def test_any_target(self, reg_max, data):
        distance = st.one_of(st.floats(0, reg_max), st.integers(0, reg_max).map(float))
        y = torch.tensor(data.draw(st.lists(distance, min_size=1, max_size=5)), dtype=torch.float64)
        pred = torch.randn(len(y), reg_max + 1, dtype=torch.float64, requires_grad=True)
        value = distribution_focal_loss(pred, y, reg_max=reg_max)
        expected, _ = oracles.distribution_focal(pred.detach().numpy(), y.numpy(), reg_max)
        np.testing.assert_allclose(value.detach(), expected, rtol=1e-9, atol=1e-9)
        # two-hot is a triangle around the target, and the gradient is softmax minus it
        two_hot = (1 - (y[:, None] - torch.arange(reg_max + 1)).abs()).clamp(min=0)
        torch.testing.assert_close(gradient(value, pred)[0], pred.softmax(-1).detach() - two_hot)

    def test_targets_are_clamped_but_not_in_place(self):
        pred, target = torch.randn(3, 17), torch.tensor([-2.0, 16.5, 40.0])
        value = DistributionFocalLoss(reduction="none")(pred, target)
        torch.testing.assert_close(value, distribution_focal_loss(pred, torch.tensor([0.0, 16.0, 16.0])))
        assert target.tolist() == [-2.0, 16.5, 40.0]

    def test_nan_stays_visible(self):
        value = distribution_focal_loss(torch.randn(2, 17), torch.tensor([math.nan, 3.0]))
        assert value.isnan().tolist() == [True, False]

    def test_four_sides_at_once(self):
        pred, target = torch.randn(5, 4, 17, requires_grad=True), torch.rand(5, 4) * 16
        rows = distribution_focal_loss(pred.reshape(20, 17), target.reshape(20))
        for shaped in (pred, pred.reshape(5, 68)):
            torch.testing.assert_close(distribution_focal_loss(shaped, target).flatten(), rows)

    @pytest.mark.parametrize(
        "weight", [torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 0.0, 2.0])[:, None].expand(3, 4)]
    )
    @pytest.mark.parametrize("flat", [False, True])
    def test_weights_of_boxes_and_of_sides(self, weight, flat):
        pred, target = torch.randn(3, 4, 17), torch.rand(3, 4) * 16
        wanted = (distribution_focal_loss(pred, target) * weight.reshape(3, -1)).sum() / 7
        pred[1] = math.nan
        pred = (pred.flatten(1) if flat else pred).requires_grad_()
        value = DistributionFocalLoss()(pred, target, weight, avg_factor=7)
        torch.testing.assert_close(value, wanted)
        (slope,) = gradient(value, pred)
        assert not slope[1].any()
        assert slope[0].all()

    def test_a_weight_of_single_sides(self):
        pred, target = torch.randn(1, 68), torch.rand(1, 4) * 16
        pred[0, 17:34] = math.nan
        pred.requires_grad_()
        value = DistributionFocalLoss()(pred, target, torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
        (slope,) = gradient(value, pred)
        assert value.isfinite()
        assert slope.isfinite().all()
        assert (slope.reshape(4, 17) != 0).any(-1).tolist() == [True, False, True, True]

    def test_gradients_of_higher_order_and_in_the_target(self):
        pred, target = torch.randn(3, 8, dtype=torch.float64), torch.tensor([0.3, 5.5, 6.9], dtype=torch.float64)
        loss = DistributionFocalLoss(reg_max=7)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, target), (pred.requires_grad_(),))
        assert torch.autograd.gradcheck(loss, (pred, target.requires_grad_()))
        per_sample = torch.func.vmap(torch.func.grad(loss))(pred.detach(), target.detach())
        torch.testing.assert_close(per_sample, gradient(loss(pred, target) * 3, pred)[0])

    def test_errors_name_the_convention(self):
        text = r"pred of shape \(…, 17\) or \(…, 68\) for reg_max=16.*got \(8, 64\).*YOLOv8.*reg_max=15"
        with pytest.raises(InputError, match=f"DistributionFocalLoss: expected {text}"):
            DistributionFocalLoss()(torch.zeros(8, 64), torch.zeros(8, 4))
        assert DistributionFocalLoss(reg_max=15)(torch.zeros(8, 64), torch.zeros(8, 4)).item() == pytest.approx(
            math.log(16)
        )
        with pytest.raises(InputError, match=r"target of shape \(8, 4\) for pred \(8, 68\); got \(8,\)"):
            DistributionFocalLoss()(torch.zeros(8, 68), torch.zeros(8))
        with pytest.raises(InputError, match=r"target of shape \(8,\) for pred \(8, 17\); got \(8, 17\)"):
            DistributionFocalLoss()(torch.zeros(8, 17), torch.zeros(8, 17))
        with pytest.raises(InputError, match="got \\(\\)"):
            distribution_focal_loss(torch.tensor(0.0), torch.tensor(0.0))
        for reg_max, error in ((0, ConfigError), (16.0, TypeError)):
            with pytest.raises(error, match="reg_max: expected an integer >= 1"):
                DistributionFocalLoss(reg_max=reg_max)
