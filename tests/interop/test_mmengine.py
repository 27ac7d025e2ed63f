"""mmengine: losses from a config's dotted or short names, terms that its Runner sums and logs."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import Registry

from losses_core import LOSSES, RegistryError, build_loss
from losses_core.interop import register_mmengine
from losses_testkit.jobs import pixel_classifier

from .data import NEEDED, images


def test_a_registry_builds_every_loss_from_its_dotted_name():
    registry = Registry("anything")
    for name in LOSSES:
        cls = LOSSES[name]
        package = cls.__module__.partition(".")[0]
        config = {"type": f"{package}.{cls.__name__}", **NEEDED.get(name, {})}
        assert type(registry.build(config)) is cls


def test_a_config_file_of_mmengine_goes_into_build_loss(tmp_path):
    file = tmp_path / "config.py"
    file.write_text("loss = dict(dice=dict(type='DiceLoss', loss_weight=0.5), ce=dict(type='CrossEntropyLoss'))\n")
    assert list(build_loss(Config.fromfile(file).loss)) == ["dice", "ce"]


def test_short_names_are_registered_once_and_never_over_others():
    registry = Registry("models")
    assert set(register_mmengine(registry)) == set(LOSSES)
    assert register_mmengine(registry, ["DiceLoss"]) == ["DiceLoss"]  # again is no clash
    assert registry.build({"type": "DiceLoss", "smooth": 2.0}).smooth == 2.0

    class DiceLoss(torch.nn.Module):
        pass

    other = Registry("mmseg")
    other.register_module(module=DiceLoss)
    with pytest.raises(RegistryError, match=r"'mmseg' has DiceLoss already\. Give a prefix"):
        register_mmengine(other)
    assert list(other.module_dict) == ["DiceLoss"]
    assert register_mmengine(other, ["DiceLoss"], prefix="Our") == ["OurDiceLoss"]
    assert type(other.build({"type": "OurDiceLoss"})) is LOSSES["DiceLoss"]
    register_mmengine(other, ["DiceLoss"], force=True)
    assert type(other.build({"type": "DiceLoss"})) is LOSSES["DiceLoss"]


class Segmenter(BaseModel):
    """As the models of mm* frameworks: `forward` with a mode, losses as a dict."""

    def __init__(self, criterion):
        super().__init__()
        self.net = pixel_classifier()
        self.criterion = build_loss(criterion)

    def forward(self, inputs, labels=None, mode="tensor"):
        logits = self.net(inputs)
        return self.criterion.terms(logits, labels).to_mm() if mode == "loss" else logits


def test_the_terms_are_summed_once():
    model = Segmenter({"dice": {"type": "DiceLoss", "loss_weight": 0.5}, "ce": "CrossEntropyLoss"})
    x, y = images()
    total, log = model.parse_losses(model(x, y, mode="loss"))
    torch.testing.assert_close(total, model.criterion(model.net(x), y))
    assert set(log) == {"loss", "loss_dice", "loss_ce"}


class DecodeHead(BaseModel):
    """As a segmentor of mmseg with its decode head: the losses go under their `loss_name` into a dict."""

    def __init__(self, loss_decode, ignore_index=255):
        super().__init__()
        registry = Registry("models")
        register_mmengine(registry)
        configs = loss_decode if isinstance(loss_decode, list) else [loss_decode]
        self.net = pixel_classifier()
        self.ignore_index = ignore_index
        self.losses = torch.nn.ModuleList(registry.build(config) for config in configs)

    def forward(self, inputs, labels):
        logits, losses = self.net(inputs), {}
        for loss in self.losses:
            value = loss(logits, labels, weight=None, ignore_index=self.ignore_index)
            if loss.loss_name not in losses:
                losses[loss.loss_name] = value
            else:
                losses[loss.loss_name] += value
        losses["acc_seg"] = (logits.argmax(1) == labels).float().mean()
        return {f"decode.{name}": value for name, value in losses.items()}


@pytest.mark.parametrize(
    ("loss_decode", "names"),
    [
        ({"type": "CrossEntropyLoss"}, ["decode.loss_cross_entropy"]),
        ({"type": "CrossEntropyLoss", "loss_name": "loss_ce"}, ["decode.loss_ce"]),
        (
            [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss", "loss_weight": 0.5}, {"type": "DiceLoss"}],
            ["decode.loss_cross_entropy", "decode.loss_dice"],
        ),
        ([{"type": "FocalLoss"}, {"type": "LovaszLoss"}], ["decode.loss_focal", "decode.loss_lovasz"]),
    ],
)
def test_a_decode_head_trains_what_it_logs(loss_decode, names):
    model, (x, y) = DecodeHead(loss_decode), images()
    y[:, 0] = 255
    total, log = model.parse_losses(model(x, y))
    assert list(log) == ["loss", *names, "decode.acc_seg"]
    torch.testing.assert_close(total, sum(loss(model.net(x), y, ignore_index=255) for loss in model.losses))
    total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.net.parameters())


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_has_a_name_that_is_trained(name):
    cls = LOSSES[name]
    required = [p for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
    if required:
        pytest.skip(f"needs {', '.join(p.name for p in required)}")
    loss = cls()
    assert loss.loss_name == f"loss_{loss.label}"
    assert loss.to_config()["loss_name"] is None
    _, log = BaseModel.parse_losses(None, {loss.loss_name: torch.ones(())})
    assert log["loss"] == 1


def test_a_name_without_loss_is_logged_only_as_in_mmseg_with_a_warning():
    model, (x, y) = DecodeHead({"type": "CrossEntropyLoss", "loss_name": "cross_entropy"}), images()
    with pytest.warns(UserWarning, match="Name it 'loss_cross_entropy' to train it"):
        total, log = model.parse_losses(model(x, y))
    assert total == 0
    assert "decode.cross_entropy" in log


def test_a_combination_is_one_loss_of_a_head():
    model, (x, y) = DecodeHead({"type": "CrossEntropyLoss"}), images()
    model.losses[0] = build_loss([{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}])
    total, log = model.parse_losses(model(x, y))
    assert "decode.loss_combined" in log
    assert total.requires_grad


def test_a_runner_trains(tmp_path):
    from mmengine.runner import Runner

    x, y = images(32)
    data = [{"inputs": image, "labels": label} for image, label in zip(x, y, strict=True)]
    model = Segmenter([{"type": "CrossEntropyLoss"}, {"type": "DiceLoss", "loss_weight": 0.5}])
    before = float(model.criterion(model.net(x), y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mmengine's own
        runner = Runner(
            model=model,
            work_dir=str(tmp_path),
            train_dataloader={
                "dataset": data,
                "batch_size": 8,
                "sampler": {"type": "DefaultSampler", "shuffle": True},
                "collate_fn": {"type": "default_collate"},
            },
            train_cfg={"by_epoch": True, "max_epochs": 15},
            optim_wrapper={"optimizer": {"type": "Adam", "lr": 0.02}},
            default_hooks={"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 1}},
            log_level="WARNING",
        )
        runner.train()
    assert float(model.criterion(model.net(x), y)) < 0.7 * before
    shown = runner.message_hub.log_scalars
    assert {"train/loss", "train/loss_cross_entropy", "train/loss_dice"} <= set(shown)
