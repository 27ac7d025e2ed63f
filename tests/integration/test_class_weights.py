"""From a data set to the class weights of a loss: `losses weights`, a config that names what it wrote, every loss."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft7Validator
from PIL import Image
from torch.nn import functional as F

from losses_core import LOSSES, BaseLoss, CombinedLoss, build_loss, get_class_weight, load_config
from losses_core._signature import constructor_parameters
from losses_core.schema import config_schema

from .test_command_line import NEEDED

COUNTS = [9, 0, 4, 1, 1, 1, 2, 2, 2, 5]
NAMES = sorted(name for name in LOSSES if LOSSES.describe(name).distribution is not None)
WEIGHTED = [name for name in NAMES if "class_weight" in constructor_parameters(LOSSES[name])]


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(config_schema())


def test_the_usual_losses_are_among_them() -> None:
    usual = {
        "CrossEntropyLoss",
        "BinaryCrossEntropyLoss",
        "FocalLoss",
        "DiceLoss",
        "DiceCELoss",
        "OHEMCrossEntropyLoss",
    }
    assert set(WEIGHTED) >= usual


@pytest.mark.parametrize("name", WEIGHTED)
def test_every_loss_with_class_weights(name: str, schema: Draft7Validator, tmp_path: Path) -> None:
    (tmp_path / "stats.json").write_text(json.dumps({"counts": COUNTS}))
    class_weight = {"from": "stats.json", "method": "effective_num", "normalize": "mean"}
    config = {"type": name, "class_weight": class_weight, **NEEDED.get(name, {})}
    schema.validate(config)
    (tmp_path / "loss.json").write_text(json.dumps({"loss": config}))
    loss = build_loss(load_config(tmp_path / "loss.json"))
    assert isinstance(loss, BaseLoss)
    numbers = get_class_weight(counts=COUNTS, method="effective_num", normalize="mean").tolist()
    assert loss.to_config()["class_weight"] == numbers
    assert build_loss(loss.to_config()).to_config() == loss.to_config()
    schema.validate(loss.to_config())


def test_from_masks_to_a_loss(tmp_path: Path) -> None:
    """The command as a process, the config beside its output, and the value against torch's with NumPy's weights."""
    rng = np.random.default_rng(0)
    masks = rng.choice([0, 1, 2, 255], p=[0.7, 0.2, 0.08, 0.02], size=(4, 16, 16)).astype(np.uint8)
    for index, mask in enumerate(masks):
        folder = tmp_path / "masks" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / f"{index}.png")
    (tmp_path / "configs").mkdir()
    arguments = ["masks", "--num-classes", "3", "--ignore-index", "255", "--out", "configs/stats.json"]
    command = [sys.executable, "-m", "losses_core", "weights", *arguments]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (tmp_path / "configs" / "loss.yaml").write_text("""
loss:
  - {type: CrossEntropyLoss, ignore_index: 255, class_weight: {from: stats.json, method: sqrt_inverse}}
  - {type: DiceLoss, class_weight: {from: stats.json, method: median_freq}}
""")
    criterion = build_loss(load_config(tmp_path / "configs" / "loss.yaml"))
    assert isinstance(criterion, CombinedLoss)
    counts = np.bincount(masks[masks != 255], minlength=3)
    weights = torch.tensor(np.sqrt(counts.sum() / (3 * counts))).float()
    logits, target = torch.randn(4, 3, 16, 16), torch.from_numpy(masks).long()
    terms = criterion.terms(logits, target)
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits, target, weights, ignore_index=255))
    shares = counts / counts.sum()
    assert criterion["dice"].class_weight == pytest.approx((np.median(shares) / shares).tolist())
