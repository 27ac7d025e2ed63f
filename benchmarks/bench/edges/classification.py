"""Losses of single places: cross-entropy and its kin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.case import Function, Inputs
from bench.edges import exact
from bench.edges.exact import IGNORED
from bench.edges.inputs import (
    label_edges,
    labelled,
    labelled_rows,
    mask_edges,
    masked,
    paired,
    random,
    row_edges,
    tag_edges,
    tagged,
)
from bench.edges.libraries import SMP, always, having, ignoring, ours
from bench.edges.subject import Edge, Subject
from bench.peers import load

SMALL, LARGE = labelled(2, 4, 8), labelled(1, 4, 512)
ROWS_OF_LABELS, MANY_ROWS = labelled_rows(16, 8), labelled_rows(4096, 64)
TAGS = tagged(16, 8)
SMALL_MASK, LARGE_MASK = masked(2, 8), masked(1, 512)


def _torch(**options: float) -> Callable[[str | None], Function]:
    return lambda option: partial(F.cross_entropy, ignore_index=IGNORED, **options)  # type: ignore[arg-type]


def _mmseg(option: str | None) -> Function:
    loss = load("mmseg.models.losses.cross_entropy_loss:CrossEntropyLoss")(avg_non_ignore=True)
    return partial(loss, ignore_index=IGNORED)


def _mmseg_binary(option: str | None) -> Function:
    make = load("mmseg.models.losses.cross_entropy_loss:CrossEntropyLoss")
    loss = make(use_sigmoid=True, avg_non_ignore=True)
    return lambda x, y: loss(x.squeeze(1), y.squeeze(1), ignore_index=IGNORED)


def _per_class(make: Callable[[str | None], Function], *, unless_ignoring: bool = False) -> Callable[..., Function]:
    """Times the classes, for a mean that counts those a label does not name."""

    def scaled(option: str | None) -> Function:
        loss = make(option)
        if unless_ignoring and option == "ignore":
            return loss
        return lambda x, y: x.shape[1] * loss(x, y)

    return scaled


def _kornia_focal(option: str | None) -> Function:
    return partial(load("kornia.losses:focal_loss"), alpha=None, gamma=2.0, reduction="mean", ignore_index=IGNORED)


def _kornia_binary(option: str | None) -> Function:
    return partial(load("kornia.losses:binary_focal_loss_with_logits"), reduction="mean", ignore_index=IGNORED)


def _monai_focal(option: str | None) -> Function:
    ignored = IGNORED if option == "ignore" else None
    loss = load("monai.losses:FocalLoss")(to_onehot_y=True, use_softmax=True, ignore_index=ignored)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _mmdet_seesaw(x: Tensor, y: Tensor) -> Tensor:
    counts = torch.zeros(x.shape[1]).index_add_(0, y.long(), torch.ones(len(y)))
    loss: Function = load("mmdet.models.losses.seesaw_loss:seesaw_ce_loss")
    return loss(x, y.long(), None, counts, x.shape[1], 0.8, 2.0, 0.01)


SMOOTHED = partial(exact.cross_entropy, smoothing=0.1)
FEW = {"min_kept": 10}


def _one_class() -> Inputs:
    return Inputs(random(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long))


ONE_ROW = Edge("one sample (1,C)", lambda: Inputs(random(1, 4), torch.tensor([2])))
LABELS = (*label_edges(SMALL, LARGE), Edge("one class", _one_class, still=True))
ROWS = (*LABELS, ONE_ROW)
ROWS_OF_FOUR = (*label_edges(SMALL, LARGE), ONE_ROW)
COUNTS = [1000, 300, 20, 5]
FLAT = row_edges(ROWS_OF_LABELS, MANY_ROWS)
PAIRS = tuple(edge for edge in row_edges(paired(ROWS_OF_LABELS), paired(MANY_ROWS)) if edge.name != "one row")
EIGHT = row_edges(ROWS_OF_LABELS, labelled_rows(4096, 8))
ROWS_OF_TAGS = tag_edges(TAGS, tagged(4096, 64))
MASKS = mask_edges(SMALL_MASK, LARGE_MASK)

SUBJECTS = [
    Subject(
        "Cross-entropy",
        "Labels",
        SMALL,
        ROWS,
        {
            "losses": ours("CrossEntropyLoss", exact.cross_entropy),
            "torch": having("ignore", _torch(), exact.cross_entropy),
            "smp": ignoring(
                f"{SMP}:SoftCrossEntropyLoss", partial(exact.cross_entropy, over_all=True), smooth_factor=0.0
            ),
            "mmseg": having("ignore", _mmseg, exact.cross_entropy),
        },
    ),
    Subject(
        "Label smoothing",
        "Labels",
        SMALL,
        ROWS,
        {
            "losses": ours("LabelSmoothLoss", SMOOTHED),
            "torch": having("ignore", _torch(label_smoothing=0.1), SMOOTHED),
            "smp": ignoring(f"{SMP}:SoftCrossEntropyLoss", partial(SMOOTHED, over_all=True), smooth_factor=0.1),
        },
    ),
    Subject(
        "Softmax focal",
        "Labels",
        SMALL,
        LABELS,
        {
            "losses": ours("FocalLoss", exact.softmax_focal, alpha=None),
            "monai": having("ignore", _per_class(_monai_focal, unless_ignoring=True), exact.softmax_focal),
            "kornia": having("ignore", _per_class(_kornia_focal), partial(exact.softmax_focal, over_all=True)),
        },
    ),
    Subject(
        "Poly cross-entropy",
        "Labels",
        ROWS_OF_LABELS,
        FLAT,
        {
            "losses": ours("PolyCrossEntropyLoss", exact.poly_cross_entropy),
            "timm": always(lambda: load("timm.loss.poly_loss:PolyCrossEntropy")(1.0), exact.poly_cross_entropy),
        },
    ),
    Subject(
        "Logit-adjusted cross-entropy",
        "Labels",
        SMALL,
        ROWS_OF_FOUR,
        {
            "losses": ours(
                "LogitAdjustedCrossEntropyLoss", partial(exact.logit_adjusted, counts=COUNTS), class_counts=COUNTS
            ),
        },
    ),
    Subject(
        "OHEM cross-entropy",
        "Labels",
        SMALL,
        LABELS,
        {
            "losses": ours("OHEMCrossEntropyLoss", exact.hard_mining, **FEW),
            "mmseg": ignoring(
                "mmseg.models.losses.ohem_cross_entropy_loss:OhemCrossEntropy",
                exact.hard_mining,
                keyword="ignore_label",
                **FEW,
            ),
        },
    ),
    Subject(
        "Asymmetric, single label",
        "Labels",
        ROWS_OF_LABELS,
        FLAT,
        {
            "losses": ours("AsymmetricLossSingleLabel", exact.asymmetric_single),
            "timm": always(
                lambda: load("timm.loss.asymmetric_loss:AsymmetricLossSingleLabel")(gamma_pos=0, gamma_neg=4),
                exact.asymmetric_single,
            ),
        },
    ),
    Subject(
        "Seesaw",
        "Labels",
        ROWS_OF_LABELS,
        EIGHT,
        {
            "losses": ours("SeesawLoss", exact.seesaw, num_classes=8),
            "mmdet": always(lambda: _mmdet_seesaw, exact.seesaw),
        },
    ),
    Subject(
        "Jensen-Shannon cross-entropy",
        "Labels",
        paired(ROWS_OF_LABELS),
        PAIRS,
        {
            "losses": ours("JSDCrossEntropyLoss", exact.jsd, num_splits=2),
            "timm": always(lambda: load("timm.loss.jsd:JsdCrossEntropy")(num_splits=2), exact.jsd),
        },
    ),
    Subject(
        "Binary cross-entropy",
        "Yes or no",
        SMALL_MASK,
        MASKS,
        {
            "losses": ours("BinaryCrossEntropyLoss", exact.binary_cross_entropy),
            "torch": always(lambda: F.binary_cross_entropy_with_logits, exact.binary_cross_entropy),
            "smp": ignoring(f"{SMP}:SoftBCEWithLogitsLoss", partial(exact.binary_cross_entropy, over_all=True)),
            "timm": always(
                lambda: load("timm.loss.binary_cross_entropy:BinaryCrossEntropy")(smoothing=0.0),
                exact.binary_cross_entropy,
            ),
            "mmseg": having("ignore", _mmseg_binary, exact.binary_cross_entropy),
        },
    ),
    Subject(
        "Sigmoid focal",
        "Yes or no",
        SMALL_MASK,
        MASKS,
        {
            "losses": ours("BinaryFocalLoss", exact.sigmoid_focal),
            "torchvision": always(
                lambda: partial(load("torchvision.ops.focal_loss:sigmoid_focal_loss"), reduction="mean"),
                exact.sigmoid_focal,
            ),
            "fvcore": always(
                lambda: partial(load("fvcore.nn.focal_loss:sigmoid_focal_loss"), alpha=0.25, reduction="mean"),
                exact.sigmoid_focal,
            ),
            "monai": ignoring("monai.losses:FocalLoss", exact.sigmoid_focal, alpha=0.25),
            "smp": ignoring(f"{SMP}:FocalLoss", exact.sigmoid_focal, mode="binary", alpha=0.25),
            "kornia": having("ignore", _kornia_binary, partial(exact.sigmoid_focal, over_all=True)),
            "mmpretrain": always(
                lambda: load("mmpretrain.models.losses.focal_loss:sigmoid_focal_loss"), exact.sigmoid_focal
            ),
        },
    ),
    Subject(
        "Poly focal",
        "Yes or no",
        SMALL_MASK,
        MASKS,
        {
            "losses": ours("PolyFocalLoss", exact.poly_focal),
            "timm": always(
                lambda: load("timm.loss.poly_loss:PolyBinaryCrossEntropy")(1.0, 2.0, 0.25), exact.poly_focal
            ),
        },
    ),
    Subject(
        "Asymmetric",
        "Yes or no",
        SMALL_MASK,
        MASKS,
        {
            "losses": ours("AsymmetricLoss", exact.asymmetric),
            "timm": always(
                lambda: load("timm.loss.asymmetric_loss:AsymmetricLossMultiLabel")(reduction="mean"), exact.asymmetric
            ),
            "mmpretrain": always(
                lambda: load("mmpretrain.models.losses.asymmetric_loss:AsymmetricLoss")(
                    gamma_pos=1.0, use_sigmoid=True
                ),
                exact.asymmetric,
            ),
        },
    ),
    Subject(
        "ZLPR",
        "Yes or no",
        TAGS,
        ROWS_OF_TAGS,
        {
            "losses": ours("ZLPRLoss", exact.zlpr),
            "timm": always(lambda: load("timm.loss.zlpr_loss:ZlprLoss")(), exact.zlpr),
        },
    ),
    Subject(
        "Two-way",
        "Yes or no",
        TAGS,
        ROWS_OF_TAGS,
        {
            "losses": ours("TwoWayLoss", exact.two_way),
            "timm": always(lambda: load("timm.loss.two_way_loss:TwoWayLoss")(), exact.two_way),
        },
    ),
]
