"""The configs of the documentation build and run as written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from losses_core import LOSSES, BaseLoss, CombinedLoss, build_loss, load_config

DOCUMENTED = {
    "cross-entropy": """
loss: {type: CrossEntropyLoss, loss_weight: 1.0, label_smoothing: 0.1, class_weight: [1.0, 2.0, 1.5]}""",
    "focal": """
loss: {type: FocalLoss, alpha: 0.25, gamma: 2.0, loss_weight: 1.0}""",
    "detection": """
loss:
  cls_loss: {type: QualityFocalLoss, beta: 2.0, loss_weight: 1.0}
  bbox_loss: {type: CIoULoss, loss_weight: 2.0}""",
    "segmentation": """
loss: [{type: CrossEntropyLoss, weight: 1.0}, {type: DiceLoss, weight: 0.5}]""",
    "segmentation-ignore": """
loss:
  - {type: CrossEntropyLoss, loss_weight: 1.0, ignore_index: 255}
  - {type: DiceLoss, loss_weight: 1.0, ignore_index: 255}""",
    "distillation": """
loss:
  task_loss: {type: CrossEntropyLoss, loss_weight: 1.0}
  kd_loss: {type: KnowledgeDistillationLoss, temperature: 4.0, loss_weight: 0.5}
  feature_loss: {type: FeatureMSELoss, loss_weight: 0.1, normalize: true}""",
    "hard-mining": """
loss: {type: OHEMCrossEntropyLoss, thresh: 0.7, min_kept: 100000, ignore_index: 255, loss_weight: 1.0}""",
}


def types(config: Any) -> set[str]:
    """The losses a config names."""
    if isinstance(config, list):
        return set().union(*map(types, config))
    return {config["type"]} if "type" in config else set().union(*map(types, config.values()))


def arguments(name: str) -> tuple[Any, Any, list[torch.Tensor]]:
    """pred, target and the leaves that must get a gradient."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, 3) if name in ("cross-entropy", "focal", "distillation") else (4, 3, 8, 8)
    logits = torch.randn(shape, generator=generator, requires_grad=True)
    labels = torch.randint(3, shape[:1] + shape[2:], generator=generator)
    if name == "detection":
        logits = torch.randn(6, 3, generator=generator, requires_grad=True)
        boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(6, 1).requires_grad_()
        quality = (torch.randint(3, (6,), generator=generator), torch.rand(6, generator=generator))
        target = {"cls_loss": quality, "bbox_loss": torch.tensor([[1.0, 1.0, 5.0, 5.0]]).repeat(6, 1)}
        return {"cls_loss": logits, "bbox_loss": boxes}, target, [logits, boxes]
    if name == "distillation":
        student, teacher = torch.randn(2, 4, 8, 5, 5, generator=generator).unbind()
        student.requires_grad_()
        pred = {"task_loss": logits, "kd_loss": logits, "feature_loss": student}
        return pred, {"task_loss": labels, "kd_loss": logits.detach() + 1, "feature_loss": teacher}, [logits, student]
    return logits, labels, [logits]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_config(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(DOCUMENTED[name])
    config = load_config(path)
    if missing := types(config) - set(LOSSES):
        pytest.skip(f"not part of this repository yet: {', '.join(sorted(missing))}")
    loss = build_loss(config)
    assert isinstance(loss, BaseLoss | CombinedLoss)
    pred, target, leaves = arguments(name)
    value = loss(pred, target)
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml")), ids=lambda p: p.name
)
def test_example(path: Path) -> None:
    build_loss(load_config(path))
