"""Losses of regions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from bench.case import Function
from bench.edges import exact
from bench.edges.classification import LARGE, LARGE_MASK, SMALL, SMALL_MASK
from bench.edges.exact import IGNORED
from bench.edges.inputs import changed, label_edges, labelled, mask_edges
from bench.edges.libraries import SMP, always, having, ignoring, ours
from bench.edges.subject import Edge, Subject
from bench.peers import load


def _monai(name: str, **options: object) -> Callable[[str | None], Function]:
    def make(option: str | None) -> Function:
        ignored = {"ignore_index": IGNORED} if option == "ignore" else {}
        loss = load(f"monai.losses:{name}")(to_onehot_y=True, softmax=True, **options, **ignored)
        return lambda x, y: loss(x, y.unsqueeze(1))

    return make


def _kornia_dice(option: str | None) -> Function:
    return partial(load("kornia.losses:dice_loss"), average="macro", ignore_index=IGNORED)


def _kornia_tversky(option: str | None) -> Function:
    return partial(load("kornia.losses:tversky_loss"), alpha=0.3, beta=0.7, ignore_index=IGNORED)


def _dice_and_cross_entropy(x: exact.Array, target: exact.Array, *, smooth: float) -> float:
    return exact.dice(x, target, squared=False, smooth=smooth) + exact.cross_entropy(x, target)


def _mmseg_lovasz(option: str | None) -> Function:
    return partial(load("mmseg.models.losses.lovasz_loss:LovaszLoss")(reduction="none"), ignore_index=IGNORED)


def _mmseg_hinge(option: str | None) -> Function:
    loss = load("mmseg.models.losses.lovasz_loss:LovaszLoss")(loss_type="binary", reduction="none")
    return lambda x, y: loss(x.squeeze(1), y.squeeze(1), ignore_index=IGNORED)


def _kornia_hinge() -> Function:
    loss = load("kornia.losses:lovasz_hinge_loss")
    return lambda x, y: loss(x, y.squeeze(1))


def _kornia_hausdorff() -> Function:
    loss = load("kornia.losses:HausdorffERLoss")()
    return lambda x, y: loss(x.softmax(1), y.unsqueeze(1))


ABSENT = Edge("classes absent", changed(SMALL, target=lambda given: given.target.clamp(max=1)))
LABELS = (*label_edges(SMALL, LARGE), ABSENT)
MASKS, FLAT_MASKS = mask_edges(SMALL_MASK, LARGE_MASK), mask_edges(SMALL_MASK, LARGE_MASK, flat=True)
UNCHECKED = tuple(edge for edge in label_edges(SMALL, labelled(1, 4, 128)) if edge.option is None or edge.still)
FLAT_UNCHECKED = tuple(edge for edge in FLAT_MASKS if edge.option is None or edge.still)
FIRST_POWER = partial(exact.dice, squared=False, smooth=0.0)
TVERSKY = partial(exact.tversky, alpha=0.3, beta=0.7)

SUBJECTS = [
    Subject(
        "Dice",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("DiceLoss", exact.dice),
            "monai": having("ignore", _monai("DiceLoss"), partial(FIRST_POWER, smooth=1e-5)),
            "smp": ignoring(f"{SMP}:DiceLoss", partial(FIRST_POWER, batch=True, absent="free"), mode="multiclass"),
            "kornia": having("ignore", _kornia_dice, partial(FIRST_POWER, absent="skipped")),
            "mmseg": having(
                "ignore",
                lambda option: load("mmseg.models.losses.dice_loss:DiceLoss")(use_sigmoid=False),
                partial(exact.dice, smooth=0.0, together=True),
            ),
        },
    ),
    Subject(
        "Binary Dice",
        "Regions",
        SMALL_MASK,
        FLAT_MASKS,
        {
            "losses": ours("BinaryDiceLoss", exact.dice),
            "monai": ignoring("monai.losses:DiceLoss", partial(FIRST_POWER, smooth=1e-5), sigmoid=True),
            "smp": dataclasses.replace(
                ignoring(f"{SMP}:DiceLoss", partial(FIRST_POWER, batch=True, absent="free"), mode="binary"),
                still=frozenset(["empty mask"]),
            ),
        },
    ),
    Subject(
        "Generalized Dice",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("GeneralizedDiceLoss", exact.generalized_dice),
            "monai": having(
                "", _monai("GeneralizedDiceLoss"), partial(exact.generalized_dice, smooth=1e-5, scaled=False)
            ),
        },
    ),
    Subject(
        "Tversky",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("TverskyLoss", partial(TVERSKY, smooth=1.0), alpha=0.3, beta=0.7),
            "monai": having("ignore", _monai("TverskyLoss", alpha=0.3, beta=0.7), partial(TVERSKY, smooth=1e-5)),
            "smp": ignoring(
                f"{SMP}:TverskyLoss",
                partial(TVERSKY, batch=True, absent="free"),
                mode="multiclass",
                alpha=0.3,
                beta=0.7,
            ),
            "kornia": having("ignore", _kornia_tversky, partial(TVERSKY, absent="skipped")),
        },
    ),
    Subject(
        "Jaccard",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("JaccardLoss", partial(exact.tversky, smooth=1.0)),
            "monai": having("ignore", _monai("DiceLoss", jaccard=True), partial(exact.tversky, smooth=5e-6)),
            "smp": always(
                lambda: load(f"{SMP}:JaccardLoss")("multiclass"), partial(exact.tversky, batch=True, absent="free")
            ),
        },
    ),
    Subject(
        "Matthews correlation",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("MCCLoss", exact.matthews, classes="all"),
            "monai": having("", _monai("MCCLoss"), exact.matthews),
        },
    ),
    Subject(
        "Dice + cross-entropy",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("DiceCELoss", partial(_dice_and_cross_entropy, smooth=1.0), naive_dice=True),
            "monai": having("", _monai("DiceCELoss"), partial(_dice_and_cross_entropy, smooth=1e-5)),
        },
    ),
    Subject(
        "Lovász",
        "Regions",
        SMALL,
        LABELS,
        {
            "losses": ours("LovaszLoss", exact.lovasz),
            "smp": ignoring(f"{SMP}:LovaszLoss", exact.lovasz, mode="multiclass"),
            "kornia": always(
                lambda: load("kornia.losses:lovasz_softmax_loss"), partial(exact.lovasz, every=True, per_image=True)
            ),
            "mmseg": having("ignore", _mmseg_lovasz, exact.lovasz),
        },
    ),
    Subject(
        "Lovász hinge",
        "Regions",
        SMALL_MASK,
        MASKS,
        {
            "losses": ours("LovaszHingeLoss", exact.lovasz_hinge),
            "smp": ignoring(f"{SMP}:LovaszLoss", exact.lovasz_hinge, mode="binary"),
            "kornia": always(_kornia_hinge, partial(exact.lovasz_hinge, per_image=True)),
            "mmseg": having("ignore", _mmseg_hinge, exact.lovasz_hinge),
        },
    ),
    Subject(
        "Hausdorff distance",
        "Regions",
        SMALL,
        UNCHECKED,
        {
            "losses": ours("HDLoss", exact.unknown),
            "monai": having("", _monai("HausdorffDTLoss", include_background=True), exact.unknown),
            "kornia": always(_kornia_hausdorff, exact.unknown, "*"),  # nothing below a difference of 0.5
        },
    ),
    Subject(
        "Surface",
        "Regions",
        SMALL,
        UNCHECKED,
        {
            "losses": ours("SurfaceLoss", exact.unknown),
            "monai": having("", _monai("BoundaryLoss"), exact.unknown),
        },
    ),
    Subject(
        "clDice",
        "Regions",
        SMALL_MASK,
        FLAT_UNCHECKED,
        {
            "losses": ours("SoftClDiceLoss", exact.unknown),
            "monai": always(lambda: load("monai.losses:SoftclDiceLoss")(sigmoid=True), exact.unknown, "*"),
        },
    ),
    Subject(
        "Skeleton recall",
        "Regions",
        SMALL_MASK,
        FLAT_UNCHECKED,
        {"losses": ours("SkeletonRecallLoss", exact.unknown)},
    ),
    Subject(
        "Points of masks",
        "Regions",
        SMALL_MASK,
        FLAT_UNCHECKED,
        {"losses": ours("PointMaskLoss", exact.unknown)},
    ),
]
