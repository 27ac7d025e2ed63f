"""What detection.md promises of the losses of transformer detectors, of heatmaps and of keypoints."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from losses_core import LOSSES, ConfigError, InputError, build_loss
from losses_det import (
    DecoupledDistillationFocalLoss,
    FineGrainedLocalizationLoss,
    GaussianFocalLoss,
    IoUAwareBCELoss,
    MatchabilityAwareLoss,
    OKSLoss,
)
from losses_det import functional as det

from . import oracles


def grad(value, *leaves):
    return torch.autograd.grad(value.sum(), leaves)


def inputs(n=12, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    pred = (2 * torch.randn(n, classes, generator=generator, dtype=dtype)).requires_grad_()
    label = torch.arange(n) % (classes + 1)
    return pred, label, torch.rand(n, generator=generator, dtype=dtype)


class TestQualityOfMatches:
    @pytest.mark.parametrize("cls", [MatchabilityAwareLoss, IoUAwareBCELoss])
    def test_both_forms_of_the_target(self, cls):
        pred, label, quality = inputs()
        label[-1] = -1
        dense = torch.from_numpy(oracles.dense_scores(pred.detach().numpy(), (label.numpy(), quality.numpy())))
        loss = cls(reduction="none")
        pair, soft = loss(pred, (label, quality)), loss(pred, dense)
        torch.testing.assert_close(pair, soft)
        torch.testing.assert_close(grad(pair, pred), grad(soft, pred))

    @pytest.mark.parametrize("cls", [MatchabilityAwareLoss, IoUAwareBCELoss])
    def test_a_matched_row_stays_matched_at_an_iou_of_0(self, cls):
        x = torch.tensor([[1.0]], dtype=torch.float64)
        pair = cls()(x, (torch.tensor([0]), torch.zeros(1)))
        target = 0.0 if cls is MatchabilityAwareLoss else 0.01
        torch.testing.assert_close(pair, F.binary_cross_entropy_with_logits(x, torch.full_like(x, target)))
        assert cls()(x, torch.zeros(1, 1)) < pair

    @pytest.mark.parametrize("pairs", [True, False])
    def test_constants_of_the_gradient(self, pairs):
        """MAL: the focusing is a constant. IA-BCE: the target is, the focusing is not."""
        pred, label, quality = inputs()
        positive = label[:, None] == torch.arange(5)
        target = (label, quality) if pairs else positive * quality[:, None]
        p = pred.sigmoid()
        soft = positive * quality[:, None]
        wanted = torch.where(positive, p - soft**1.5, 0.3 * p**2.5)
        value = det.matchability_aware_loss(pred, target, alpha=0.3)
        torch.testing.assert_close(grad(value, pred)[0], wanted.detach())
        soft = (p**0.25 * soft**0.75).clamp(min=0.01)
        wanted = torch.where(positive, p - soft, p**3 + 2 * p**2 * (1 - p) * F.softplus(pred))
        value = det.iou_aware_bce_loss(pred, target)
        torch.testing.assert_close(grad(value, pred)[0], wanted.detach())

    @pytest.mark.parametrize("cls", [MatchabilityAwareLoss, IoUAwareBCELoss])
    def test_large_logits(self, cls):
        """The logarithm of a probability is inf at 20 in float32, and NaN at -120."""
        pred = torch.tensor([[20.0, -120.0], [-120.0, 20.0]], requires_grad=True)
        value = cls(reduction="none")(pred, (torch.tensor([0, 0]), torch.tensor([0.9, 0.9])))
        assert value.isfinite().all()
        assert grad(value, pred)[0].isfinite().all()
        assert value[1] > 20

    @pytest.mark.parametrize("cls", [MatchabilityAwareLoss, IoUAwareBCELoss])
    def test_nothing_is_hidden(self, cls):
        pred = torch.tensor([[math.nan, 0.0], [0.0, 0.0]])
        value = cls(reduction="none")(pred, (torch.tensor([1, 0]), torch.tensor([0.5, math.nan])))
        assert value.isnan().all()

    def test_the_quality_gets_no_gradient(self):
        pred, label, quality = inputs()
        value = MatchabilityAwareLoss()(pred, (label, quality.requires_grad_()))
        assert torch.autograd.grad(value, quality, allow_unused=True)[0] is None

    def test_gamma_0_is_cross_entropy(self):
        pred, label, quality = inputs()
        hard = (label[:, None] == torch.arange(5)).double()
        bce = F.binary_cross_entropy_with_logits(pred, hard, reduction="none").sum(1)
        torch.testing.assert_close(det.matchability_aware_loss(pred, (label, quality), gamma=0), bce)

    def test_errors(self):
        assert LOSSES["MALoss"] is MatchabilityAwareLoss
        with pytest.raises(InputError, match=r"MatchabilityAwareLoss: expected target as a pair.*got labels only"):
            MatchabilityAwareLoss()(torch.zeros(4, 3), torch.zeros(4).long())
        with pytest.raises(InputError, match=r"IoUAwareBCELoss: .*\[0, 3\), 3, -1; got 7 at \[1\]"):
            IoUAwareBCELoss()(torch.zeros(2, 3), (torch.tensor([0, 7]), torch.zeros(2)))
        for options in ({"alpha": 1.5}, {"alpha": -0.1}, {"gamma": -1}, {"min_target": 2}):
            with pytest.raises(ConfigError, match="expected a number"):
                IoUAwareBCELoss(**options)


class TestFineGrained:
    def test_bins(self):
        for options in ((32, 0.5, 4.0), (4, 0.5, 2.0), (2, 1.0, 1.0), (16, 0.25, 8.0)):
            bins = det.weighting_function(*options, dtype=torch.float64)
            np.testing.assert_allclose(bins, oracles.bin_values(*options), rtol=1e-12, atol=1e-12)
            assert (bins.diff() > 0).all()

    def test_exact_at_every_bin_at_both_ends_and_outside(self):
        bins = det.weighting_function(dtype=torch.float64)
        pred = torch.randn(33, 33, dtype=torch.float64, requires_grad=True)
        wanted = F.cross_entropy(pred, torch.arange(33), reduction="none")
        value = det.fine_grained_localization_loss(pred, bins)
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(grad(value, pred), grad(wanted, pred), rtol=1e-12, atol=1e-12)
        far = torch.tensor([-100.0, 4.001, math.inf], dtype=torch.float64)
        ends = det.fine_grained_localization_loss(pred[:3], far)
        torch.testing.assert_close(ends, F.cross_entropy(pred[:3], torch.tensor([0, 32, 32]), reduction="none"))

    def test_distances_become_bins_and_come_back(self):
        distance = torch.linspace(-5, 5, 201, dtype=torch.float64)
        index, right, left = det.distance_to_bins(distance)
        bins = det.weighting_function(dtype=torch.float64)
        assert index.dtype == torch.int64
        assert index.min() == 0
        assert index.max() == 31
        torch.testing.assert_close(right + left, torch.ones_like(distance))
        torch.testing.assert_close(left * bins[index] + right * bins[index + 1], distance.clamp(-4, 4))
        logits = torch.full((201, 33), -1e9, dtype=torch.float64)
        logits.scatter_(1, index[:, None], left.clamp(min=1e-300).log()[:, None])
        logits.scatter_(1, index[:, None] + 1, right.clamp(min=1e-300).log()[:, None])
        torch.testing.assert_close(det.bins_to_distance(logits), distance.clamp(-4, 4))

    def test_boxes_become_distances_and_come_back(self):
        generator = torch.Generator().manual_seed(0)
        points = torch.rand(2, 9, 4, generator=generator, dtype=torch.float64) + 0.1
        boxes = torch.rand(2, 9, 4, generator=generator, dtype=torch.float64)
        distance = det.box_to_distance(points, boxes)
        cx, w, x1 = points[..., 0], points[..., 2], boxes[..., 0]
        torch.testing.assert_close(distance[..., 0], (cx - x1) / (w / 4) - 2)
        torch.testing.assert_close(det.distance_to_box(points, distance), boxes)
        own = torch.cat((points[..., :2] - points[..., 2:] / 2, points[..., :2] + points[..., 2:] / 2), -1)
        torch.testing.assert_close(det.box_to_distance(points, own), torch.zeros_like(own))

    def test_four_sides_and_the_published_normalizer(self):
        pred, target = torch.randn(5, 4, 33), torch.randn(5, 4)
        iou = torch.rand(5)
        each = det.fine_grained_localization_loss(pred, target)
        value = FineGrainedLocalizationLoss()(pred.flatten(1), target, weight=iou, avg_factor=3)
        torch.testing.assert_close(value, (each * iou[:, None]).sum() / 3)

    def test_errors(self):
        for cls in (FineGrainedLocalizationLoss, DecoupledDistillationFocalLoss):
            with pytest.raises(ConfigError, match="reg_max: expected an even integer; got 31"):
                cls(reg_max=31)
            with pytest.raises(InputError, match=r"expected pred of shape \(…, 33\) or \(…, 132\)"):
                cls()(torch.zeros(2, 17), torch.zeros(2, 17), **({} if cls is FineGrainedLocalizationLoss else MATCHED))
        with pytest.raises(InputError, match="reg_max: expected an even integer >= 2; got 7"):
            det.weighting_function(7)
        with pytest.raises(InputError, match="up: expected a number > 0"):
            det.distance_to_bins(torch.zeros(1), 4, up=0)
        with pytest.raises(InputError, match="bins_to_distance: expected logits"):
            det.bins_to_distance(torch.zeros(1, 4))
        with pytest.raises(InputError, match="expected points"):
            det.box_to_distance(torch.zeros(3), torch.zeros(3))
        with pytest.raises(InputError, match="expected distance of shape"):
            det.distance_to_box(torch.zeros(3, 4), torch.zeros(2, 4))
        with pytest.raises(InputError, match="reg_scale"):
            det.distance_to_box(torch.zeros(3, 4), torch.zeros(3, 4), reg_scale=0)


MATCHED = {"matched": torch.tensor([True, False])}


class TestDistillation:
    @pytest.mark.parametrize("matched", [[True, False, False, True, False], [False] * 5, [True] * 5])
    def test_mean_of_the_groups(self, matched):
        student = torch.randn(5, 4, 33, dtype=torch.float64, requires_grad=True)
        teacher, quality = torch.randn(5, 4, 33, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
        matched = torch.tensor(matched)
        value = DecoupledDistillationFocalLoss()(student, teacher, matched=matched, quality=quality)
        kl = F.kl_div(F.log_softmax(student / 5, -1), F.softmax(teacher / 5, -1), reduction="none").sum(-1)
        each, numerator, denominator = 25 * quality[:, None] * kl, 0, 0
        for group in (matched, ~matched):
            if group.any():
                root = math.sqrt(4 * int(group.sum()))
                numerator, denominator = numerator + root * each[group].mean(), denominator + root
        torch.testing.assert_close(value, numerator / denominator)
        torch.testing.assert_close(grad(value, student), grad(numerator / denominator, student))

    def test_equal_layers(self):
        student = torch.randn(2, 4, 33).requires_grad_()
        value = DecoupledDistillationFocalLoss()(student, student.detach().clone(), **MATCHED)
        assert value.item() == 0
        assert not grad(value, student)[0].any()

    def test_half_precision_is_computed_in_float32(self):
        student, teacher = (20 * torch.randn(2, 4, 33)).half(), (20 * torch.randn(2, 4, 33)).half()
        loss = DecoupledDistillationFocalLoss()
        assert torch.equal(loss(student, teacher, **MATCHED), loss(student.float(), teacher.float(), **MATCHED))

    def test_teacher_and_quality_get_no_gradient(self):
        leaves = [torch.randn(2, 4, 33).requires_grad_() for _ in range(2)]
        quality = torch.rand(2).requires_grad_()
        value = DecoupledDistillationFocalLoss()(*leaves, **MATCHED, quality=quality)
        gradients = torch.autograd.grad(value, [*leaves, quality], allow_unused=True)
        assert gradients[0] is not None
        assert gradients[1:] == (None, None)

    def test_errors(self):
        loss, x = DecoupledDistillationFocalLoss(), torch.zeros(2, 4, 33)
        with pytest.raises(TypeError, match="the call needs matched="):
            loss(x, x)
        with pytest.raises(InputError, match=r"matched of shape \(2,\)"):
            loss(x, x, matched=torch.tensor([True]))
        with pytest.raises(InputError, match=r"matched as a bool tensor; got torch\.int64"):
            loss(x, x, matched=torch.tensor([1, 0]))
        with pytest.raises(InputError, match=r"quality of shape \(2,\)"):
            loss(x, x, **MATCHED, quality=torch.ones(2, 4))
        with pytest.raises(InputError, match="temperature: expected a number > 0"):
            det.decoupled_distillation_focal_loss(x, x, **MATCHED, temperature=0)
        with pytest.raises(InputError, match=r"pred of shape \(…, 4, 33\)"):
            loss(torch.zeros(2, 5, 33), torch.zeros(2, 5, 33), matched=torch.ones(2, dtype=torch.bool))


class TestGaussianFocal:
    def test_only_exact_ones_are_peaks(self):
        pred, target = torch.zeros(1, 2), torch.tensor([[1.0, 0.999]])
        value = det.gaussian_focal_loss(pred, target)[0]
        assert value[0] == pytest.approx(0.25 * math.log(2))
        assert value[1] == pytest.approx(0.25 * math.log(2) * 1e-12, rel=1e-3)

    def test_saturated_probabilities_in_fp16(self):
        p = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float16, requires_grad=True)
        value = GaussianFocalLoss(use_sigmoid=False, reduction="none")(p, torch.tensor([[1.0, 0.0, 1.0]]))
        assert value.tolist() == [[100.0, 100.0, 0.0]]
        assert grad(value, p)[0].isfinite().all()

    def test_a_binary_heatmap_gives_the_focal_loss(self):
        pred, target = torch.randn(4, 5), torch.randint(0, 2, (4, 5))
        from losses_core.utils import sigmoid_focal_loss

        wanted = sigmoid_focal_loss(pred, target, alpha=None)
        torch.testing.assert_close(GaussianFocalLoss(reduction="none")(pred, target), wanted)

    def test_avg_factor_is_the_number_of_peaks(self):
        pred, target = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4).round(decimals=1)
        peaks = (target == 1).sum()
        total = det.gaussian_focal_loss(pred, target).sum()
        torch.testing.assert_close(GaussianFocalLoss()(pred, target, avg_factor=peaks), total / peaks)

    def test_errors(self):
        with pytest.raises(InputError, match=r"numbers in \[0, 1\]; got 2.0 at \[0, 0\]"):
            GaussianFocalLoss()(torch.zeros(1, 1), torch.tensor([[2.0]]))
        with pytest.raises(InputError, match="use_sigmoid=True"):
            GaussianFocalLoss(use_sigmoid=False)(torch.tensor([[2.0]]), torch.zeros(1, 1))
        with pytest.raises(InputError, match="of the shape of pred"):
            GaussianFocalLoss()(torch.zeros(1, 2), torch.zeros(1, 1))


class TestKeypoints:
    def test_coordinates_without_a_label_do_not_matter(self):
        pred, target = torch.rand(3, 17, 2).requires_grad_(), torch.rand(3, 17, 2)
        visible = torch.randint(0, 3, (3, 17))
        visible[:, 0], visible[:, 1] = 2, 0
        call = {"area": torch.rand(3), "visibility": visible}
        value = OKSLoss()(pred, target, **call)
        hidden = (visible == 0).unsqueeze(-1)
        for other in (math.nan, math.inf):
            leaf = pred.detach().masked_fill(hidden, other).requires_grad_()
            again = OKSLoss()(leaf, target.masked_fill(hidden, other), **call)
            assert again == value
            assert torch.equal(grad(again, leaf)[0], grad(OKSLoss()(pred, target, **call), pred)[0])

    def test_objects_without_a_label_leave_the_denominator(self):
        pred, target, area = torch.rand(3, 17, 2), torch.rand(3, 17, 2), torch.rand(3)
        visibility = torch.ones(3, 17)
        visibility[1] = 0
        value = OKSLoss()(pred, target, area=area, visibility=visibility)
        torch.testing.assert_close(value, OKSLoss()(pred[[0, 2]], target[[0, 2]], area=area[[0, 2]]))
        nothing = OKSLoss(mode="log")(pred.requires_grad_(), target, area=area, visibility=torch.zeros(3, 17))
        assert nothing.item() == 0
        assert not grad(nothing, pred)[0].any()

    def test_equal_points(self):
        target = torch.rand(2, 17, 2)
        for mode in ("linear", "log"):
            assert OKSLoss(mode=mode)(target, target, area=torch.ones(2)).item() == 0

    def test_far_points_in_log(self):
        pred, target = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 1e4)
        value = OKSLoss(sigmas=[0.1, 0.1], mode="log", eps=1e-3)(pred, target, area=torch.ones(1))
        assert value.item() == pytest.approx(-math.log(1e-3))

    def test_visibility_of_every_dtype(self):
        pred, target, area = torch.rand(2, 3, 2), torch.rand(2, 3, 2), torch.ones(2)
        visible = torch.tensor([[2, 0, 1], [0, 1, 0]])
        loss = OKSLoss(sigmas=[0.1] * 3)
        values = [
            loss(pred, target, area=area, visibility=visible.to(dtype))
            for dtype in (torch.int64, torch.uint8, torch.float32, torch.bool)
        ]
        assert len({value.item() for value in values}) == 1

    def test_errors(self):
        pred = torch.zeros(2, 17, 2)
        with pytest.raises(TypeError, match="the call needs area="):
            OKSLoss()(pred, pred)
        with pytest.raises(InputError, match=r"area of shape \(2,\)"):
            OKSLoss()(pred, pred, area=torch.ones(3))
        with pytest.raises(InputError, match=r"visibility of shape \(2, 17\)"):
            OKSLoss()(pred, pred, area=torch.ones(2), visibility=torch.ones(2))
        with pytest.raises(InputError, match=r"one sigma for each of the 5 keypoints.*got 17.*set sigmas"):
            OKSLoss()(pred[:, :5], pred[:, :5], area=torch.ones(2))
        with pytest.raises(InputError, match=r"keypoints of shape \(N, K, 2\)"):
            OKSLoss()(pred[..., :1], pred[..., :1], area=torch.ones(2))
        with pytest.raises(InputError, match="mode: expected 'linear' or 'log'"):
            det.oks_loss(pred, pred, area=torch.ones(2), mode="ln")
        for sigmas in ([0.1, 0.0], 0.5):
            with pytest.raises(ConfigError, match="sigmas: expected"):
                OKSLoss(sigmas=sigmas)

    def test_sigmas_are_read_back(self):
        assert OKSLoss().to_config()["sigmas"] is None
        loss = OKSLoss(sigmas=[0.1, 0.2])
        assert loss.sigmas == [0.1, 0.2]
        assert build_loss(loss.to_config()).sigmas == [0.1, 0.2]
        assert not OKSLoss().state_dict()
