"""Cases of losses-distill."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import types
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from bench import inputs, textbook
from bench.case import Case, Function, Inputs, Peer
from bench.cases.logits import mmrazor
from bench.peers import load

case = partial(Case, package="losses-distill")
_WIDTH = (1,)
"""More samples would be quadratically more relations, and pred not the largest tensor."""


def torchdistill(name: str, *arguments: object, **options: object) -> Peer:
    """Its losses pick features out of what all layers of student and teacher gave."""

    def make() -> Function:
        loss = load(f"torchdistill.losses.mid_level:{name}")(*arguments, **options)
        return lambda x, t: loss({"m": {"output": x}}, {"m": {"output": t}})

    return Peer(make)


_SAME = {"student": {"io": "output", "path": "m"}, "teacher": {"io": "output", "path": "m"}}
_RKD = {"student_output_path": "m", "teacher_output_path": "m", "reduction": "mean"}


class _Generated(nn.Module):
    """mmrazor's loss compares features; what generates them from masked ones is the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = textbook.MaskedGeneration(256)
        self.loss: Any = load("mmrazor.models.losses.mgd_loss:MGDLoss")(alpha_mgd=7e-5)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.loss(self.generation(x), t)  # type: ignore[no-any-return]


def _share_generation(ours: Any, theirs: _Generated) -> None:
    for name in ("first", "second"):
        layer: Any = getattr(theirs.generation, name)
        layer.weight.data.copy_(getattr(ours.generation, f"{name}_weight"))
        layer.bias.data.copy_(getattr(ours.generation, f"{name}_bias"))


_BANK, _NEGATIVES = 50_000, 16_384


def _memory(g: Generator) -> Inputs:
    given = inputs.embeddings(64, 128)(g)
    contrast = torch.randint(_BANK, (64, 1 + _NEGATIVES), generator=g)
    index = torch.randperm(_BANK, generator=g)[:64]
    contrast[:, 0] = index
    return dataclasses.replace(given, call={"sample_idx": index, "contrast_idx": contrast})


class _TorchdistillCRD(nn.Module):
    """Both libraries leave to a layer before the loss that embeddings are of length 1."""

    def __init__(self) -> None:
        super().__init__()
        make = load("torchdistill.losses.mid_level:CRDLoss")
        sizes = {"input_size": 128, "output_size": _BANK, "num_negative_samples": _NEGATIVES, "num_samples": _BANK}
        self.loss = self.bank = make("m", "e", "m", **sizes)

    def forward(self, x: Tensor, t: Tensor, sample_idx: Tensor, contrast_idx: Tensor) -> Tensor:
        given, (x, t) = {"pos_idx": sample_idx, "contrast_idx": contrast_idx}, map(F.normalize, (x, t))
        return self.loss({"m": {"output": x}, "e": {"input": given}}, {"m": {"output": t}})  # type: ignore[no-any-return]


class _Sample(types.SimpleNamespace):
    """mmengine's data sample, as far as mmrazor looks at it."""

    def __contains__(self, key: str) -> bool:
        return hasattr(self, key)


class _MmrazorCRD(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss = load("mmrazor.models.losses.crd_loss:CRDLoss")(neg_num=_NEGATIVES, sample_n=_BANK, dim_out=128)
        self.bank = self.loss.contrast

    def forward(self, x: Tensor, t: Tensor, sample_idx: Tensor, contrast_idx: Tensor) -> Tensor:
        rows = zip(sample_idx, contrast_idx, strict=True)
        samples = [_Sample(sample_idx=index, contrast_sample_idxs=others) for index, others in rows]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the constants of its first call
            return self.loss(F.normalize(x), F.normalize(t), samples)  # type: ignore[no-any-return]


def _share_bank(ours: Any, theirs: Any) -> None:
    bank = theirs.bank
    bank.memory_v1.copy_(ours.memory.student)
    bank.memory_v2.copy_(ours.memory.teacher)
    bank.params[2:4] = ours.memory.log_z.exp()


def _share_queue(ours: Any, theirs: textbook.QueueContrast) -> None:
    ours.memory.student.copy_(theirs.students)
    ours.memory.teacher.copy_(theirs.teachers)
    ours.memory.fill.fill_(len(theirs.students))
    ours.memory.pointer.copy_(theirs.pointer)


class NTXent(nn.Module):
    """pytorch-metric-learning's loss looks from the first set of embeddings to the second: so both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = load("pytorch_metric_learning.losses:NTXentLoss")(temperature=0.07)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        # of labels that are one object it takes the sets to be one, too
        labels, others = torch.arange(len(x)), torch.arange(len(x))
        there = self.loss(x, labels, ref_emb=t, ref_labels=others)
        return there + self.loss(t, labels, ref_emb=x, ref_labels=others)  # type: ignore[no-any-return]


CASES = [
    case(
        "feature_mse_16x256x56",
        config={"type": "FeatureMSELoss"},
        inputs=inputs.features(16, 256, 56, 56),
        peers={"torch": Peer(nn.MSELoss)},
        elementwise=True,
    ),
    case(
        "feature_mse_norm_8x256x56",
        config={"type": "FeatureMSELoss", "normalize": True},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"textbook": Peer(lambda: textbook.normalized_mse)},
    ),
    case(
        "feature_l1_8x256x56",
        config={"type": "FeatureL1Loss"},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"torch": Peer(nn.L1Loss)},
        elementwise=True,
    ),
    case(
        "feature_l1_norm_8x256x56",
        config={"type": "FeatureL1Loss", "normalize": True},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"textbook": Peer(lambda: textbook.normalized_l1)},
    ),
    case(
        "feature_cosine_8x256x56",
        config={"type": "FeatureCosineLoss"},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"torch": Peer(lambda: textbook.cosine)},
    ),
    case(
        "at_16x256x56",
        config={"type": "AttentionLoss"},
        inputs=inputs.features(16, 256, 56, 56),
        peers={"torchdistill": torchdistill("ATLoss", {"pair": _SAME}), "mmrazor": mmrazor("at_loss", "ATLoss")},
    ),
    case(
        "mgd_8x256x32",
        config={"type": "MGDLoss", "student_channels": 256, "teacher_channels": 256},
        inputs=inputs.features(8, 256, 32, 32),
        peers={"mmrazor": Peer(_Generated, share=_share_generation)},
        budget=None,
    ),
    case(
        "cwd_8x256x56",
        config={"type": "CWDLoss", "temperature": 4.0},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"mmrazor": mmrazor("cwd", "ChannelWiseDivergence", tau=4.0)},
        budget=2.5,
    ),
    case(
        "pkd_8x256x56",
        config={"type": "PKDLoss"},
        inputs=inputs.features(8, 256, 56, 56),
        peers={"mmrazor": mmrazor("pkd_loss", "PKDLoss")},
        budget=2.5,
    ),
    case(
        "sp_64x256x7",
        config={"type": "SPLoss"},
        inputs=inputs.features(64, 256, 7, 7),
        peers={
            "textbook": Peer(lambda: textbook.similarities),
            "torchdistill": Peer(
                torchdistill("SPKDLoss", "m", "m", "batchmean").make, variant="rows over their L1 norm"
            ),
        },
        grows=(1,),
        budget=None,
    ),
    case(
        "rkd_distance_256x512",
        config={"type": "RKDDistanceLoss"},
        inputs=inputs.pair(256, 512),
        peers={
            "mmrazor": mmrazor("relational_kd", "DistanceWiseRKD", loss_weight=1.0, with_l2_norm=False),
            "torchdistill": torchdistill("RKDLoss", dist_factor=1.0, angle_factor=0.0, **_RKD),
        },
        grows=_WIDTH,
        budget=None,
    ),
    case(
        "rkd_angle_128x512",
        config={"type": "RKDAngleLoss"},
        inputs=inputs.pair(128, 512),
        peers={
            "mmrazor": mmrazor("relational_kd", "AngleWiseRKD", loss_weight=1.0, with_l2_norm=False),
            "torchdistill": torchdistill("RKDLoss", dist_factor=0.0, angle_factor=1.0, **_RKD),
        },
        grows=_WIDTH,
        budget=None,
    ),
    case(
        "pkt_256x512",
        config={"type": "PKTLoss"},
        inputs=inputs.pair(256, 512),
        peers={"torchdistill": torchdistill("PKTLoss", "m", "output", "m", "output")},
        grows=_WIDTH,
        budget=None,
    ),
    case(
        "crd_memory_64x128_k16384",
        config={"type": "CRDLoss", "num_samples": _BANK, "neg_num": _NEGATIVES},
        inputs=_memory,
        peers={
            "torchdistill": Peer(_TorchdistillCRD, share=_share_bank),
            "mmrazor": Peer(_MmrazorCRD, share=_share_bank),
        },
        grows=(),
    ),
    case(
        "crd_queue_64x128_q16384",
        config={"type": "CRDLoss", "neg_num": _NEGATIVES},
        inputs=inputs.embeddings(64, 128),
        peers={"textbook": Peer(lambda: textbook.QueueContrast(_NEGATIVES, 128), share=_share_queue)},
        grows=(),
    ),
    case(
        "crd_batch_256x128",
        config={"type": "CRDLoss", "mode": "batch"},
        inputs=inputs.embeddings(256, 128),
        peers={
            "textbook": Peer(lambda: textbook.contrast_in_batch),
            "pytorch-metric-learning": Peer(NTXent),
        },
        grows=_WIDTH,
        budget=None,
    ),
]
