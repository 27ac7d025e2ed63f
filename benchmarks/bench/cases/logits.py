"""Cases of losses-distill that compare logits."""

from __future__ import annotations

import dataclasses
from functools import partial

from torch import Generator

from bench import inputs, textbook
from bench.case import Case, Function, Inputs, Peer
from bench.peers import load

case = partial(Case, package="losses-distill")

_KD = {
    "torch": Peer(lambda: textbook.kl),
    "mmrazor": Peer(lambda: load("mmrazor.models.losses.kl_divergence:KLDivergence")(tau=4.0)),
}


def mmrazor(module: str, name: str, **options: object) -> Peer:
    return Peer(lambda: load(f"mmrazor.models.losses.{module}:{name}")(**options))


def decoupled() -> Function:
    loss = load("mmrazor.models.losses.decoupled_kd:DKDLoss")(tau=4.0, alpha=1.0, beta=8.0)
    return lambda x, t, labels: loss(x, t, labels)


def _classified_pair(n: int, c: int) -> inputs.Make:
    def make(g: Generator) -> Inputs:
        given = inputs.pair(n, c, scale=2.0)(g)
        return dataclasses.replace(given, call={"labels": inputs.labels(g, c, n)})

    return make


def _most_probable(n: int, c: int, k: int) -> inputs.Make:
    """Logits, and the ids and log-probabilities of the k most probable classes of a teacher."""

    def make(g: Generator) -> Inputs:
        given = inputs.pair(n, c, scale=2.0)(g)
        log_p, ids = given.target.log_softmax(-1).topk(k, -1)
        return Inputs(given.pred, (ids, log_p))

    return make


CASES = [
    case(
        "kd_256x1000",
        config={"type": "KnowledgeDistillationLoss"},
        inputs=inputs.pair(256, 1000, scale=2.0),
        peers=_KD,
    ),
    case(
        "kd_256x32000",
        config={"type": "KnowledgeDistillationLoss"},
        inputs=inputs.pair(256, 32000, scale=2.0),
        peers=_KD,
    ),
    case(
        "dkd_256x1000",
        config={"type": "DKDLoss"},
        inputs=_classified_pair(256, 1000),
        peers={"mmrazor": Peer(decoupled)},
    ),
    case(
        "dist_256x1000",
        config={"type": "DISTLoss"},
        inputs=inputs.pair(256, 1000, scale=2.0),
        peers={"mmrazor": mmrazor("dist_loss", "DISTLoss")},
        budget=None,
    ),
    case(
        "jsd_256x32000",
        config={"type": "GeneralizedJSDLoss"},
        inputs=inputs.pair(256, 32000, scale=2.0),
        peers={"torch": Peer(lambda: textbook.jensen_shannon)},
    ),
    case(
        "sparse_kd_256x32000_k64",
        config={"type": "SparseKDLoss"},
        inputs=_most_probable(256, 32000, 64),
        peers={"torch": Peer(lambda: textbook.sparse_kl)},
    ),
    case(
        "binary_kd_20000x80",
        config={"type": "BinaryKDLoss"},
        inputs=inputs.pair(20000, 80, scale=2.0),
        peers={"torch": Peer(lambda: textbook.binary_kl)},
        elementwise=True,
    ),
]
