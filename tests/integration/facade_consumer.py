"""A program that uses the facade, to be read by mypy --strict. What it must find stands behind the line."""

from typing import assert_type

import torch
from torch import Tensor

import losses
import losses.classification
import losses_cls
from losses import (
    LOSSES,
    BaseLoss,
    ChunkedLoss,
    CombinedLoss,
    FocalLoss,
    LayeredLoss,
    build_loss,
    build_multi_loss,
)
from losses.base_loss import LossOptions
from losses.builder import build_loss as the_same
from losses.classification import CrossEntropyLoss, functional
from losses.utils import get_class_weight, weighted_loss

focal: losses_cls.FocalLoss = FocalLoss(gamma=2.0, alpha=0.25, reduction="sum")
assert_type(FocalLoss, type[losses_cls.FocalLoss])
assert_type(losses.FocalLoss(gamma=1.0), losses_cls.FocalLoss)
FocalLoss(gama=2.0)  # mypy: call-arg

assert_type(LOSSES["FocalLoss"], type[BaseLoss])
assert_type(build_loss({"type": "FocalLoss"}), BaseLoss | CombinedLoss | ChunkedLoss | LayeredLoss)
assert_type(the_same("FocalLoss"), BaseLoss | CombinedLoss | ChunkedLoss | LayeredLoss)
assert_type(build_multi_loss([focal, CrossEntropyLoss()]).terms(torch.zeros(2, 3), torch.zeros(2)).total, Tensor)
assert_type(losses.classification.CrossEntropyLoss(), losses_cls.CrossEntropyLoss)
assert_type(get_class_weight([0, 1]), Tensor)
assert_type(losses.__version__, str)
options: LossOptions = {"loss_weight": "2"}  # mypy: typeddict-item
print(functional, weighted_loss, options)

assert_type(losses.DiceLoss(smooth=1.0), losses.segmentation.DiceLoss)  # with all
assert_type(losses.KDLoss, type[losses.distillation.KnowledgeDistillationLoss])  # with all
losses.VarifocalLoss(gama=2.0)  # with all  # mypy: call-arg
print(losses.FocalLos)  # mypy: attr-defined
