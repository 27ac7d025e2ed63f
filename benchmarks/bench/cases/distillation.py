"""Cases of losses-distill."""

from __future__ import annotations

import types
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from bench import inputs, textbook
from bench.case import Case, Function, Inputs, Peer
from bench.peers import load

case = partial(Case, package="losses-distill")


def _kd(n: int, c: int) -> dict[str, Peer]:
    return {
        "torch": Peer(lambda: textbook.kl),
        "mmrazor": Peer(lambda: load("mmrazor.models.losses.kl_divergence:KLDivergence")(tau=4.0)),
    }


def _dkd() -> Function:
    loss = load("mmrazor.models.losses.decoupled_kd:DKDLoss")(tau=4.0, alpha=1.0, beta=8.0)
    return lambda x, t, labels: loss(x, t, labels)


def _classified_pair(n: int, c: int) -> inputs.Make:
    def make(g: Generator) -> Inputs:
        given = inputs.pair(n, c, scale=2.0)(g)
        return Inputs(given.pred, given.target, {"labels": inputs.labels(g, c, n)})

    return make


def _torchdistill(name: str, *arguments: object, **options: object) -> Function:
    loss = load(f"torchdistill.losses.mid_level:{name}")(*arguments, **options)
    return lambda x, t: loss({"m": {"output": x}}, {"m": {"output": t}})


def _torchdistill_rkd() -> Function:
    return _torchdistill(
        "RKDLoss", student_output_path="m", teacher_output_path="m", dist_factor=1.0, angle_factor=0.0, reduction="mean"
    )


_SAME = {"student": {"io": "output", "path": "m"}, "teacher": {"io": "output", "path": "m"}}


def _mmrazor_mgd() -> Function:
    generation = textbook.MaskedGeneration(256).generation
    loss = load("mmrazor.models.losses.mgd_loss:MGDLoss")()

    def generate(x: Tensor, t: Tensor) -> Tensor:
        n, _, h, w = x.shape
        keep = torch.where(torch.rand(n, 1, h, w) > 0.35, 0, 1)
        return loss(generation(x * keep), t)  # type: ignore[no-any-return]

    return generate


_BANK, _NEGATIVES = 50_000, 16_384


def _memory(g: Generator) -> Inputs:
    given = inputs.embeddings(64, 128)(g)
    contrast = torch.randint(_BANK, (64, 1 + _NEGATIVES), generator=g)
    index = torch.randperm(_BANK, generator=g)[:64]
    contrast[:, 0] = index
    return Inputs(given.pred, given.target, {"sample_idx": index, "contrast_idx": contrast})


def _torchdistill_crd() -> Function:
    loss = load("torchdistill.losses.mid_level:CRDLoss")(
        "m", "e", "m", input_size=128, output_size=_BANK, num_negative_samples=_NEGATIVES, num_samples=_BANK
    )

    def contrast(x: Tensor, t: Tensor, sample_idx: Tensor, contrast_idx: Tensor) -> Tensor:
        given = {"pos_idx": sample_idx, "contrast_idx": contrast_idx}
        return loss({"m": {"output": x}, "e": {"input": given}}, {"m": {"output": t}})  # type: ignore[no-any-return]

    return contrast


def _mmrazor_crd() -> Function:
    loss = load("mmrazor.models.losses.crd_loss:CRDLoss")(neg_num=_NEGATIVES, sample_n=_BANK, dim_out=128)

    def contrast(x: Tensor, t: Tensor, sample_idx: Tensor, contrast_idx: Tensor) -> Tensor:
        samples = [
            types.SimpleNamespace(sample_idx=i, contrast_sample_idxs=c)
            for i, c in zip(sample_idx, contrast_idx, strict=True)
        ]
        for sample in samples:
            sample.__class__.__contains__ = lambda self, key: hasattr(self, key)  # type: ignore[attr-defined]
        return loss(x, t, samples)  # type: ignore[no-any-return]

    return contrast


class _NTXent(nn.Module):
    """pytorch-metric-learning's loss takes one set of embeddings with labels."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = load("pytorch_metric_learning.losses:NTXentLoss")(temperature=0.07)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        labels = torch.arange(len(x))
        return self.loss(x, labels, ref_emb=t, ref_labels=labels)  # type: ignore[no-any-return]


def _drawn(state: str) -> str:
    return f"{state}; numbers are drawn, so values are not compared"


CASES = [
    case("kd_256x1000", config={"type": "KnowledgeDistillationLoss"}, inputs=inputs.pair(256, 1000, scale=2.0),
         peers=_kd(256, 1000)),
    case("kd_256x32000", config={"type": "KnowledgeDistillationLoss"}, inputs=inputs.pair(256, 32000, scale=2.0),
         peers=_kd(256, 32000)),
    case("dkd_256x1000", config={"type": "DKDLoss"}, inputs=_classified_pair(256, 1000), peers={
        "mmrazor": Peer(lambda: _dkd())}),
    case("dist_256x1000", config={"type": "DISTLoss"}, inputs=inputs.pair(256, 1000, scale=2.0), peers={
        "mmrazor": Peer(lambda: load("mmrazor.models.losses.dist_loss:DISTLoss")())}),
    case("feature_mse_16x256x56", config={"type": "FeatureMSELoss"}, inputs=inputs.features(16, 256, 56, 56),
         elementwise=True, peers={"torch": Peer(lambda: F.mse_loss)}),
    case("feature_mse_norm_8x256x56", config={"type": "FeatureMSELoss", "normalize": True},
         inputs=inputs.features(8, 256, 56, 56), peers={"torch": Peer(lambda: textbook.normalized_mse)}),
    case("feature_l1_8x256x56", config={"type": "FeatureL1Loss"}, inputs=inputs.features(8, 256, 56, 56),
         elementwise=True, peers={"torch": Peer(lambda: F.l1_loss)}),
    case("feature_l1_norm_8x256x56", config={"type": "FeatureL1Loss", "normalize": True},
         inputs=inputs.features(8, 256, 56, 56), peers={"torch": Peer(lambda: textbook.normalized_l1)}),
    case("feature_cosine_8x256x56", config={"type": "FeatureCosineLoss"}, inputs=inputs.features(8, 256, 56, 56),
         peers={"torch": Peer(lambda: textbook.cosine)}),
    case("at_16x256x56", config={"type": "AttentionLoss"}, inputs=inputs.features(16, 256, 56, 56), peers={
        "torchdistill": Peer(lambda: _torchdistill("ATLoss", {"pair": _SAME})),
        "mmrazor": Peer(lambda: load("mmrazor.models.losses.at_loss:ATLoss")()),
    }),
    case("mgd_8x256x32", config={"type": "MGDLoss", "student_channels": 256, "teacher_channels": 256},
         inputs=inputs.features(8, 256, 32, 32), peers={
        "mmrazor": Peer(_mmrazor_mgd, variant="random mask and weights"),
    }),
    case("rkd_distance_256x512", config={"type": "RKDDistanceLoss"}, inputs=inputs.pair(256, 512), peers={
        "mmrazor": Peer(lambda: load("mmrazor.models.losses.relational_kd:DistanceWiseRKD")(
            loss_weight=1.0, with_l2_norm=False)),
        "torchdistill": Peer(_torchdistill_rkd),
    }),
    case("rkd_angle_128x512", config={"type": "RKDAngleLoss"}, inputs=inputs.pair(128, 512), peers={
        "mmrazor": Peer(lambda: load("mmrazor.models.losses.relational_kd:AngleWiseRKD")(
            loss_weight=1.0, with_l2_norm=False)),
    }),
    case("pkt_256x512", config={"type": "PKTLoss"}, inputs=inputs.pair(256, 512), peers={
        "torchdistill": Peer(lambda: _torchdistill("PKTLoss", "m", "output", "m", "output")),
    }),
    case("crd_memory_64x128_k16384", config={"type": "CRDLoss", "num_samples": _BANK, "neg_num": _NEGATIVES},
         inputs=_memory, peers={
        "torchdistill": Peer(_torchdistill_crd, variant=_drawn("random bank")),
        "mmrazor": Peer(_mmrazor_crd, variant=_drawn("random bank")),
    }),
    case("crd_queue_64x128_q16384", config={"type": "CRDLoss", "neg_num": _NEGATIVES}, inputs=inputs.embeddings(64, 128),
         peers={"textbook": Peer(lambda: textbook.QueueContrast(_NEGATIVES, 128), variant="random queue")}),
    case("crd_batch_256x128", config={"type": "CRDLoss", "mode": "batch"}, inputs=inputs.embeddings(256, 128), peers={
        "torch": Peer(lambda: textbook.contrast_in_batch),
        "pytorch-metric-learning": Peer(_NTXent, variant="one way"),
    }),
]
