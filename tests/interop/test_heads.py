"""The conventions by which heads of mmdet and mmseg call their losses."""

from __future__ import annotations

import torch

from losses_core import build_loss


def test_a_detection_head_calls_positionally_with_a_denominator_and_a_weight_per_number():
    loss = build_loss({"type": "GIoULoss", "loss_weight": 2.0})
    pred, target = torch.rand(4, 4).cumsum(1), torch.rand(4, 4).cumsum(1)
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0]).unsqueeze(1).expand(4, 4)
    value = loss(pred, target, weight, avg_factor=3)
    torch.testing.assert_close(value, 2 * loss(pred, target, reduction_override="none")[[0, 2, 3]].sum() / 2 / 3)


def test_a_dense_head_gives_labels_and_scores_as_a_tuple():
    loss = build_loss({"type": "QualityFocalLoss", "use_sigmoid": True})
    assert loss.use_sigmoid is True
    logits = torch.randn(5, 3)
    labels, scores = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0.5, 0.2, 0.9, 0.0, 0.0])
    assert loss(logits, (labels, scores), weight=torch.ones(5), avg_factor=torch.tensor(3.0)).ndim == 0


def test_a_segmentation_head_gives_ignore_index_with_the_call_and_reads_the_name():
    loss = build_loss({"type": "CrossEntropyLoss", "loss_name": "loss_decode"})
    assert loss.loss_name == "loss_decode"
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    labels[:, 0] = 255
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(loss(logits, labels, weight=None, ignore_index=255), expected)
