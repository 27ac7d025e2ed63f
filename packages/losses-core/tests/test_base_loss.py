"""BaseLoss: what happens around `_forward`."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Unpack

import pytest
import torch
from torch import Tensor

from losses_core import LOSSES, BaseLoss, ConfigError, InputError, LossOptions, Unreduced, build_loss
from losses_core._descriptions import snake_case
from losses_core.base_loss import OPTIONS


class AbsoluteLoss(BaseLoss):
    def __init__(self, scale: float = 1.0, ignore_index: int = -1, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)
        self.scale = scale
        self.ignore_index = ignore_index

    def _forward(self, pred: Tensor, target: Tensor, *, ignore_index: int, shift: float = 0.0) -> Unreduced:
        return Unreduced((pred - target + shift).abs() * self.scale, target != ignore_index)


class WeightedLoss(BaseLoss):
    """Per-class weights and a class axis summed away."""

    class_axis = 1

    def __init__(self, class_weight=None, **options):
        super().__init__(**options)
        self._set_vector("class_weight", class_weight)

    def _forward(self, pred, target):
        weight = self._vector("class_weight", pred, pred.shape[1])
        value = pred * pred if weight is None else pred * pred * weight.reshape(-1, *[1] * (pred.ndim - 2))
        return value.sum(1)


class ScalarLoss(BaseLoss):
    def _forward(self, x, y, *, labels):
        return (x - y).pow(2).sum() + labels


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.randn(4, 3, dtype=torch.float64)


def test_reductions(pair):
    pred, target = pair
    value = (pred - target).abs()
    assert torch.equal(AbsoluteLoss(reduction="none")(*pair), value)
    torch.testing.assert_close(AbsoluteLoss(reduction="sum")(*pair), value.sum())
    torch.testing.assert_close(AbsoluteLoss()(*pair), value.mean())
    torch.testing.assert_close(AbsoluteLoss(avg_factor=5)(*pair), value.sum() / 5)
    torch.testing.assert_close(AbsoluteLoss(avg_factor=5)(*pair, avg_factor=2), value.sum() / 2)
    torch.testing.assert_close(AbsoluteLoss(loss_weight=3)(*pair, None, torch.tensor(2)), value.sum() * 1.5)
    torch.testing.assert_close(AbsoluteLoss(loss_weight=3)(*pair, reduction_override="none"), value * 3)


def test_none_ignores_avg_factor(pair):
    assert torch.equal(AbsoluteLoss(reduction="none")(*pair, avg_factor=9), AbsoluteLoss(reduction="none")(*pair))


def test_mass_is_the_denominator_and_may_be_a_prefix(pair):
    class Masked(BaseLoss):
        def _forward(self, pred, target):
            return Unreduced(pred.square(), torch.tensor([1, 0, 1, 0]))

    pred, target = pair
    torch.testing.assert_close(Masked()(pred, target), pred.square().sum() / 6)


@pytest.mark.parametrize("denominator", [0, 0.0, -2, torch.tensor(0), torch.tensor(-1.5)])
def test_a_denominator_that_is_not_positive_counts_as_one(pair, denominator):
    pred, target = pair
    torch.testing.assert_close(AbsoluteLoss()(*pair, avg_factor=denominator), (pred - target).abs().sum())


@pytest.mark.parametrize("denominator", [float("nan"), torch.tensor(float("nan"))])
def test_a_nan_denominator_is_not_hidden(pair, denominator):
    assert AbsoluteLoss()(*pair, avg_factor=denominator).isnan()


def test_empty_and_fully_ignored_input_cost_zero_and_stay_connected():
    for pred in (torch.zeros(0, 3, requires_grad=True), torch.full((2, 3), float("inf"), requires_grad=True)):
        weight = torch.zeros(pred.shape[0])
        value = AbsoluteLoss()(pred, torch.zeros(pred.shape), weight=weight)
        assert value == 0
        (gradient,) = torch.autograd.grad(value, pred)
        assert not gradient.any()


def test_a_plain_mean_divides_by_the_number_of_elements_even_with_weights(pair):
    pred, target = pair
    weight = torch.tensor([0.0, 1.0, 2.0, 0.0])
    expected = ((pred - target).abs() * weight.unsqueeze(1)).sum() / 12
    torch.testing.assert_close(AbsoluteLoss()(*pair, weight), expected)


@pytest.mark.parametrize("shape", [(), (4,), (4, 3)])
def test_a_weight_may_have_any_prefix_of_the_shape(pair, shape):
    pred, target = pair
    weight = torch.rand(shape, dtype=torch.float64)
    expected = (pred - target).abs() * weight.reshape(shape + (1,) * (2 - len(shape)))
    assert torch.equal(AbsoluteLoss()(*pair, weight=weight, reduction_override="none"), expected)


@pytest.mark.parametrize("shape", [(3,), (1,), (4, 1), (1, 3), (4, 3, 1)])
def test_a_weight_never_broadcasts(pair, shape):
    with pytest.raises(InputError, match=r"^AbsoluteLoss: expected weight .*\(4, 3\).*got \("):
        AbsoluteLoss()(*pair, weight=torch.ones(shape))


def test_a_weight_of_a_class_loss_skips_the_class_axis():
    pred = torch.randn(2, 3, 5, requires_grad=True)
    with torch.no_grad():
        pred[0, :, 1] = float("nan")
    weight = torch.ones(2, 5)
    weight[0, 1] = 0
    value = WeightedLoss()(pred, pred.detach(), weight=weight)
    (gradient,) = torch.autograd.grad(value, pred)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[0, :, 1].any()
    assert gradient[0, :, 0].all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    class Probe(BaseLoss):
        def _forward(self, pred, target):
            assert pred[0].dtype == target[1].dtype == torch.float32
            assert target[0].dtype == torch.int64
            assert not torch.is_autocast_enabled("cpu")
            return pred[0].square()

    pred = torch.full((2,), 300.0, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Probe()((pred, pred), (torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.float64)))
        assert torch.is_autocast_enabled("cpu")
    assert value == 90000
    assert value.dtype == torch.float32


def test_meta_tensors_pass_through():
    assert AbsoluteLoss()(torch.zeros(2, device="meta"), torch.zeros(2, device="meta")).device.type == "meta"


def test_nan_in_a_valid_input_is_not_hidden(pair):
    pred, target = pair
    with torch.no_grad():
        pred[0, 0] = float("nan")
    assert AbsoluteLoss()(pred, target).isnan()


def test_call_keywords_fall_back_to_the_constructor():
    pred, target = torch.ones(2), torch.tensor([-1.0, 0.0])
    assert AbsoluteLoss(ignore_index=7)(pred, target) == 1.5
    assert AbsoluteLoss(ignore_index=-1)(pred, target) == 3
    assert AbsoluteLoss(ignore_index=7)(pred, target, ignore_index=-1) == 3
    assert AbsoluteLoss(ignore_index=7)(pred, target, shift=1.0) == 2.5
    assert AbsoluteLoss.call_keywords() == {"ignore_index", "shift"}


def test_keywords_are_checked(pair):
    with pytest.raises(TypeError, match=r"ScalarLoss: the call needs labels="):
        ScalarLoss()(*pair)
    with pytest.raises(TypeError, match=r"unknown keyword 'lables'. Did you mean 'labels'"):
        ScalarLoss()(*pair, lables=1)
    with pytest.raises(TypeError, match=r"AbsoluteLoss has no parameter 'scal'. Did you mean 'scale'"):
        AbsoluteLoss(scal=1)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_scalar_passes_every_reduction(pair, reduction):
    pred, target = pair
    value = ScalarLoss(reduction=reduction, loss_weight=2)(*pair, labels=1.0)
    torch.testing.assert_close(value, 2 * ((pred - target).pow(2).sum() + 1))
    assert value.ndim == 0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"reduction": "average"}, ConfigError, "reduction: expected one of 'none', 'mean', 'sum'; got 'average'"),
        ({"reduction": "men"}, ConfigError, "Did you mean 'mean'"),
        ({"reduction": "sum", "avg_factor": 2}, ConfigError, "reduction='sum' takes no avg_factor"),
        ({"loss_weight": "big"}, TypeError, "loss_weight: expected a number; got 'big'"),
        ({"loss_weight": True}, TypeError, "loss_weight: expected a number; got True"),
        ({"loss_weight": float("nan")}, ConfigError, "loss_weight: expected a number; got nan"),
        ({"avg_factor": 0}, ConfigError, "avg_factor: expected a number > 0; got 0"),
        ({"loss_name": 3}, TypeError, "loss_name: expected a string or None; got 3"),
        ({"sync_dist": 1}, TypeError, "sync_dist: expected True or False; got 1"),
    ],
)
def test_options_are_checked(options, error, text):
    with pytest.raises(error, match=text) as caught:
        AbsoluteLoss(**options)
    assert str(caught.value).startswith("AbsoluteLoss: ")


def test_call_options_are_checked(pair):
    with pytest.raises(InputError, match=r"^AbsoluteLoss: reduction='sum' takes no avg_factor"):
        AbsoluteLoss()(*pair, avg_factor=2, reduction_override="sum")
    with pytest.raises(InputError, match=r"^AbsoluteLoss: avg_factor: expected a number or a 0-d tensor; got shape"):
        AbsoluteLoss()(*pair, avg_factor=torch.ones(4))
    with pytest.raises(InputError, match=r"^AbsoluteLoss: expected weight as a tensor; got list"):
        AbsoluteLoss()(*pair, weight=[1.0] * 4)
    with pytest.raises(InputError, match=r"^AbsoluteLoss: expected a floating pred; got torch.int64"):
        AbsoluteLoss()(torch.zeros(3, dtype=torch.long), torch.zeros(3))
    with pytest.raises(InputError, match=r"^AbsoluteLoss: expected pred as a floating tensor .*; got str"):
        AbsoluteLoss()("pred", torch.zeros(3))


def test_forward_is_final():
    with pytest.raises(TypeError, match=r"defines forward\(\), which is final"):

        class Wrong(BaseLoss):
            def forward(self, pred, target):
                return pred


def test_an_abstract_loss_cannot_be_built():
    with pytest.raises(TypeError, match="_forward"):
        BaseLoss()


def test_every_class_has_a_code_object_of_its_own():
    # torch.compile allows eight variants per code object; shared, nine losses in one process would be too many
    assert AbsoluteLoss.forward.__code__ is not ScalarLoss.forward.__code__
    assert inspect.signature(AbsoluteLoss.forward) == inspect.signature(BaseLoss.forward)


def test_the_signature_is_flat():
    parameters = inspect.signature(AbsoluteLoss).parameters
    assert list(parameters) == ["scale", "ignore_index", *OPTIONS]
    assert parameters["loss_weight"].default == 1.0
    assert parameters["loss_weight"].annotation is float
    assert OPTIONS == ("loss_weight", "reduction", "avg_factor", "loss_name", "sync_dist")


def test_the_signature_of_a_subclass_of_a_subclass():
    class Shifted(AbsoluteLoss):
        def __init__(self, offset: "NotImported" = 1, **rest):  # noqa: F821, UP037 - cannot be evaluated on purpose
            super().__init__(**rest)
            self.offset = offset

    assert list(inspect.signature(Shifted).parameters) == ["offset", "scale", "ignore_index", *OPTIONS]
    assert Shifted(2, scale=3.0).parameters_as_given()["scale"] == 3.0
    assert list(inspect.signature(type("Plain", (AbsoluteLoss,), {})).parameters) == ["scale", "ignore_index", *OPTIONS]


def test_labels_and_repr():
    assert AbsoluteLoss().label == "absolute"
    assert AbsoluteLoss(loss_name="x").label == "x"
    assert AbsoluteLoss().loss_name == "loss_absolute"
    assert AbsoluteLoss(loss_name="x").loss_name == "x"
    assert repr(AbsoluteLoss(2.0, reduction="sum")) == "AbsoluteLoss(scale=2.0, ignore_index=-1, reduction='sum')"
    names = {
        "CrossEntropyLoss": "cross_entropy",
        "CIoULoss": "ciou",
        "L1Loss": "l1",
        "SmoothL1Loss": "smooth_l1",
        "OHEMCrossEntropyLoss": "ohem_cross_entropy",
        "RKDDistanceLoss": "rkd_distance",
        "AsymmetricLossOptimized": "asymmetric_loss_optimized",
        "Loss": "loss",
    }
    assert {name: snake_case(name) for name in names} == names


def test_config_round_trip():
    LOSSES.register(WeightedLoss, name="WeightedLossOfTheTests", replace=True)
    loss = WeightedLoss(class_weight=torch.tensor([1.0, 2.0]), loss_weight=0.5)
    config = loss.to_config()
    assert config["class_weight"] == [1.0, 2.0]
    assert config["type"] == "WeightedLossOfTheTests"
    again = build_loss(config)
    assert again.to_config() == config
    pred = torch.randn(3, 2)
    assert torch.equal(again(pred, pred), loss(pred, pred))


@pytest.mark.parametrize("given", [[0.1, 2], (0.1, 2), torch.tensor([0.1, 2.0], dtype=torch.float64)])
def test_vectors_are_kept_as_given_and_survive_every_move(given):
    loss = WeightedLoss(class_weight=given)
    assert loss.class_weight is given or torch.equal(loss.class_weight, given)
    assert not loss.state_dict()
    pred = torch.randn(3, 2, 4, dtype=torch.float64)
    expected = (pred**2 * torch.tensor([0.1, 2.0], dtype=torch.float64).reshape(2, 1)).sum(1).mean()
    for move in (lambda m: m, lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.to_empty(device="cpu")):
        assert torch.equal(move(loss)(pred, pred), expected)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(pred, pred), expected)
    assert loss._class_weight.dtype == torch.float64


def test_a_vector_follows_pred_to_another_device():
    loss = WeightedLoss(class_weight=[1.0, 2.0])
    assert loss(torch.zeros(3, 2, device="meta"), torch.zeros(3, device="meta")).device.type == "meta"
    assert loss._class_weight.device.type == "meta"
    assert loss(torch.ones(1, 2), torch.ones(1)) == 3
    assert loss.to("meta")._class_weight.device.type == "meta"
    assert loss(torch.ones(1, 2), torch.ones(1)) == 3


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([1, -1], ConfigError),
        ([], ConfigError),
        ([1, float("inf")], ConfigError),
        (torch.ones(2, 2), ConfigError),
        (torch.tensor([-1.0]), ConfigError),
        ("heavy", TypeError),
        (object(), TypeError),
        (float("nan"), ConfigError),
    ],
)
def test_vectors_are_checked(given, error):
    with pytest.raises(error, match="class_weight: expected"):
        WeightedLoss(class_weight=given)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"class_weight: expected 3 entries, one per class of pred \(1, 3\); got 2"):
        WeightedLoss(class_weight=[1, 2])(torch.ones(1, 3), torch.ones(1))


def test_sync_dist_alone_changes_nothing(pair):
    assert torch.equal(AbsoluteLoss(sync_dist=True)(*pair), AbsoluteLoss()(*pair))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_schedule_of_loss_weight_costs_one_recompilation(pair):
    torch._dynamo.reset()
    graphs = 0

    def backend(graph, inputs):
        nonlocal graphs
        graphs += 1
        return graph

    loss = AbsoluteLoss()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    expected = loss(*pair)
    counts = []
    for weight in (1.0, 0.9, 0.8, 0.7, 0.6):
        loss.loss_weight = weight
        torch.testing.assert_close(compiled(*pair), expected * weight)
        counts.append(graphs)
    assert counts[1] == counts[-1]
