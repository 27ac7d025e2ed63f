"""What detection.md promises of the options of the IoU family, of MPDIoU, NWD, Wise-IoU, and of rotated boxes."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from losses_core import LOSSES, ConfigError, InputError
from losses_det import CIoULoss, EIoULoss, GIoULoss, GWDLoss, KLDLoss, MPDIoULoss, NWDLoss, ProbIoULoss, WIoULoss
from losses_det import functional as det

from . import oracles
from .cases import FAMILY, boxes, rotated

NAMES = list(FAMILY)
EQUAL = torch.tensor([[10.0, 20.0, 50.0, 60.0], [0.0, 0.0, 4000.0, 3.0], [0.1, 0.7, 0.3, 0.9]])


def pairs(n=20, seed=0, make=None):
    inputs = (make or boxes())(torch.Generator().manual_seed(seed), n)
    return inputs.pred, inputs.target


def value_and_grad(loss, pred, target, **keywords):
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, **keywords)
    return value.detach(), torch.autograd.grad(value.sum(), pred)[0]


class TestOptions:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        "options", [{"power": 3}, {"power": 1.5}, {"inner_ratio": 0.7}, {"focal_gamma": 0.5}], ids=str
    )
    def test_equal_boxes(self, name, options):
        value, grad = value_and_grad(LOSSES[name](mode="linear", reduction="none", **options), EQUAL, EQUAL)
        assert not value.any()
        assert grad.isfinite().all()

    @pytest.mark.parametrize("name", NAMES)
    def test_defaults_change_nothing(self, name):
        pred, target = pairs()
        plain, same = LOSSES[name](), LOSSES[name](power=1.0, inner_ratio=None, focal_gamma=0.0)
        assert torch.equal(plain(pred, target), same(pred, target))
        torch.testing.assert_close(LOSSES[name](inner_ratio=1.0)(pred, target), plain(pred, target))

    @pytest.mark.parametrize("name", NAMES)
    def test_inner_boxes_change_the_overlap_alone(self, name):
        pred, target = pairs()
        linear = {"mode": "linear", "reduction": "none"}
        iou, inner = (det.iou_loss(pred, target, mode="linear", inner_ratio=r) for r in (None, 0.7))
        expected = LOSSES[name](**linear)(pred, target) - iou + inner
        torch.testing.assert_close(LOSSES[name](**linear, inner_ratio=0.7)(pred, target), expected)

    @pytest.mark.parametrize("name", NAMES)
    def test_constants_of_the_gradient(self, name):
        """The focusing factor, of the boxes as they are."""
        pred, target = pairs()
        factor = (1 - det.iou_loss(pred, target, mode="linear")) ** 0.5
        options = {"mode": "linear", "reduction": "none", "inner_ratio": 1.2, "power": 2}
        value, grad = value_and_grad(LOSSES[name](**options), pred, target)
        focused, focused_grad = value_and_grad(LOSSES[name](**options, focal_gamma=0.5), pred, target)
        torch.testing.assert_close(focused, value * factor)
        torch.testing.assert_close(focused_grad, grad * factor[:, None])

    @pytest.mark.parametrize("name", NAMES)
    def test_disjoint_boxes_without_focus(self, name):
        value, grad = value_and_grad(LOSSES[name](focal_gamma=0.5), EQUAL[:1] + 100, EQUAL[:1])
        assert value == 0
        assert not grad.any()

    def test_each_penalty_is_raised_on_its_own(self):
        p = oracles.Pair([0, 0, 4, 2], [1, 1, 3, 6], 1e-6, "xyxy")
        box, other = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[1.0, 1, 3, 6]])
        wanted = {
            GIoULoss: [oracles.giou_term(p)],
            CIoULoss: oracles.ciou_terms(p),
            EIoULoss: oracles.eiou_terms(p),
        }
        for cls, terms in wanted.items():
            value = cls(power=3)(box, other).item()
            assert value == pytest.approx(1 - p.iou**3 + sum(term**3 for term in terms), rel=1e-5)

    def test_errors(self):
        for mode in ("log", "square"):
            with pytest.raises(ConfigError, match=f"GIoULoss: power: expected 1 with mode='{mode}'; got 3"):
                GIoULoss(power=3, mode=mode)
            with pytest.raises(InputError, match=f"giou_loss: power: expected 1 with mode='{mode}'"):
                det.giou_loss(EQUAL, EQUAL, power=3, mode=mode)
        for option in ({"power": 0.5}, {"inner_ratio": 0}, {"focal_gamma": -1}):
            with pytest.raises(ConfigError, match="expected a number"):
                CIoULoss(**option)


class TestCorners:
    def test_image_size_of_the_loss_of_the_call_and_of_each_box(self):
        pred, target = pairs(3)
        of_loss = MPDIoULoss(image_size=(20, 30))(pred, target)
        sizes = [(20, 30), [20.0, 30.0], torch.tensor([20, 30]), torch.tensor([[20.0, 30.0]] * 3)]
        for size in sizes:
            torch.testing.assert_close(MPDIoULoss()(pred, target, image_size=size), of_loss)
        assert MPDIoULoss(image_size=(40, 60))(pred, target) < of_loss
        torch.testing.assert_close(MPDIoULoss(image_size=(1, 1))(pred, target, image_size=(20, 30)), of_loss)

    def test_equal_boxes(self):
        value, grad = value_and_grad(MPDIoULoss(image_size=(64, 64), power=3, inner_ratio=0.5), EQUAL, EQUAL)
        assert value == 0
        assert grad.isfinite().all()

    def test_the_distance_has_no_power(self):
        pred, target = pairs()
        iou = 1 - det.iou_loss(pred, target, mode="linear")
        distance = (pred - target).square().sum(-1) / (20**2 + 30**2)
        value = det.mpdiou_loss(pred, target, image_size=(20, 30), power=3)
        torch.testing.assert_close(value, 1 - iou**3 + distance)

    def test_errors(self):
        pred, target = pairs(3)
        with pytest.raises(InputError, match=r"MPDIoULoss: image_size: expected \(height, width\).*got None"):
            MPDIoULoss()(pred, target)
        for size in ((20,), (20, 0), "ab", 640):
            with pytest.raises(ConfigError, match="MPDIoULoss: image_size: expected two numbers > 0"):
                MPDIoULoss(image_size=size)
        with pytest.raises(InputError, match=r"image_size of shape \(2,\) or \(3, 2\)"):
            MPDIoULoss()(pred, target, image_size=torch.ones(4, 2))
        with pytest.raises(TypeError, match="focal_gamma"):
            MPDIoULoss(image_size=(2, 2), focal_gamma=0.5)


class TestWasserstein:
    def test_equal_boxes(self):
        value, grad = value_and_grad(NWDLoss(reduction="none"), EQUAL, EQUAL)
        assert not value.any()
        assert not grad.any()

    def test_boxes_far_apart_have_a_gradient(self):
        _, grad = value_and_grad(NWDLoss(), EQUAL[:1] + 100, EQUAL[:1])
        assert (grad > 0).all()

    def test_errors(self):
        with pytest.raises(ConfigError, match="constant: expected a number > 0"):
            NWDLoss(constant=0)
        with pytest.raises(InputError, match=r"shape \(…, 4\)"):
            NWDLoss()(torch.zeros(2, 5), torch.zeros(2, 5))


class TestWise:
    def test_the_mean_follows_the_batches(self):
        loss, mean = WIoULoss(momentum=0.25), 1.0
        for seed in range(3):
            pred, target = pairs(5, seed)
            miss = det.iou_loss(pred, target, mode="linear")
            mean = 0.75 * mean + 0.25 * miss.mean().item()
            value = loss(pred, target)
            assert loss.mean.item() == pytest.approx(mean)
            torch.testing.assert_close(value, det.wiou_loss(pred, target, mean=mean).mean(), rtol=1e-6, atol=1e-6)

    def test_no_update_in_evaluation_for_no_boxes_and_for_weight_0(self):
        pred, target = pairs(4)
        loss = WIoULoss(momentum=0.5)
        loss(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4))
        loss(pred, target, weight=torch.zeros(4))
        loss.eval()(pred, target)
        WIoULoss(version=1)(pred, target)
        assert loss.mean == 1
        pred[1] = math.nan
        loss.train()(pred, target, weight=torch.tensor([1.0, 0.0, 2.0, 1.0]))
        miss = det.iou_loss(pred, target, mode="linear")[[0, 2, 3]].mean()
        assert loss.mean.item() == pytest.approx(0.5 + 0.5 * miss.item())

    def test_one_update_inside_autocast(self):
        pred, target = (box.float() for box in pairs(4))
        loss, plain = WIoULoss(momentum=0.5), WIoULoss(momentum=0.5)
        plain(pred, target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss(pred, target)
        assert loss.mean == plain.mean

    def test_the_mean_is_saved_and_belongs_to_one_model(self):
        pred, target = pairs(4)
        loss = WIoULoss(momentum=0.5)
        loss(pred, target)
        assert WIoULoss().mean == 1
        resumed = WIoULoss(momentum=0.5)
        resumed.load_state_dict(loss.state_dict())
        twin = copy.deepcopy(loss)
        assert resumed(pred, target) == loss(pred, target) == twin(pred, target)

    @pytest.mark.parametrize("version", [1, 3])
    def test_constants_of_the_gradient(self, version):
        pred, target = pairs()
        leaf = pred.clone().requires_grad_()
        p = [oracles.Pair(box, other, 1e-6, "xyxy") for box, other in zip(pred.numpy(), target.numpy(), strict=True)]
        diagonal = torch.tensor([pair.ew**2 + pair.eh**2 for pair in p])
        shift = (leaf[:, :2] + leaf[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        miss = det.iou_loss(leaf, target, mode="linear")
        beta = miss.detach() / 0.8
        focus = beta / (3 * 1.9 ** (beta - 3)) if version == 3 else 1
        wanted = focus * torch.exp(shift.square().sum(-1) / diagonal) * miss
        (wanted_grad,) = torch.autograd.grad(wanted.sum(), leaf)
        value, grad = value_and_grad(lambda a, b: det.wiou_loss(a, b, mean=0.8, version=version), pred, target)
        torch.testing.assert_close(value, wanted.detach())
        torch.testing.assert_close(grad, wanted_grad)

    def test_the_pure_function_starts_as_a_training_does(self):
        pred, target = pairs()
        assert torch.equal(det.wiou_loss(pred, target), det.wiou_loss(pred, target, mean=1.0))

    def test_errors(self):
        for options in ({"version": 2}, {"alpha": 0.5}, {"delta": 0}, {"momentum": 2}):
            with pytest.raises(ConfigError, match=f"{next(iter(options))}: expected"):
                WIoULoss(**options)
        with pytest.raises(InputError, match="version: expected 1 or 3; got 2"):
            det.wiou_loss(EQUAL, EQUAL, version=2)
        with pytest.raises(InputError, match=r"WIoULoss: expected weight of the loss's shape \(3,\)"):
            WIoULoss()(EQUAL, EQUAL, weight=torch.ones(2))
        with pytest.raises(InputError, match=r"WIoULoss: expected target of the shape of pred"):
            WIoULoss()(EQUAL, EQUAL[:2])


ROTATED = (ProbIoULoss, GWDLoss, KLDLoss)


class TestRotated:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("tau", [0, 1])
    @pytest.mark.parametrize("cls", ROTATED)
    def test_equal_boxes_have_no_loss(self, cls, tau, dtype):
        options = {} if cls is ProbIoULoss else {"tau": tau}
        box = torch.tensor([[10.0, 20.0, 40.0, 10.0, 0.7], [0.0, 0.0, 4000.0, 1.0, -2.0], [0.0] * 5], dtype=dtype)
        value, grad = value_and_grad(cls(reduction="none", **options), box, box)
        assert not value.any()
        assert grad.isfinite().all()

    @pytest.mark.parametrize("cls", ROTATED)
    def test_any_convention_of_the_angle(self, cls):
        pred, target = pairs(8, make=rotated())
        loss = cls(reduction="none")
        expected = loss(pred, target)
        half = torch.tensor([0.0, 0.0, 0.0, 0.0, math.pi], dtype=torch.float64)
        torch.testing.assert_close(loss(pred + half, target - 3 * half), expected)
        swapped = pred[:, [0, 1, 3, 2, 4]] + half / 2
        torch.testing.assert_close(loss(swapped, target), expected)
        degrees = torch.tensor([1.0, 1.0, 1.0, 1.0, 180 / math.pi], dtype=torch.float64)
        torch.testing.assert_close(
            cls(reduction="none", angle_unit="degree")(pred * degrees, target * degrees), expected
        )

    @pytest.mark.parametrize("cls", ROTATED)
    def test_thin_boxes_in_float32(self, cls):
        """Determinants of matrices lose them."""
        pred = torch.tensor([[0.0, 0.0, 2000.0, 0.5, 0.3]], dtype=torch.float64)
        target = torch.tensor([[1.0, 0.5, 1900.0, 0.6, 0.3001]], dtype=torch.float64)
        value, grad = value_and_grad(cls(), pred.float(), target.float())
        expected, wanted = value_and_grad(cls(), pred.float().double(), target.float().double())
        torch.testing.assert_close(value.double(), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-2, atol=1e-2 * wanted.abs().max().item())

    def test_squares_have_no_gradient_in_the_angle(self):
        pred = torch.tensor([[0.0, 0.0, 8.0, 8.0, 0.3]], dtype=torch.float64)
        target = torch.tensor([[1.0, 0.0, 9.0, 4.0, 1.1]], dtype=torch.float64)
        for cls in ROTATED:
            assert value_and_grad(cls(), pred, target)[1][0, 4].abs() < 1e-12

    def test_far_boxes(self):
        """ProbIoU in ``l1`` has no gradient there, in ``l2`` it has one."""
        pred, target = torch.tensor([[900.0, 0.0, 4.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]])
        assert value_and_grad(ProbIoULoss(), pred, target)[1][0, 0].abs() < 1e-12
        for loss in (ProbIoULoss(mode="l2"), GWDLoss(), KLDLoss()):
            assert value_and_grad(loss, pred, target)[1][0, 0] > 1e-7

    def test_kld_is_of_the_target_from_the_prediction(self):
        small, large = torch.tensor([[0.0, 0, 2, 2, 0]]), torch.tensor([[3.0, 0, 8, 8, 0]])
        assert KLDLoss()(small, large) > KLDLoss()(large, small)

    def test_weights_of_numbers(self):
        pred, target = pairs(4, make=rotated())
        weight = torch.rand(4, 5, dtype=torch.float64)
        plain = GWDLoss(reduction="none")(pred, target)
        torch.testing.assert_close(GWDLoss(reduction="none")(pred, target, weight), plain * weight.mean(-1))

    def test_errors(self):
        box = torch.zeros(2, 5)
        with pytest.raises(InputError, match=r"ProbIoULoss: expected pred with boxes \(cx, cy, w, h, angle\)"):
            ProbIoULoss()(torch.zeros(2, 4), torch.zeros(2, 4))
        for cls in (GWDLoss, KLDLoss):
            with pytest.raises(ConfigError, match=r"tau: expected 0 or a number >= 1; got 0\.5"):
                cls(tau=0.5)
            with pytest.raises(ConfigError, match="fun: expected one of 'log1p', 'sqrt', 'none'"):
                cls(fun="log")
        with pytest.raises(InputError, match="gwd_loss: tau: expected 0 or a number >= 1"):
            det.gwd_loss(box, box, tau=0.5)
        with pytest.raises(InputError, match="angle_unit: expected one of"):
            det.kld_loss(box, box, angle_unit="grad")
        with pytest.raises(InputError, match="floor: expected a number > 0"):
            det.probiou_loss(box, box, floor=0)
