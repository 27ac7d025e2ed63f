"""mmengine: losses from a config's dotted or short names, terms that its Runner sums and logs."""

from __future__ import annotations

import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import Registry

from losses_core import LOSSES, RegistryError, build_loss
from losses_core.interop import register_mmengine
from losses_testkit.jobs import pixel_classifier

from .data import images


def test_a_registry_builds_every_loss_from_its_dotted_name():
    registry = Registry("anything")
    for name in LOSSES:
        cls = LOSSES[name]
        package = cls.__module__.partition(".")[0]
        assert type(registry.build({"type": f"{package}.{cls.__name__}"})) is cls


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
