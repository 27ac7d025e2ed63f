"""The criteria of transformers for detection transformers, term by term, and TRL's divergence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from losses_core import build_loss, compute_iou
from losses_det.functional import box_to_distance
from losses_distill import GeneralizedJSDLoss

CLASSES, BINS = 7, 8
CONFIG = SimpleNamespace(
    num_labels=CLASSES,
    eos_coefficient=0.1,
    focal_loss_alpha=0.75,
    focal_loss_gamma=2.0,
    matcher_alpha=0.25,
    matcher_gamma=2.0,
    matcher_class_cost=2.0,
    matcher_bbox_cost=5.0,
    matcher_giou_cost=2.0,
    use_focal_loss=True,
    weight_loss_vfl=1.0,
    weight_loss_mal=1.0,
    weight_loss_bbox=5.0,
    weight_loss_giou=2.0,
    weight_loss_fgl=0.15,
    weight_loss_ddf=1.5,
    max_num_bins=BINS,
    reg_scale=4.0,
    up=0.5,
    mal_alpha=None,
    use_dense_one_to_one=False,
)


class Head(NamedTuple):
    """The outputs of a layer, what it was matched to, and the matched rows of both."""

    outputs: dict[str, Tensor]
    targets: list[dict[str, Tensor]]
    indices: list[tuple[Tensor, Tensor]]
    rows: tuple[Tensor, Tensor]
    boxes: Tensor
    labels: Tensor
    number: int


def boxes(*shape: int, generator: torch.Generator) -> Tensor:
    """Boxes (cx, cy, w, h) that all overlap: VFL there gives a matched box of IoU 0 no loss at all."""
    centre = 0.4 + 0.2 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat([centre, 0.3 + 0.3 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)], -1)


@pytest.fixture
def head() -> Head:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    outputs = {
        "logits": normal(3, 10, CLASSES).requires_grad_(),
        "pred_boxes": boxes(3, 10, generator=generator).requires_grad_(),
        "pred_corners": normal(3, 10, 4 * (BINS + 1)).requires_grad_(),
        "teacher_corners": normal(3, 10, 4 * (BINS + 1)),
        "teacher_logits": normal(3, 10, CLASSES),
        "ref_points": boxes(3, 10, generator=generator),
    }
    counts, indices = (4, 0, 2), []
    targets = [
        {
            "class_labels": torch.randint(0, CLASSES, (count,), generator=generator),
            "boxes": boxes(count, generator=generator),
        }
        for count in counts
    ]
    for count in counts:
        queries = torch.randperm(10, generator=generator)[:count].sort().values
        indices.append((queries, torch.randperm(count, generator=generator)))
    image = torch.cat([torch.full_like(queries, index) for index, (queries, _) in enumerate(indices)])
    rows = image, torch.cat([queries for queries, _ in indices])
    matched = [target["boxes"][order] for target, (_, order) in zip(targets, indices, strict=True)]
    labels = [target["class_labels"][order] for target, (_, order) in zip(targets, indices, strict=True)]
    return Head(outputs, targets, indices, rows, torch.cat(matched), torch.cat(labels), sum(counts))


def criterion(name: str) -> Any:
    module, cls = name.split(":")
    found = pytest.importorskip(f"transformers.loss.{module}")
    return getattr(found, cls)(CONFIG).double()


def local(head: Head) -> dict[str, Tensor]:
    """Losses of distributions, which D-FINE computes in float32 only."""
    outputs = {name: tensor.float() for name, tensor in head.outputs.items()}
    targets = [
        {name: t.float() if t.is_floating_point() else t for name, t in target.items()} for target in head.targets
    ]
    theirs: dict[str, Tensor] = (
        criterion("loss_d_fine:DFineLoss").float().loss_local(outputs, targets, head.indices, head.number)
    )
    return {name: value.double() for name, value in theirs.items()}


def same(ours: Tensor, theirs: Tensor, *inputs: Tensor, tolerance: float = 1e-6) -> None:
    """Equal in value and in the gradient of every input."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    actual = torch.autograd.grad(ours, inputs, retain_graph=True, materialize_grads=True)
    expected = torch.autograd.grad(theirs, inputs, retain_graph=True, materialize_grads=True)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def scores(head: Head) -> tuple[Tensor, Tensor]:
    """Label and IoU of every query, the number of classes where it is not matched."""
    labels = torch.full((3, 10), CLASSES)
    labels[head.rows] = head.labels
    quality = torch.zeros(3, 10, dtype=torch.float64)
    quality[head.rows] = overlaps(head)
    return labels, quality


def overlaps(head: Head) -> Tensor:
    pred = head.outputs["pred_boxes"][head.rows].detach()
    return compute_iou(pred, head.boxes, bbox_format="cxcywh")


@pytest.mark.parametrize("name", ["loss_rt_detr:RTDetrLoss", "loss_d_fine:DFineLoss", "loss_deimv2:Deimv2Loss"])
def test_boxes(head: Head, name: str) -> None:
    theirs = criterion(name).loss_boxes(head.outputs, head.targets, head.indices, head.number)
    pred = head.outputs["pred_boxes"]
    l1 = build_loss("L1Loss")(pred[head.rows], head.boxes, avg_factor=head.number)
    same(l1, theirs["loss_bbox"], pred)
    giou = build_loss({"type": "GIoULoss", "bbox_format": "cxcywh"})
    same(giou(pred[head.rows], head.boxes, avg_factor=head.number), theirs["loss_giou"], pred)


def test_varifocal_scores(head: Head) -> None:
    theirs = criterion("loss_rt_detr:RTDetrLoss").loss_labels_vfl(head.outputs, head.targets, head.indices, head.number)
    labels, quality = scores(head)
    target = torch.zeros(3, 10, CLASSES + 1, dtype=torch.float64)
    target.scatter_(2, labels[..., None], quality[..., None])
    loss = build_loss({"type": "VarifocalLoss", "alpha": 0.75, "gamma": 2.0, "detach_weight": True})
    ours = loss(head.outputs["logits"], target[..., :CLASSES], avg_factor=head.number)
    same(ours, theirs["loss_vfl"], head.outputs["logits"])


@pytest.mark.parametrize("alpha", [None, 0.6])
def test_matchability_aware_scores(head: Head, alpha: float | None) -> None:
    deim = criterion("loss_deimv2:Deimv2Loss")
    deim.mal_alpha, deim.gamma = alpha, 1.5
    theirs = deim.loss_labels_mal(head.outputs, head.targets, head.indices, head.number)["loss_mal"]
    loss = build_loss({"type": "MALoss", "alpha": alpha, "gamma": 1.5})
    same(loss(head.outputs["logits"], scores(head), avg_factor=head.number), theirs, head.outputs["logits"])


def test_iou_aware_scores(head: Head) -> None:
    module = pytest.importorskip("transformers.loss.loss_lw_detr")
    theirs = module.LwDetrImageLoss(None, CLASSES, 0.25, ["labels"], 1)
    value = theirs.loss_labels(head.outputs, head.targets, head.indices, head.number)["loss_ce"]
    ours = build_loss("IoUAwareBCELoss")(head.outputs["logits"], scores(head), avg_factor=head.number)
    same(ours, value, head.outputs["logits"])


def test_fine_grained_localization(head: Head) -> None:
    theirs = local(head)
    pred, points = head.outputs["pred_corners"], head.outputs["ref_points"][head.rows]
    corners = torch.cat([head.boxes[:, :2] - head.boxes[:, 2:] / 2, head.boxes[:, :2] + head.boxes[:, 2:] / 2], 1)
    distance = box_to_distance(points, corners, reg_scale=4.0)
    loss = build_loss({"type": "FineGrainedLocalizationLoss", "reg_max": BINS})
    ours = loss(pred[head.rows], distance, overlaps(head), avg_factor=head.number)
    same(ours, theirs["loss_fgl"], pred, tolerance=1e-5)


def test_distillation_of_distributions(head: Head) -> None:
    theirs = local(head)
    quality = head.outputs["teacher_logits"].sigmoid().amax(-1)
    quality[head.rows] = overlaps(head)
    matched = torch.zeros(3, 10, dtype=torch.bool)
    matched[head.rows] = True
    pred = head.outputs["pred_corners"]
    loss = build_loss({"type": "DecoupledDistillationFocalLoss", "reg_max": BINS})
    ours = loss(pred, head.outputs["teacher_corners"], matched=matched, quality=quality)
    same(ours, theirs["loss_ddf"], pred, tolerance=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("labelled", [False, True])
def test_generalized_jsd(beta: float, labelled: bool) -> None:
    trainer = pytest.importorskip("trl.experimental.gkd.gkd_trainer").GKDTrainer
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 11, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    labels = torch.randint(0, 11, (3, 5), generator=generator)
    labels[0, :2] = -100
    given = labels if labelled else None
    theirs = trainer.generalized_jsd_loss(student, teacher, given, beta=beta, temperature=2.0)
    loss = GeneralizedJSDLoss(beta=beta, temperature=2.0, class_dim=-1)
    # without labels it divides by the number of sequences
    ours = loss(student, teacher, labels=labels) if labelled else loss(student, teacher, avg_factor=3)
    same(ours, theirs, student)
