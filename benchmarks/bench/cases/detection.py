"""Cases of losses-det."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from bench import inputs, textbook, textbook_detection
from bench.case import Case, Function, Peer
from bench.peers import load
from losses_det.keypoint_loss import COCO_SIGMAS

case = partial(Case, package="losses-det")


def _mmdet(module: str, name: str, variant: str | None = None, **options: object) -> Peer:
    return Peer(lambda: load(f"mmdet.models.losses.{module}:{name}")(**options), variant)


def _mean(target: str) -> Peer:
    return Peer(lambda: partial(load(target), reduction="mean"))


_BOXES: Mapping[str, Mapping[str, Peer]] = {
    "IoULoss": {"mmdet": _mmdet("iou_loss", "IoULoss", mode="log")},
    "GIoULoss": {
        "mmdet": _mmdet("iou_loss", "GIoULoss"),
        "torchvision": _mean("torchvision.ops.giou_loss:generalized_box_iou_loss"),
        "fvcore": _mean("fvcore.nn.giou_loss:giou_loss"),
    },
    "DIoULoss": {
        "mmdet": _mmdet("iou_loss", "DIoULoss"),
        "torchvision": _mean("torchvision.ops.diou_loss:distance_box_iou_loss"),
    },
    "CIoULoss": {
        "mmdet": _mmdet("iou_loss", "CIoULoss", "no aspect ratio where the IoU is 0.5 or less"),
        "torchvision": _mean("torchvision.ops.ciou_loss:complete_box_iou_loss"),
    },
    "EIoULoss": {"textbook": Peer(lambda: textbook.eiou)},
    "SIoULoss": {
        "mmdet": _mmdet("iou_loss", "SIoULoss", neg_gamma=True),
        "textbook": Peer(lambda: textbook.siou),
    },
}


def _boxes() -> list[Case]:
    sizes = {"200k": 200_000, "300": 300}
    return [
        case(
            f"{loss.removesuffix('Loss').lower()}_{name}",
            config={"type": loss},
            inputs=inputs.boxes(n),
            peers=peers,
            elementwise=True,
            grows=(0,) if name == "200k" else (),
        )
        for loss, peers in _BOXES.items()
        for name, n in sizes.items()
    ]


def _more_boxes() -> list[Case]:
    configs: dict[str, tuple[dict[str, object], inputs.Make, Peer]] = {
        "mpdiou": (
            {"type": "MPDIoULoss", "image_size": [640, 640]},
            inputs.boxes(200_000),
            Peer(lambda: textbook_detection.mpdiou),
        ),
        "wiou": ({"type": "WIoULoss"}, inputs.boxes(200_000), Peer(textbook_detection.WiseIoU)),
        "nwd": ({"type": "NWDLoss"}, inputs.boxes(200_000), Peer(lambda: textbook_detection.nwd)),
        "probiou": ({"type": "ProbIoULoss"}, inputs.rotated(200_000), Peer(lambda: textbook_detection.probiou)),
        "gwd": ({"type": "GWDLoss"}, inputs.rotated(200_000), Peer(lambda: textbook_detection.gwd)),
        "kld": ({"type": "KLDLoss"}, inputs.rotated(200_000), Peer(lambda: textbook_detection.kld)),
    }
    return [
        case(f"{name}_200k", config=config, inputs=given, peers={"textbook": peer}, elementwise=True)
        for name, (config, given, peer) in configs.items()
    ]


def _offsets(name: str, loss: str, peers: Mapping[str, Peer]) -> list[Case]:
    return [
        case(
            f"{name}_{size}",
            config={"type": loss},
            inputs=inputs.offsets(n),
            peers=peers,
            elementwise=True,
            grows=(0,) if size == "200k" else (),
        )
        for size, n in {"200k": 200_000, "300": 300}.items()
    ]


def _fvcore_smooth_l1() -> Function:
    return partial(load("fvcore.nn.smooth_l1_loss:smooth_l1_loss"), beta=1.0, reduction="mean")


def _mmdet_heatmap() -> Function:
    loss = load("mmdet.models.losses.gaussian_focal_loss:GaussianFocalLoss")()
    return lambda x, y: loss(torch.sigmoid(x), y)


def _textbook_oks() -> Function:
    sigmas = torch.tensor(COCO_SIGMAS)

    def loss(pred: Tensor, target: Tensor, area: Tensor, visibility: Tensor) -> Tensor:
        return textbook_detection.oks(pred, target, area, visibility, sigmas.to(pred))

    return loss


CASES = [
    *_boxes(),
    *_more_boxes(),
    *_offsets(
        "smooth_l1",
        "SmoothL1Loss",
        {
            "torch": Peer(nn.SmoothL1Loss),
            "fvcore": Peer(_fvcore_smooth_l1),
            "mmdet": _mmdet("smooth_l1_loss", "SmoothL1Loss"),
        },
    ),
    *_offsets("l1", "L1Loss", {"torch": Peer(nn.L1Loss), "mmdet": _mmdet("smooth_l1_loss", "L1Loss")}),
    *_offsets("balanced_l1", "BalancedL1Loss", {"mmdet": _mmdet("balanced_l1_loss", "BalancedL1Loss")}),
    case(
        "qfl_20000x80",
        config={"type": "QualityFocalLoss"},
        inputs=inputs.scored_anchors(20000, 80, 0.02),
        elementwise=True,
        peers={"mmdet": _mmdet("gfocal_loss", "QualityFocalLoss")},
    ),
    case(
        "vfl_20000x80",
        config={"type": "VariFocalLoss"},
        inputs=inputs.scores(20000, 80, 0.02),
        elementwise=True,
        peers={"mmdet": _mmdet("varifocal_loss", "VarifocalLoss")},
    ),
    case(
        "dfl_8000x4x17",
        config={"type": "DistributionFocalLoss"},
        inputs=inputs.bins(8000, 4, 17),
        peers={"mmdet": _mmdet("gfocal_loss", "DistributionFocalLoss")},
    ),
    case(
        "mal_20000x80",
        config={"type": "MatchabilityAwareLoss"},
        inputs=inputs.scored_anchors(20000, 80, 0.02),
        elementwise=True,
        peers={"textbook": Peer(lambda: textbook_detection.matchability_aware)},
    ),
    case(
        "iou_bce_20000x80",
        config={"type": "IoUAwareBCELoss"},
        inputs=inputs.scored_anchors(20000, 80, 0.02),
        elementwise=True,
        peers={"textbook": Peer(lambda: textbook_detection.iou_aware)},
    ),
    case(
        "fgl_32000x33",
        config={"type": "FineGrainedLocalizationLoss"},
        inputs=inputs.fine_distances(32000, 33),
        peers={"textbook": Peer(lambda: textbook_detection.fine_grained)},
    ),
    case(
        "ddf_4800x4x33",
        config={"type": "DecoupledDistillationFocalLoss"},
        inputs=inputs.two_layers(4800, 33, 0.02),
        peers={"textbook": Peer(lambda: textbook_detection.decoupled_distillation)},
    ),
    case(
        "gaussian_focal_8x80x128",
        config={"type": "GaussianFocalLoss"},
        inputs=inputs.heatmaps(8, 80, 128, 1e-4),
        elementwise=True,
        peers={
            "mmdet": Peer(_mmdet_heatmap),
            "textbook": Peer(lambda: textbook_detection.gaussian_focal),
        },
    ),
    case(
        "oks_2000x17",
        config={"type": "OKSLoss"},
        inputs=inputs.keypoints(2000, 17),
        peers={"textbook": Peer(_textbook_oks)},
    ),
]
