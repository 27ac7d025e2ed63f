"""LightningCLI and jsonargparse: a loss as a typed option, by class or by config; a fit with logged terms."""

from __future__ import annotations

import jsonargparse
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader, TensorDataset

from losses_core import LOSSES, BaseLoss, build_multi_loss
from losses_testkit.jobs import pixel_classifier

from .data import NEEDED, images


def parser() -> jsonargparse.ArgumentParser:
    made = jsonargparse.ArgumentParser(exit_on_error=False)
    made.add_subclass_arguments(BaseLoss, "loss", required=True)
    return made


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_class_is_an_option_with_its_defaults(name):
    cls = LOSSES[name]
    path = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
    made, needed = parser(), NEEDED.get(name, {})
    options = {"loss_weight": 2.0, **needed}
    given = [f"--loss={path}", *(f"--loss.{key}={value}" for key, value in options.items())]
    loss = made.instantiate(made.parse_args(given)).loss
    assert type(loss) is cls
    assert loss.to_config() == cls(**options).to_config()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--loss.smoth=1", "Option 'smoth' is not accepted"),
        ("--loss.smooth=much", "Expected a <class 'float'>"),
        (
            "--loss.activation=relu",
            r"Expected a typing.Literal\['auto', 'softmax', 'sigmoid', 'none'\]. Got value: relu",
        ),
        ("--loss.reduction=maen", r"got 'maen' .* Did you mean 'mean'\?"),
    ],
)
def test_typos_and_wrong_choices_are_refused(option, text):
    made = parser()
    with pytest.raises((jsonargparse.ArgumentError, ValueError), match=text):
        made.instantiate(made.parse_args(["--loss=losses_seg.DiceLoss", option]))


class ByClass(LightningModule):
    """One loss, given as a class path with options."""

    def __init__(self, loss: BaseLoss):
        super().__init__()
        self.net, self.loss = pixel_classifier(), loss

    def training_step(self, batch, index):
        value = self.loss(self.net(batch[0]), batch[1])
        self.log("train/loss", value)
        return value

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.02)


class ByConfig(LightningModule):
    """Any combination, as `build_loss` takes it."""

    def __init__(self, loss: dict):
        super().__init__()
        self.net, self.criterion = pixel_classifier(), build_multi_loss(loss)

    def training_step(self, batch, index):
        terms = self.criterion.terms(self.net(batch[0]), batch[1])
        self.log_dict(terms.log_dict("train/"))
        return terms.total

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.02)


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(*images(32)), batch_size=8, shuffle=True)


QUIET = {
    "max_epochs": 15,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def fit(model, arguments):
    cli = LightningCLI(
        model,
        Data,
        args=["fit", *arguments],
        trainer_defaults=QUIET,
        save_config_callback=None,
        seed_everything_default=0,
    )
    return cli.model, cli.trainer.logged_metrics


def test_a_loss_by_its_class_on_the_command_line():
    model, logged = fit(ByClass, ["--model.loss=losses_seg.DiceLoss", "--model.loss.classes=[1,2]"])
    assert list(model.loss.classes) == [1, 2]
    x, y = images(32)
    assert model.loss(model.net(x), y) < 0.7 * model.loss(pixel_classifier()(x), y)
    assert "train/loss" in logged


def test_a_combination_in_a_config_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model:\n  loss:\n    ce: {type: CrossEntropyLoss}\n    dice: {type: DiceLoss, loss_weight: 0.5}\n")
    model, logged = fit(ByConfig, [f"--config={file}"])
    x, y = images(32)
    assert model.criterion(model.net(x), y) < 0.7 * model.criterion(pixel_classifier()(x), y)
    assert {"train/loss/ce", "train/loss/dice", "train/loss/total"} <= set(logged)


def test_learned_weights_train_and_come_back_from_a_checkpoint(tmp_path):
    config = {
        "type": "CombinedLoss",
        "losses": {"ce": "CrossEntropyLoss", "dice": "DiceLoss"},
        "weighting": "UncertaintyWeighting",
    }
    model, trainer = ByConfig(config), Trainer(**{**QUIET, "max_epochs": 3})
    trainer.fit(model, Data())
    learned = model.criterion.weighting.log_variance
    assert learned.abs().min() > 0
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    other = ByConfig(config)
    other.load_state_dict(torch.load(tmp_path / "model.ckpt")["state_dict"])
    assert torch.equal(other.criterion.weighting.log_variance, learned)
