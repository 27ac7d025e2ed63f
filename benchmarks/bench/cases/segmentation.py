"""Cases of losses-seg."""

from __future__ import annotations

import types
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from bench import inputs, textbook
from bench.case import Case, Function, Peer
from bench.peers import load

case = partial(Case, package="losses-seg", budget=2.5)


def _kornia_dice() -> Function:
    return partial(load("kornia.losses:dice_loss"), average="macro", ignore_index=None)


def _monai_dice(**options: object) -> Function:
    loss = load("monai.losses:DiceLoss")(to_onehot_y=True, softmax=True, **options)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _smp_dice(smooth: float) -> Function:
    return load("segmentation_models_pytorch.losses:DiceLoss")("multiclass", smooth=smooth)  # type: ignore[no-any-return]


MONAI_DICE = Peer(partial(_monai_dice, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0))
_MMSEG = Peer(
    lambda: load("mmseg.models.losses.dice_loss:DiceLoss")(use_sigmoid=False),
    variant="one ratio over all classes of an image",
)
_FIRST_POWER = "probabilities not squared"


def _monai_overlap(name: str, **options: object) -> Function:
    loss = load(f"monai.losses:{name}")(to_onehot_y=True, softmax=True, **options)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _smp_overlap(name: str, **options: object) -> Function:
    return load(f"segmentation_models_pytorch.losses:{name}")("multiclass", **options)  # type: ignore[no-any-return]


def _smp_mcc() -> Function:
    loss = load("segmentation_models_pytorch.losses:MCCLoss")()
    return lambda x, y: loss(x.sigmoid(), y)


def _monai_binary_mcc() -> Function:
    return load("monai.losses:MCCLoss")(sigmoid=True)  # type: ignore[no-any-return]


def _monai_gdl() -> Function:
    # its weights are 1/A² as they are, about 1e-8, beside which its constants would be everything
    loss = load("monai.losses:GeneralizedDiceLoss")(to_onehot_y=True, softmax=True, smooth_nr=0.0, smooth_dr=0.0)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _monai_binary() -> Function:
    return load("monai.losses:DiceLoss")(sigmoid=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0)  # type: ignore[no-any-return]


def _smp_binary() -> Function:
    return load("segmentation_models_pytorch.losses:DiceLoss")("binary", smooth=1.0)  # type: ignore[no-any-return]


def _smp_lovasz(mode: str) -> Function:
    return load("segmentation_models_pytorch.losses:LovaszLoss")(mode, ignore_index=255)  # type: ignore[no-any-return]


def _mmseg_lovasz(**options: object) -> Function:
    return load("mmseg.models.losses.lovasz_loss:LovaszLoss")(reduction="none", **options)  # type: ignore[no-any-return]


def _monai_hausdorff() -> Function:
    loss = load("monai.losses:HausdorffDTLoss")(include_background=True, to_onehot_y=True, softmax=True)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _monai_surface() -> Function:
    loss = load("monai.losses:BoundaryLoss")(to_onehot_y=True, softmax=True)
    return lambda x, y: loss(x, y.unsqueeze(1))


def _monai_cl_dice() -> Function:
    return load("monai.losses:SoftclDiceLoss")(iter_=3, sigmoid=True, smooth=1e-12)  # type: ignore[no-any-return]


def _kornia_hausdorff() -> Function:
    loss = load("kornia.losses:HausdorffERLoss")()
    return lambda x, y: loss(x.softmax(1), y.unsqueeze(1))


def _kornia_lovasz_hinge() -> Function:
    loss = load("kornia.losses:lovasz_hinge_loss")
    return lambda x, y: loss(x, y.squeeze(1))


def _mmseg_ohem() -> Function:
    context = types.SimpleNamespace(ignore_index=255)
    sampler = load("mmseg.structures.sampler.ohem_pixel_sampler:OHEMPixelSampler")(context, thresh=0.7, min_kept=25000)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        weight = sampler.sample(x, y.unsqueeze(1))
        return (F.cross_entropy(x, y, ignore_index=255, reduction="none") * weight).sum() / weight.sum()  # type: ignore[no-any-return]

    return loss


_PIXELS = inputs.blobs(4, 19, 256)

CASES = [
    case(
        "dice_4x19x256",
        config={"type": "DiceLoss"},
        inputs=_PIXELS,
        peers={
            "monai": MONAI_DICE,
            "textbook": Peer(lambda: textbook.dice),
            "kornia": Peer(_kornia_dice, variant=_FIRST_POWER),
            "smp": Peer(partial(_smp_dice, 1.0), variant=f"{_FIRST_POWER}, sums over the batch"),
            "mmseg": _MMSEG,
        },
    ),
    case(
        "dice_2x150x256",
        config={"type": "DiceLoss"},
        inputs=inputs.blobs(2, 150, 256),
        peers={"monai": MONAI_DICE, "kornia": Peer(_kornia_dice, variant=_FIRST_POWER)},
    ),
    case(
        "dice_naive_4x19x256",
        config={"type": "DiceLoss", "naive_dice": True, "smooth": 1e-5},
        inputs=_PIXELS,
        peers={"monai": Peer(_monai_dice), "kornia": Peer(_kornia_dice)},
    ),
    case(
        "dice_batch_4x19x256",
        config={"type": "DiceLoss", "naive_dice": True, "per_image": False, "smooth": 0.0},
        inputs=_PIXELS,
        peers={"smp": Peer(partial(_smp_dice, 0.0))},
    ),
    case(
        "gdl_4x19x256",
        config={"type": "GeneralizedDiceLoss", "smooth": 0.0},
        inputs=_PIXELS,
        peers={"monai": Peer(_monai_gdl)},
    ),
    case(
        "binary_dice_8x512",
        config={"type": "BinaryDiceLoss"},
        inputs=inputs.masks(8, 512),
        peers={
            "monai": Peer(_monai_binary),
            "smp": Peer(_smp_binary, variant=f"{_FIRST_POWER}, sums over the batch"),
            "textbook": Peer(lambda: textbook.binary_dice),
        },
    ),
    case(
        "tversky_4x19x256",
        config={"type": "TverskyLoss", "alpha": 0.3, "beta": 0.7, "smooth": 1e-5},
        inputs=_PIXELS,
        peers={
            "monai": Peer(partial(_monai_overlap, "TverskyLoss", alpha=0.3, beta=0.7)),
            "kornia": Peer(lambda: partial(load("kornia.losses:tversky_loss"), alpha=0.3, beta=0.7, eps=1e-5)),
        },
    ),
    case(
        "tversky_batch_4x19x256",
        config={"type": "TverskyLoss", "alpha": 0.3, "beta": 0.7, "smooth": 0.0, "per_image": False},
        inputs=_PIXELS,
        peers={"smp": Peer(partial(_smp_overlap, "TverskyLoss", alpha=0.3, beta=0.7))},
    ),
    case(
        "focal_tversky_4x19x256",
        config={"type": "FocalTverskyLoss", "per_image": False, "smooth": 0.0},
        inputs=_PIXELS,
        peers={
            "textbook": Peer(lambda: textbook.focal_tversky),
            "smp": Peer(
                partial(_smp_overlap, "TverskyLoss", alpha=0.3, beta=0.7, gamma=0.75),
                variant="the mean over the classes is raised to gamma",
            ),
        },
    ),
    case(
        "jaccard_4x19x256",
        config={"type": "JaccardLoss", "smooth": 1e-5},
        inputs=_PIXELS,
        peers={"monai": Peer(partial(_monai_dice, jaccard=True, smooth_nr=2e-5, smooth_dr=2e-5))},
    ),
    case(
        "jaccard_batch_4x19x256",
        config={"type": "JaccardLoss", "smooth": 0.0, "per_image": False},
        inputs=_PIXELS,
        peers={"smp": Peer(partial(_smp_overlap, "JaccardLoss"))},
    ),
    case(
        "mcc_4x19x256",
        config={"type": "MCCLoss", "classes": "all"},
        inputs=_PIXELS,
        peers={"monai": Peer(partial(_monai_overlap, "MCCLoss"))},
    ),
    case(
        "mcc_binary_8x512",
        config={"type": "MCCLoss", "per_image": False},
        inputs=inputs.masks(8, 512),
        peers={
            "smp": Peer(_smp_mcc),
            "monai": Peer(_monai_binary_mcc, variant="per image"),
        },
    ),
    case(
        "dice_ce_4x19x256",
        config={"type": "DiceCELoss", "naive_dice": True, "smooth": 1e-5},
        inputs=_PIXELS,
        peers={
            "monai": Peer(partial(_monai_overlap, "DiceCELoss")),
            "textbook": Peer(lambda: textbook.dice_and(F.cross_entropy)),
        },
    ),
    case(
        "dice_ce_binary_8x512",
        config={"type": "DiceCELoss", "naive_dice": True, "smooth": 1e-5},
        inputs=inputs.masks(8, 512),
        peers={"monai": Peer(lambda: load("monai.losses:DiceCELoss")(sigmoid=True))},
    ),
    case(
        "dice_focal_4x19x256",
        config={"type": "DiceFocalLoss", "naive_dice": True, "smooth": 1e-5},
        inputs=_PIXELS,
        peers={
            "textbook": Peer(lambda: textbook.dice_and(textbook.softmax_focal)),
            "monai": Peer(partial(_monai_overlap, "DiceFocalLoss"), variant="a sigmoid per class in the focal term"),
        },
    ),
    case(
        "dice_focal_binary_8x512",
        config={"type": "DiceFocalLoss", "naive_dice": True, "smooth": 1e-5},
        inputs=inputs.masks(8, 512),
        peers={"monai": Peer(lambda: load("monai.losses:DiceFocalLoss")(sigmoid=True))},
    ),
    case(
        "lovasz_2x19x256_present8",
        config={"type": "LovaszLoss"},
        inputs=inputs.blobs(2, 19, 256, present=8),
        peers={
            "smp": Peer(lambda: _smp_lovasz("multiclass")),
            "mmseg": Peer(_mmseg_lovasz),
        },
        budget=4,
    ),
    case(
        "lovasz_all_image_2x19x256",
        config={"type": "LovaszLoss", "classes": "all", "per_image": True},
        inputs=inputs.blobs(2, 19, 256),
        peers={"kornia": Peer(lambda: load("kornia.losses:lovasz_softmax_loss"))},
        budget=4,
    ),
    case(
        "lovasz_hinge_4x256",
        config={"type": "LovaszHingeLoss"},
        inputs=inputs.masks(4, 256),
        peers={
            "textbook": Peer(lambda: textbook.lovasz_hinge),
            "kornia": Peer(_kornia_lovasz_hinge, variant="per image"),
            "smp": Peer(lambda: _smp_lovasz("binary")),
        },
        budget=14,
    ),
    case(
        "hd_2x4x256",
        config={"type": "HDLoss", "pred_mask": "threshold"},
        inputs=inputs.blobs(2, 4, 256),
        peers={
            "monai": Peer(_monai_hausdorff),
            "kornia": Peer(_kornia_hausdorff, variant="erosion instead of distances"),
        },
        budget=6,
    ),
    case(
        "boundary_2x4x256",
        config={"type": "BoundaryLoss", "classes": "all"},
        inputs=inputs.blobs(2, 4, 256),
        peers={"textbook": Peer(lambda: textbook.boundary)},
        budget=4,
    ),
    case(
        "surface_2x4x256",
        config={"type": "SurfaceLoss"},
        inputs=inputs.blobs(2, 4, 256),
        peers={"monai": Peer(_monai_surface)},
    ),
    case(
        "cldice_4x1x256",
        config={"type": "SoftClDiceLoss", "iterations": 3},
        inputs=inputs.lines(4, 256),
        peers={"monai": Peer(_monai_cl_dice)},
        budget=4.6,  # the skeleton of a floating mask is soft, and in float32: 2 × pred
    ),
    case(
        "skeleton_recall_4x1x256",
        config={"type": "SkeletonRecallLoss"},
        inputs=inputs.lines(4, 256),
        peers={"textbook": Peer(lambda: textbook.skeleton_recall)},
        budget=4,
    ),
    case(
        "point_mask_20x128_12544",
        config={"type": "PointMaskLoss"},
        inputs=inputs.sampled_masks(20, 128, 12544),
        peers={"textbook": Peer(lambda: textbook.point_mask)},
    ),
    case(
        "ohem_ce_4x19x256_k100k",
        config={"type": "OHEMCrossEntropyLoss"},
        inputs=_PIXELS,
        peers={
            "mmseg": Peer(lambda: load("mmseg.models.losses.ohem_cross_entropy_loss:OhemCrossEntropy")()),
            "mmseg sampler": Peer(_mmseg_ohem),
        },
    ),
    case(
        "ohem_binary_8x512_k100k",
        config={"type": "OHEMBinaryLoss"},
        inputs=inputs.masks(8, 512),
        peers={"textbook": Peer(lambda: textbook.ohem_binary)},
        budget=6,
    ),
]
