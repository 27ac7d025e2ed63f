"""`LayeredLoss`: one criterion over decoder layers and scales."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from losses_core import ConfigError, InputError, LayeredLoss, build_loss
from losses_core.layered import resize
from losses_testkit.case import Inputs
from losses_testkit.distribution import close, shards
from losses_testkit.ranks import pool
from losses_testkit.runs import prepared, run

COMBINATION = {
    "ce": {"type": "CrossEntropyLoss", "ignore_index": 255},
    "dice": {"type": "DiceLoss", "loss_weight": 2.0},
}


def scales(*sizes: int, classes: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, classes, size, size, generator=generator, dtype=torch.float64) for size in sizes]


def labels(size: int = 16) -> torch.Tensor:
    target = torch.randint(0, 4, (2, size, size), generator=torch.Generator().manual_seed(1))
    target[0, :3] = 255
    return target


@pytest.mark.parametrize(
    ("weights", "factors"), [("equal", [1, 1, 1]), ("exp", [4 / 7, 2 / 7, 1 / 7]), ([1, 0, 0.25], [1, 0, 0.25])]
)
def test_it_is_the_weighted_sum_over_the_scales(weights, factors) -> None:
    preds, target = scales(16, 8, 4), labels()
    terms = LayeredLoss(COMBINATION, weights=weights, loss_weight=3.0).terms(preds, target)
    expected = {}
    for index, (pred, factor) in enumerate(zip(preds, factors, strict=True)):
        step = 16 // pred.shape[-1]
        single = build_loss(COMBINATION).terms(pred, target[:, ::step, ::step])
        expected |= {f"layer_{index}.{name}": 3 * factor * term for name, term in single.items() if factor}
    assert list(terms) == list(expected)
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term)
    torch.testing.assert_close(terms.total, sum(expected.values()))
    torch.testing.assert_close(LayeredLoss(COMBINATION, weights, loss_weight=3.0)(preds, target), terms.total)


def test_layers_of_a_decoder_may_be_one_tensor() -> None:
    preds = torch.randn(6, 2, 5, 4)  # (L,B,Q,4): the last axes are no size of an image
    target = torch.randn(2, 5, 4)
    criterion = LayeredLoss({"type": "L1Loss"})
    factor = torch.tensor(7.0)
    terms = criterion.terms(preds, target, avg_factor=factor)
    assert list(terms) == [f"layer_{index}" for index in range(6)]
    for index, pred in enumerate(preds):
        torch.testing.assert_close(terms[f"layer_{index}"], (pred - target).abs().sum() / 7)


def test_what_is_given_for_each_layer_goes_there() -> None:
    preds, targets = scales(8, 4), [labels(8), labels(4)]
    weights, factors = [torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])], [3.0, 5.0]
    criterion, single = LayeredLoss(COMBINATION["ce"], resize=None), build_loss(COMBINATION["ce"])
    terms = criterion.terms(preds, targets, weight=weights, avg_factor=factors)
    for index in range(2):
        expected = single(preds[index], targets[index], weights[index], factors[index])
        torch.testing.assert_close(terms[f"layer_{index}"], expected)


def test_a_pair_of_labels_and_scores_is_one_target() -> None:
    preds, pair = torch.randn(2, 6, 3), (torch.tensor([0, 1, 2, 3, 3, 1]), torch.rand(6))  # as many layers as tensors
    terms, single = LayeredLoss("MALoss").terms(preds, pair), build_loss("MALoss")
    for index in range(2):
        torch.testing.assert_close(terms[f"layer_{index}"], single(preds[index], pair))


@pytest.mark.parametrize("sizes", [(7, 5), (16, 16), (3, 20)])
def test_nearest_is_that_of_torch_and_keeps_every_dtype(sizes) -> None:
    target = torch.randint(0, 300, (2, 13, 10))
    expected = F.interpolate(target[:, None].float(), sizes, mode="nearest")[:, 0].long()
    assert torch.equal(resize(target, sizes, "nearest"), expected)
    assert torch.equal(resize(target.to(torch.int16), sizes, "nearest"), expected.to(torch.int16))
    mask = target[:, None] > 100
    assert torch.equal(resize(mask, sizes, "nearest")[:, 0], expected > 100)


def test_area_averages_dense_targets_of_images_and_volumes() -> None:
    for shape, size in (((2, 3, 8, 8), (4, 2)), ((2, 8, 8, 8), (2, 4, 8))):
        target = torch.rand(shape)
        channels = target if len(shape) - 2 == len(size) else target[:, None]
        expected = F.interpolate(channels, size, mode="area")
        torch.testing.assert_close(resize(target, size, "area").reshape(expected.shape), expected)


def test_a_size_is_resized_once_and_a_weight_of_pixels_with_it(monkeypatch) -> None:
    from losses_core import layered

    calls = []

    def counted(tensor, size, mode):
        calls.append((tuple(size), mode))
        return resize(tensor, size, mode)

    monkeypatch.setattr(layered, "resize", counted)
    preds, target = scales(16, 8, 8, 8), (torch.rand(2, 4, 16, 16) > 0.5).double()
    weight = torch.rand(2, 4, 16, 16)
    terms = LayeredLoss("BinaryCrossEntropyLoss", resize="area").terms(preds, target, weight)
    assert calls == [((8, 8), "area"), ((8, 8), "nearest")]
    half = F.interpolate(target, (8, 8), mode="area")
    expected = build_loss("BinaryCrossEntropyLoss")(preds[1], half, weight[..., ::2, ::2])
    torch.testing.assert_close(terms["layer_1"], expected)


def test_a_sample_weight_is_no_map() -> None:
    preds, target, weight = scales(2, 1), labels(2), torch.tensor([1.0, 0.0])  # as long as the target is wide
    terms = LayeredLoss(COMBINATION["ce"]).terms(preds, target, weight)
    torch.testing.assert_close(terms["layer_1"], build_loss(COMBINATION["ce"])(preds[1], target[:, :1, :1], weight))


def test_gradients_and_learned_weights() -> None:
    preds, target = [pred.requires_grad_() for pred in scales(8, 4)], labels(8)
    criterion = LayeredLoss(COMBINATION, [1.0, 0.5])
    criterion.loss_weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    value = criterion(preds, target)
    value.backward()
    torch.testing.assert_close(criterion.loss_weight.grad, (value / 2).detach())
    single = preds[1].detach().clone().requires_grad_()
    build_loss(COMBINATION)(single, target[:, ::2, ::2]).backward()
    torch.testing.assert_close(preds[1].grad, single.grad)


def test_over_ranks_with_one_collective_for_all_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    preds = [torch.randn(5, 4, size, size, generator=generator, dtype=torch.float64) for size in (8, 4, 2)]
    target = torch.randint(0, 4, (5, 8, 8), generator=generator)
    target[:3, :5] = 255
    inputs = Inputs(preds, target)
    config = {
        "type": "LayeredLoss",
        "weights": "exp",
        "loss": [COMBINATION["ce"], {"type": "FocalLoss", "ignore_index": 255}],
    }
    value, gradients = run(build_loss(config), prepared(inputs))
    over = {**config, "loss": [{**loss, "sync_dist": True} for loss in config["loss"]]}
    jobs = [
        {"config": over, "state": {}, "inputs": shard, "keywords": {}, "compiled": False}
        for shard in shards(inputs, (3, 2))
    ]
    results = pool().run("losses_testkit.jobs:run_loss", jobs)
    for result in results:
        close(result["value"], value)
        assert result["forward"] == [("all_reduce", 2 * 6 * 8)]
    for index, gradient in enumerate(gradients):
        close(torch.cat([result["pred"][index] for result in results]) / 2, gradient)


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiles_to_one_graph(dynamic) -> None:
    torch._dynamo.reset()
    preds, target = scales(16, 8), labels()
    criterion = LayeredLoss(COMBINATION, "exp")
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    torch.testing.assert_close(compiled(preds, target), criterion(preds, target))


@pytest.mark.parametrize(
    ("options", "preds", "target", "text"),
    [
        ({}, [], labels(), r"LayeredLoss: preds: expected a list of predictions"),
        ({}, {"a": 1}, labels(), r"LayeredLoss: preds: expected a list of predictions, or a tensor \(L,…\); got dict"),
        (
            {"weights": [1, 2, 3]},
            scales(16, 8),
            labels(),
            r"expected 3 predictions, one for each of the weights; got 2",
        ),
        ({}, scales(16, 8), [labels()], r"target: expected one for all layers or a list of 2; got 1"),
        (
            {"resize": None},
            scales(16, 8),
            labels(),
            r"layer_1: the prediction is of size \(8, 8\), the target of \(16, 16",
        ),
        ({"resize": "area"}, scales(16, 8), labels(), r"resize='area' averages, and the target holds torch\.int64"),
        ({}, scales(16, 8), torch.full((2, 16, 16), 77), r"term 'layer_0\.ce': CrossEntropyLoss: .*77"),
    ],
)
def test_errors_say_what_is_wrong(options, preds, target, text) -> None:
    with pytest.raises(InputError, match=text):
        LayeredLoss(COMBINATION, **options)(preds, target)


def test_a_term_without_a_reduction_is_refused() -> None:
    with pytest.raises(InputError, match=r"term 'layer_0': reduction='none' gives shape \(2, 8, 8\)"):
        LayeredLoss(COMBINATION["ce"])(scales(8), labels(8), reduction_override="none")
    with pytest.raises(TypeError, match=r"unknown keyword 'ignore_indx'.*'ignore_index'"):
        LayeredLoss(COMBINATION)(scales(8), labels(8), ignore_indx=3)


def test_faults_of_a_config() -> None:
    for config, text in (
        ({"type": "LayeredLoss", "loss": "DiceLoss", "weights": "expo"}, r"'equal', 'exp'.*Did you mean 'exp'"),
        ({"type": "LayeredLoss", "loss": "DiceLoss", "weights": []}, r"weights: expected one that is not 0"),
        ({"type": "LayeredLoss", "loss": "DiceLoss", "weights": [0.0]}, r"weights: expected one that is not 0"),
        ({"type": "LayeredLoss", "loss": "DiceLoss", "resize": "linear"}, r"resize: expected one of 'nearest', 'area'"),
        (
            {"type": "LayeredLoss", "loss": {"type": "ChunkedLoss", "loss": "FocalLoss"}},
            r"LayeredLoss cannot hold Chunk",
        ),
        (
            {"type": "LayeredLoss", "loss": {"type": "DiceLoss", "reduction": "none"}},
            r"reduction='none' gives no scalar",
        ),
    ):
        with pytest.raises(ConfigError, match=text):
            build_loss(config)


def test_a_config_builds_it_again() -> None:
    config = {"type": "LayeredLoss", "weights": [1.0, 0.5], "resize": None, "loss_weight": 2.0, "loss": COMBINATION}
    criterion = build_loss(config)
    again = copy.deepcopy(build_loss(criterion.to_config()))
    assert again.to_config() == criterion.to_config()
    assert (criterion.label, criterion.loss_name) == ("layered", "loss_layered")
    assert repr(again) == repr(criterion)
