"""Losses between student and teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import textbook
from bench.case import Inputs
from bench.cases.distillation import NTXent, torchdistill
from bench.cases.logits import decoupled, mmrazor
from bench.edges import exact
from bench.edges.inputs import ANY, changed, compiled, half, nothing, one, random, saturated
from bench.edges.libraries import always
from bench.edges.subject import Edge, Implementation, Subject
from losses_core import build_loss

Make = Callable[[], Inputs]


def logits() -> Inputs:
    return Inputs(random(6, 5), random(6, 5, seed=1))


def large() -> Inputs:
    return Inputs(random(256, 1000), random(256, 1000, seed=1))


def classified(make: Make) -> Make:
    return lambda: dataclasses.replace(make(), call={"labels": torch.arange(len(make().pred)) % 5})


def most_probable(make: Make) -> Make:
    """The two most probable classes of the teacher in place of its logits."""

    def listed() -> Inputs:
        given = make()
        log_p, ids = given.target.log_softmax(-1).topk(2, -1)
        return Inputs(given.pred, (ids, log_p))

    return listed


def features() -> Inputs:
    return Inputs(random(4, 6, 5, 5), random(4, 6, 5, 5, seed=1))


def large_features() -> Inputs:
    return Inputs(random(4, 16, 28, 28), random(4, 16, 28, 28, seed=1))


def rows() -> Inputs:
    return Inputs(random(6, 8), random(6, 8, seed=1))


def large_rows() -> Inputs:
    return Inputs(random(64, 128), random(64, 128, seed=1))


def _equal(given: Inputs) -> Tensor:
    pred: Tensor = given.target.clone()
    return pred


def _zeros(given: Inputs) -> Tensor:
    pred = given.pred.clone()
    pred[1] = 0
    return pred


def _sure(given: Inputs) -> Tensor:
    pred = given.pred.clone()
    pred[:, 0] = 60
    return pred


def _all_zeros(given: Inputs) -> Tensor:
    return torch.zeros_like(given.pred)


def _duplicates(given: Inputs) -> Tensor:
    pred = given.pred.clone()
    pred[1:3] = pred[0]
    return pred


def _all_equal(given: Inputs) -> Tensor:
    return given.pred[:1].expand_as(given.pred).clone()


def _constant_channels(given: Inputs) -> Tensor:
    pred = given.pred.clone()
    pred[:, :2] = 3
    return pred


def _one_position(given: Inputs) -> Tensor:
    target: Tensor = given.target[:1, :, :1, :1]
    return target


def _logit_edges(small: Make, big: Make, *, one_class: bool = False) -> tuple[Edge, ...]:
    alone = Edge("one class", lambda: Inputs(random(6, 1), random(6, 1, seed=1)), bounds=ANY, still=True)
    single = (alone,) if one_class else ()
    return (
        *half(big, ", 256×1000"),
        *saturated(small),
        Edge("equal to the teacher", changed(small, _equal), still=True),
        Edge("uniform logits", changed(small, _all_zeros), bounds=ANY),
        Edge("empty batch", nothing(small), still=True),
        Edge("one sample", one(small), bounds=ANY, still=True),
        *single,
        compiled(small),
    )


FEATURES = (
    *half(large_features, ", 16×28×28"),
    Edge("equal to the teacher", changed(features, _equal), still=True),
    Edge("a sample of zeros", changed(features, _zeros)),
    Edge("empty batch", nothing(features), still=True),
    Edge("one sample", one(features)),
    compiled(features),
)
RELATIONS = (
    *half(large_rows, ", 64×128"),
    Edge("equal to the teacher", changed(rows, _equal), still=True),
    Edge("a row of zeros", changed(rows, _zeros)),
    Edge("all zeros", changed(rows, _all_zeros), bounds=ANY, still=True),
    Edge("duplicate rows", changed(rows, _duplicates)),
    Edge("all rows equal", changed(rows, _all_equal), bounds=ANY, still=True),
    Edge("empty batch", nothing(rows), still=True),
    Edge("one sample", one(rows), still=True),
    compiled(rows),
)


def _ours(name: str, right: exact.Exact, **options: object) -> Implementation:
    return always(lambda: build_loss({"type": name, **options}), right)


SAME = {"student": {"io": "output", "path": "m"}, "teacher": {"io": "output", "path": "m"}}
RKD = {"student_output_path": "m", "teacher_output_path": "m", "reduction": "mean"}
WHOLE = {"loss_weight": 1.0, "with_l2_norm": False}
DISTANCES, ANGLES = {"dist_factor": 1.0, "angle_factor": 0.0}, {"dist_factor": 0.0, "angle_factor": 1.0}


SUBJECTS = [
    Subject(
        "Knowledge distillation",
        "Logits of a teacher",
        logits,
        _logit_edges(logits, large, one_class=True),
        {
            "losses": _ours("KnowledgeDistillationLoss", exact.distilled),
            "torch": always(lambda: textbook.kl, exact.distilled),
            "mmrazor": always(mmrazor("kl_divergence", "KLDivergence", tau=4.0).make, exact.distilled),
        },
    ),
    Subject(
        "DKD",
        "Logits of a teacher",
        classified(logits),
        _logit_edges(classified(logits), classified(large)),
        {
            "losses": _ours("DKDLoss", exact.decoupled),
            "mmrazor": always(decoupled, exact.decoupled),
        },
    ),
    Subject(
        "DIST",
        "Logits of a teacher",
        logits,
        _logit_edges(logits, large, one_class=True),
        {
            "losses": _ours("DISTLoss", exact.correlated),
            "mmrazor": always(mmrazor("dist_loss", "DISTLoss").make, exact.correlated),
        },
    ),
    Subject(
        "Jensen-Shannon divergence",
        "Logits of a teacher",
        logits,
        _logit_edges(logits, large, one_class=True),
        {
            "losses": _ours("GeneralizedJSDLoss", exact.jensen_shannon),
            "torch": always(lambda: textbook.jensen_shannon, exact.jensen_shannon),
        },
    ),
    Subject(
        "The most probable classes",
        "Logits of a teacher",
        most_probable(logits),
        (
            *half(most_probable(large), ", 256×1000"),
            *saturated(most_probable(logits)),
            Edge("a student that is sure", changed(most_probable(logits), _sure)),
            Edge("empty batch", nothing(most_probable(logits)), still=True),
            Edge("one sample", one(most_probable(logits)), bounds=ANY, still=True),
            compiled(most_probable(logits)),
        ),
        {
            "losses": _ours("SparseKDLoss", exact.listed),
            "torch": always(lambda: textbook.sparse_kl, exact.listed),
        },
    ),
    Subject(
        "Binary divergence",
        "Logits of a teacher",
        logits,
        _logit_edges(logits, large, one_class=True),
        {
            "losses": _ours("BinaryKDLoss", exact.binary),
            "torch": always(lambda: textbook.binary_kl, exact.binary),
        },
    ),
    Subject(
        "Squared difference",
        "Features of a teacher",
        features,
        FEATURES,
        {
            "losses": _ours("FeatureMSELoss", exact.squared),
            "torch": always(lambda: F.mse_loss, exact.squared),
        },
    ),
    Subject(
        "Cosine",
        "Features of a teacher",
        features,
        FEATURES,
        {
            "losses": _ours("FeatureCosineLoss", exact.cosine),
            "torch": always(lambda: textbook.cosine, exact.cosine),
        },
    ),
    Subject(
        "Attention transfer",
        "Features of a teacher",
        features,
        FEATURES,
        {
            "losses": _ours("AttentionLoss", exact.attention),
            "mmrazor": always(mmrazor("at_loss", "ATLoss").make, exact.attention),
            "torchdistill": always(torchdistill("ATLoss", {"pair": SAME}).make, exact.attention),
        },
    ),
    Subject(
        "Channel-wise divergence",
        "Features of a teacher",
        features,
        FEATURES,
        {
            "losses": _ours("CWDLoss", exact.channels),
            "mmrazor": always(mmrazor("cwd", "ChannelWiseDivergence").make, exact.channels),
        },
    ),
    Subject(
        "Correlation of channels",
        "Features of a teacher",
        features,
        (
            *FEATURES,
            Edge("constant channels", changed(features, _constant_channels)),
            Edge("one position", changed(features, lambda given: given.pred[:1, :, :1, :1], _one_position), still=True),
        ),
        {
            "losses": _ours("PKDLoss", exact.standardized),
            "mmrazor": always(mmrazor("pkd_loss", "PKDLoss").make, exact.standardized),
        },
    ),
    Subject(
        "RKD, distances",
        "Relations between samples",
        rows,
        RELATIONS,
        {
            "losses": _ours("RKDDistanceLoss", exact.distances),
            "mmrazor": always(mmrazor("relational_kd", "DistanceWiseRKD", **WHOLE).make, exact.distances),
            "torchdistill": always(torchdistill("RKDLoss", **DISTANCES, **RKD).make, exact.distances),
        },
    ),
    Subject(
        "RKD, angles",
        "Relations between samples",
        rows,
        RELATIONS,
        {
            "losses": _ours("RKDAngleLoss", exact.angles),
            "mmrazor": always(mmrazor("relational_kd", "AngleWiseRKD", **WHOLE).make, exact.angles),
            "torchdistill": always(torchdistill("RKDLoss", **ANGLES, **RKD).make, exact.angles),
        },
    ),
    Subject(
        "PKT",
        "Relations between samples",
        rows,
        RELATIONS,
        {
            "losses": _ours("PKTLoss", exact.kernels),
            "torchdistill": always(torchdistill("PKTLoss", "m", "output", "m", "output").make, exact.kernels),
        },
    ),
    Subject(
        "Similarities",
        "Relations between samples",
        rows,
        RELATIONS,
        {
            "losses": _ours("SPLoss", exact.similarities),
            "torch": always(lambda: textbook.similarities, exact.similarities),
        },
    ),
    Subject(
        "Contrast in the batch",
        "Relations between samples",
        rows,
        RELATIONS,
        {
            "losses": _ours("CRDLoss", exact.contrast, mode="batch"),
            "pytorch-metric-learning": always(NTXent, exact.contrast),
        },
    ),
]
