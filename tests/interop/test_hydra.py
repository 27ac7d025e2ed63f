"""Hydra and OmegaConf: their containers are configs, and `_target_` works too."""

from __future__ import annotations

import subprocess
import sys

import hydra
import pytest
from omegaconf import OmegaConf

from losses_core import CombinedLoss, ConfigError, build_loss


def test_containers_and_interpolations_are_read_and_left_as_they_are():
    config = OmegaConf.create(
        {
            "weight": 2.0,
            "loss": {
                "ce": {"type": "CrossEntropyLoss", "class_weight": [1.0, 2.0, 3.0]},
                "region": [{"type": "DiceLoss", "loss_weight": "${weight}", "classes": [1, 2]}, "LovaszLoss"],
            },
        }
    )
    before = OmegaConf.to_yaml(config)
    loss = build_loss(config.loss)
    assert loss["region"]["dice"].loss_weight == 2.0
    assert type(loss["region"]["dice"].classes) is list
    assert OmegaConf.to_yaml(config) == before
    assert build_loss(OmegaConf.create(loss.to_config())).to_config() == loss.to_config()


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"type": "DiceLoss", "smooth": "???"}, "loss"),
        ({"ce": "CrossEntropyLoss", "region": {"type": "???"}}, "loss.region"),
        ([{"type": "DiceLoss"}, {"type": "DiceLoss", "loss_weight": "${nothing}"}], r"loss\[1\]"),
    ],
)
def test_what_is_missing_is_an_error_with_its_place(config, path):
    with pytest.raises(ConfigError, match=f"^{path}: cannot be read: .*(smooth|type|nothing)"):
        build_loss(OmegaConf.create(config))


def test_targets():
    loss = hydra.utils.instantiate({"_target_": "losses_seg.DiceLoss", "classes": [1, 2]})
    assert list(loss.classes) == [1, 2]
    whole = hydra.utils.instantiate(
        {"_target_": "losses_core.build_loss", "config": [{"type": "DiceLoss"}, "LovaszLoss"]}
    )
    assert isinstance(whole, CombinedLoss)


APP = """
import hydra, torch
from losses_core import build_loss

@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg):
    criterion = build_loss(cfg.loss)
    print(criterion.dice.loss_weight, float(criterion(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())) > 0)

main()
"""


def test_an_app_with_overrides(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "config.yaml").write_text(
        "loss:\n  dice: {type: DiceLoss, loss_weight: 1.0}\n  ce: {type: CrossEntropyLoss}\n"
    )
    command = [sys.executable, "app.py", "loss.dice.loss_weight=0.25"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "0.25 True\n", done.stderr
    command = [sys.executable, "app.py", "+loss.dice.smoth=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode
    assert "loss.dice.smoth: DiceLoss has no parameter 'smoth'. Did you mean 'smooth'?" in done.stderr
