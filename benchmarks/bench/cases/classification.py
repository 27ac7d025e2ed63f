"""Cases of losses-cls."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import inputs, textbook
from bench.case import Case, Function, Peer
from bench.peers import load

case = partial(Case, package="losses-cls")


def _torch_ce(**options: float) -> Peer:
    return Peer(lambda: nn.CrossEntropyLoss(**options))  # type: ignore[arg-type]


def _timm_asl(detached: bool) -> Peer:
    options = {"reduction": "mean", "disable_torch_grad_focal_loss": detached}
    return Peer(lambda: load("timm.loss.asymmetric_loss:AsymmetricLossMultiLabel")(**options))


def _mmpretrain_asl() -> Function:
    asymmetric = load("mmpretrain.models.losses.asymmetric_loss:AsymmetricLoss")
    return asymmetric(gamma_pos=1.0, gamma_neg=4.0, clip=0.05, use_sigmoid=True)  # type: ignore[no-any-return]


def _smp_focal() -> Function:
    return load("segmentation_models_pytorch.losses:FocalLoss")("binary", alpha=0.25, gamma=2.0)  # type: ignore[no-any-return]


def _smp_focal_index() -> Function:
    focal = load("segmentation_models_pytorch.losses._functional:focal_loss_with_logits")

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return focal(x, F.one_hot(y, x.shape[1] + 1)[:, :-1], alpha=0.25, gamma=2.0)  # type: ignore[no-any-return]

    return loss


def _kornia_binary() -> Function:
    focal = load("kornia.losses:binary_focal_loss_with_logits")
    return lambda x, y: focal(x, y, alpha=0.25, gamma=2.0, reduction="mean")


def _mmdet_index() -> Function:
    focal = load("mmdet.models.losses.focal_loss:py_sigmoid_focal_loss")
    return lambda x, y: focal(x, F.one_hot(y, x.shape[1] + 1)[:, :-1], alpha=0.25, gamma=2.0)


def _torchvision_index() -> Function:
    focal = load("torchvision.ops.focal_loss:sigmoid_focal_loss")
    return lambda x, y: focal(x, F.one_hot(y, x.shape[1] + 1)[:, :-1].float(), reduction="mean")


_BINARY_FOCAL = {
    "torchvision": Peer(lambda: partial(load("torchvision.ops.focal_loss:sigmoid_focal_loss"), reduction="mean")),
    "fvcore": Peer(lambda: partial(load("fvcore.nn.focal_loss:sigmoid_focal_loss"), alpha=0.25, reduction="mean")),
    "smp": Peer(_smp_focal),
    "kornia": Peer(_kornia_binary),
    "mmpretrain": Peer(lambda: load("mmpretrain.models.losses.focal_loss:sigmoid_focal_loss")),
}


def _kornia_softmax() -> Function:
    focal = load("kornia.losses:focal_loss")
    # it averages over the classes too, of which all but that of the label are zero
    return lambda x, y: x.shape[1] * focal(x, y, alpha=None, gamma=2.0, reduction="mean", ignore_index=255)


def _monai_softmax() -> Function:
    loss = load("monai.losses:FocalLoss")(to_onehot_y=True, use_softmax=True, gamma=2.0)
    return lambda x, y: x.shape[1] * loss(x, y.unsqueeze(1))  # as kornia's


def _smp_softmax() -> Function:
    return load("segmentation_models_pytorch.losses:FocalLoss")("multiclass", gamma=2.0)  # type: ignore[no-any-return]


def _mmdet_seesaw() -> Function:
    """The function of their loss; the class counts the labels in a loop over their values."""
    seesaw = load("mmdet.models.losses.seesaw_loss:seesaw_ce_loss")

    def loss(x: Tensor, y: Tensor) -> Tensor:
        counts = torch.zeros(x.shape[1], device=x.device).index_add_(0, y, torch.ones_like(y, dtype=torch.float32))
        return seesaw(x, y, None, counts, x.shape[1], 0.8, 2.0, 0.01)  # type: ignore[no-any-return]

    return loss


_LONG_TAIL = [max(1, 1280 // (i + 1)) for i in range(1000)]
"""How often each of a thousand classes occurs."""

CASES = [
    case(
        "ce_4x19x256",
        config={"type": "CrossEntropyLoss"},
        inputs=inputs.labelled(4, 19, 256, 256),
        peers={"torch": _torch_ce()},
    ),
    case(
        "ce_256x1000",
        config={"type": "CrossEntropyLoss"},
        inputs=inputs.labelled(256, 1000),
        peers={"torch": _torch_ce()},
    ),
    case(
        "ce_32x10",
        config={"type": "CrossEntropyLoss"},
        inputs=inputs.labelled(32, 10),
        peers={"torch": _torch_ce()},
        grows=(),
    ),
    case(
        "label_smooth_256x1000",
        config={"type": "LabelSmoothLoss"},
        inputs=inputs.labelled(256, 1000),
        peers={
            "torch": _torch_ce(label_smoothing=0.1),
            "timm": Peer(lambda: load("timm.loss.cross_entropy:LabelSmoothingCrossEntropy")(0.1)),
            "mmpretrain": Peer(
                lambda: load("mmpretrain.models.losses.label_smooth_loss:LabelSmoothLoss")(
                    0.1, num_classes=1000, mode="original"
                )
            ),
        },
    ),
    case(
        "soft_ce_256x1000",
        config={"type": "SoftCrossEntropyLoss"},
        inputs=inputs.mixed(256, 1000),
        peers={
            "torch": _torch_ce(),
            "timm": Peer(lambda: load("timm.loss.cross_entropy:SoftTargetCrossEntropy")()),
        },
    ),
    case(
        "bce_20000x80",
        config={"type": "BinaryCrossEntropyLoss"},
        inputs=inputs.tags(20000, 80, 0.02),
        elementwise=True,
        peers={
            "torch": Peer(nn.BCEWithLogitsLoss),
            "timm": Peer(lambda: load("timm.loss.binary_cross_entropy:BinaryCrossEntropy")(smoothing=0.0)),
        },
    ),
    case(
        "bce_32x10",
        config={"type": "BinaryCrossEntropyLoss"},
        inputs=inputs.tags(32, 10, 0.2),
        elementwise=True,
        grows=(),
        peers={"torch": Peer(nn.BCEWithLogitsLoss)},
    ),
    case(
        "sigmoid_focal_20000x80",
        config={"type": "BinaryFocalLoss"},
        inputs=inputs.tags(20000, 80, 0.02),
        elementwise=True,
        peers=_BINARY_FOCAL,
    ),
    case(
        "sigmoid_focal_300x80",
        config={"type": "BinaryFocalLoss"},
        inputs=inputs.tags(300, 80, 0.02),
        elementwise=True,
        grows=(),
        peers=_BINARY_FOCAL,
    ),
    case(
        "multilabel_focal_128x1000",
        config={"type": "MultiLabelFocalLoss"},
        inputs=inputs.tags(128, 1000, 0.02),
        elementwise=True,
        peers=_BINARY_FOCAL,
    ),
    case(
        "sigmoid_focal_index_20000x80",
        config={"type": "FocalLoss", "use_sigmoid": True},
        elementwise=True,
        inputs=inputs.anchors(20000, 80, 0.02),
        peers={
            "mmdet": Peer(_mmdet_index),
            "torchvision": Peer(_torchvision_index),
            "smp": Peer(_smp_focal_index),
        },
    ),
    case(
        "softmax_focal_4x19x256",
        config={"type": "FocalLoss", "ignore_index": 255, "alpha": None},
        inputs=inputs.labelled(4, 19, 256, 256),
        peers={
            "kornia": Peer(_kornia_softmax),
            "monai": Peer(_monai_softmax),
            "smp": Peer(_smp_softmax, variant="sigmoid per class"),
        },
    ),
    case(
        "asl_128x9605",
        config={"type": "AsymmetricLossOptimized"},
        inputs=inputs.tags(128, 9605, 0.003),
        elementwise=True,
        peers={"timm": _timm_asl(detached=True), "textbook": Peer(lambda: textbook.asymmetric_optimized)},
    ),
    case(
        "asl_plain_128x9605",
        config={"type": "AsymmetricLoss"},
        inputs=inputs.tags(128, 9605, 0.003),
        elementwise=True,
        peers={"timm": _timm_asl(detached=True)},
    ),
    case(
        "asl_through_128x9605",
        config={"type": "AsymmetricLossOptimized", "disable_torch_grad_focal": False},
        inputs=inputs.tags(128, 9605, 0.003),
        elementwise=True,
        peers={"timm": _timm_asl(detached=False), "mmpretrain": Peer(_mmpretrain_asl)},
    ),
    case(
        "poly_ce_256x1000",
        config={"type": "PolyCrossEntropyLoss"},
        inputs=inputs.labelled(256, 1000),
        peers={"timm": Peer(lambda: load("timm.loss.poly_loss:PolyCrossEntropy")(1.0))},
    ),
    case(
        "poly_focal_20000x80",
        config={"type": "PolyFocalLoss"},
        inputs=inputs.tags(20000, 80, 0.02),
        elementwise=True,
        peers={"timm": Peer(lambda: load("timm.loss.poly_loss:PolyBinaryCrossEntropy")(1.0, 2.0, 0.25))},
    ),
    case(
        "logit_adjusted_256x1000",
        config={"type": "LogitAdjustedCrossEntropyLoss", "class_counts": _LONG_TAIL},
        inputs=inputs.labelled(256, 1000),
        peers={"textbook": Peer(lambda: partial(textbook.balanced_softmax, counts=_LONG_TAIL))},
    ),
    case(
        "jsd_3x128x1000",
        config={"type": "JSDCrossEntropyLoss"},
        inputs=inputs.split(3, 128, 1000),
        peers={"timm": Peer(lambda: load("timm.loss.jsd:JsdCrossEntropy")())},
        grows=(1,),  # the target has a third of the rows
    ),
    case(
        "asl_single_256x1000",
        config={"type": "AsymmetricLossSingleLabel"},
        inputs=inputs.labelled(256, 1000),
        peers={
            "timm": Peer(lambda: load("timm.loss.asymmetric_loss:AsymmetricLossSingleLabel")(gamma_pos=0, gamma_neg=4))
        },
    ),
    case(
        "zlpr_128x9605",
        config={"type": "ZLPRLoss"},
        inputs=inputs.tags(128, 9605, 0.003),
        peers={"timm": Peer(lambda: load("timm.loss.zlpr_loss:ZlprLoss")())},
    ),
    case(
        "seesaw_512x1203",
        config={"type": "SeesawLoss", "num_classes": 1203},
        inputs=inputs.labelled(512, 1203),
        peers={"mmdet": Peer(_mmdet_seesaw)},
    ),
    case(
        "two_way_128x9605",
        config={"type": "TwoWayLoss"},
        inputs=inputs.tags(128, 9605, 0.003),
        peers={"timm": Peer(lambda: load("timm.loss.two_way_loss:TwoWayLoss")())},
        budget=2.5,
    ),
]
