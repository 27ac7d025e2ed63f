"""The table of cases: each distillation loss, with each option that changes what it computes."""

from __future__ import annotations

import torch

from losses_core.utils.precision import map_tensors
from losses_testkit import Case, Inputs

from . import oracles

C, S = 7, (3, 2)


def _randn(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def logits(*spatial, last=False):
    """Teacher and student logits (n,C,*spatial), or with the classes last."""

    def make(generator, n):
        shape = (n, *spatial, C) if last else (n, C, *spatial)
        return Inputs(_randn(generator, *shape) * 2, _randn(generator, *shape) * 2)

    return make


def labelled(*spatial, last=False):
    def make(generator, n):
        inputs = logits(*spatial, last=last)(generator, n)
        inputs.call["labels"] = torch.randint(0, C, (n, *spatial), generator=generator)
        return inputs

    return make


def ignore_labels(axis=1, value=-100):
    def ignore(inputs):
        labels = inputs.call["labels"].clone()
        labels[0] = labels[-1:] = value
        if labels.ndim > 1:
            labels[1, 1] = value
        return Inputs(inputs.pred, inputs.target, {"labels": labels}), (labels == value).unsqueeze(axis).expand_as(
            inputs.pred
        )

    return ignore


def ignore_all(inputs):
    return Inputs(inputs.pred, inputs.target, {"labels": torch.full_like(inputs.call["labels"], -100)})


def top_k(*places, k=3, temperature=1.0, padding=False):
    """Logits of a student (n,*places,C), and ids and log-probabilities of the k most probable classes of a teacher."""

    def make(generator, n):
        teacher = torch.log_softmax(_randn(generator, n, *places, C) * 2 / temperature, -1)
        log_p, ids = teacher.topk(k, -1)
        if padding:
            ids[..., 1] = -1
            log_p[..., 0, -1] = -INF
            ids[-1:] = -1  # nothing is listed
        return Inputs(_randn(generator, n, *places, C) * 2, (ids, log_p))

    return make


def labelled_top_k(*places):
    def make(generator, n):
        inputs = top_k(*places)(generator, n)
        inputs.call["labels"] = torch.randint(0, C, (n, *places), generator=generator)
        return inputs

    return make


def features(*shape, teacher=None, shift=0.0):
    """Features (n,*shape) of the student and (n,*teacher) of the teacher."""

    def make(generator, n):
        theirs = shape if teacher is None else teacher
        return Inputs(_randn(generator, n, *shape) + shift, _randn(generator, n, *theirs))

    return make


def stages(generator, n):
    pred = [_randn(generator, n, 3, 5, 7), _randn(generator, n, 3, 2, 2)]
    return Inputs(pred, [_randn(generator, n, 5, 2, 3), _randn(generator, n, 3, 5, 5)])


def bank_inputs(generator, n):
    """Embeddings, the image of each sample, and one positive with six negatives per sample, of sixteen images."""
    inputs = features(6)(generator, n)
    sample_idx = torch.randperm(16, generator=generator)[:n]
    negatives = torch.randint(0, 16, (n, 6), generator=generator)
    inputs.call = {"sample_idx": sample_idx, "contrast_idx": torch.cat([sample_idx.unsqueeze(1), negatives], 1)}
    return inputs


def same_images(generator, n):
    inputs = features(6)(generator, n)
    inputs.call = {"sample_idx": torch.arange(n) // 2}
    return inputs


def _at(pred, target, **call):
    def double(tensor):
        return tensor.double() if tensor.is_floating_point() else tensor

    return lambda: Inputs(double(pred), map_tensors(double, target), call)


INF = float("inf")
GAPS = torch.tensor([[2000.0, 0.0, -2000.0], [0.0, 0.0, 0.0], [-2000.0, 2000.0, 0.0], [1e4, 1e4, -1e4]])
MASKED = torch.tensor([[1.0, -INF, 2.0, 0.5], [0.0, 1.0, 0.0, -INF], [-INF, 1.0, 3.0, -INF]])
LOGIT_EDGES = {
    "gaps of 2000": _at(GAPS, GAPS.flip(1)),
    "-inf in both": _at(MASKED, MASKED * 2),
    "equal": _at(GAPS, GAPS),
    "one class": _at(torch.randn(3, 1), torch.randn(3, 1)),
    "one sample": _at(torch.randn(1, 5), torch.randn(1, 5)),
    "uniform": _at(torch.full((3, 5), 7.0), torch.zeros(3, 5)),
}
LABEL = torch.tensor([0, 1, 2, 0])
DKD_EDGES = {
    "-inf at the label": _at(MASKED, MASKED * 2, labels=torch.tensor([1, 3, 0])),
    "gaps of 2000": _at(GAPS, GAPS.flip(1), labels=LABEL),
    "-inf in both": _at(MASKED, MASKED * 2, labels=torch.tensor([0, 1, 2])),
    "equal": _at(GAPS, GAPS, labels=LABEL),
    "one class": _at(torch.randn(3, 1), torch.randn(3, 1), labels=torch.zeros(3, dtype=torch.long)),
    "one sample": _at(torch.randn(1, 5), torch.randn(1, 5), labels=LABEL[:1]),
    "uniform": _at(torch.full((3, 5), 7.0), torch.zeros(3, 5), labels=LABEL[:3]),
    "all ignored": _at(GAPS, GAPS.flip(1), labels=torch.full((4,), -100)),
}
_LISTED = torch.tensor([[0, 1], [2, 1], [-1, 0], [-1, -1]])
SPARSE_EDGES = {
    "gaps of 2000": _at(GAPS, (_LISTED[[0, 1, 0, 1]], GAPS.flip(1).log_softmax(1)[:, :2])),
    "padding": _at(GAPS[[1] * 4], (_LISTED, torch.full((4, 2), -1.5))),
    "teacher without a rest": _at(GAPS, (_LISTED[[0] * 4], torch.tensor([[-0.5, -0.2]] * 4))),
    "-inf in both": _at(MASKED, (torch.tensor([[0, 2], [1, 2], [1, 2]]), torch.tensor([[-0.5, -0.9]] * 3))),
    "all classes": _at(GAPS, (torch.tensor([[0, 1, 2]] * 4), GAPS.flip(1).log_softmax(1))),
    "one class": _at(torch.randn(3, 1), (torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1))),
    "uniform": _at(torch.full((3, 5), 7.0), (torch.tensor([[0, 1]] * 3), torch.full((3, 2), -1.6))),
}
ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
ROW_EDGES = {
    "duplicate rows": _at(ROWS[[0, 0, 1, 1, 1, 2]], ROWS),
    "duplicate rows of the teacher": _at(ROWS, ROWS[[0, 0, 1, 1, 1, 2]]),
    "all rows equal": _at(ROWS[[0] * 6], ROWS),
    "zero rows": _at(ROWS * torch.tensor([0, 0, 1, 1, 1, 1]).unsqueeze(1), ROWS),
    "all zero": _at(ROWS * 0, ROWS * 0),
    "far from zero": _at(ROWS + 1e4, ROWS),
    "equal": _at(ROWS, ROWS),
    "opposite": _at(-ROWS, ROWS),
    "one sample": _at(ROWS[:1], ROWS[:1]),
    "two samples": _at(ROWS[:2], ROWS[:2]),
}
MAPS = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(6))
MAP_EDGES = {
    "zero vectors": _at(MAPS * (torch.arange(3) > 0), MAPS),
    "zero teacher": _at(MAPS, MAPS * 0),
    "all zero": _at(MAPS * 0, MAPS * 0),
    "equal": _at(MAPS, MAPS),
    "opposite": _at(-MAPS, MAPS),
    "tiny": _at(MAPS * 1e-7, MAPS * 1e-7),
}

KD = {"make": logits(), "edges": LOGIT_EDGES, "saved": 2.0}


def sent_moments(inputs, sizes):
    """Sums of both classes and of rows, then three sums of each class; the gradient of both comes back."""
    classes = inputs.pred.shape[-1]
    there = [(2 * classes + 3) * 8, 3 * classes * 8]
    return there, there[::-1]


def sent_rows(width=None, *more):
    """How many rows, and the rows of student and teacher, whose gradient comes back; ``more`` before the sums."""

    def sent(inputs, sizes):
        both = sum(x[0].numel() for x in (inputs.pred, inputs.target)) if width is None else 2 * width
        numbers = [part(sizes) if callable(part) else part for part in more]
        return [8, max(sizes) * both * 8, *numbers, 16], [sum(sizes) * both * 8]

    return sent


def sent_channels(inputs, sizes):
    """Sums and numbers, moments, and largest magnitudes of each channel; the gradient of the first two comes back."""
    channels = inputs.target.shape[2 if inputs.target.ndim == 3 else 1]
    return [3 * channels * 8, 2 * channels * 8, 2 * channels * 8, 16], [2 * channels * 8, 3 * channels * 8]


def _own_images(sizes):
    return max(sizes) * 8


def _log_z(sizes):
    """A logarithm and a count from each rank."""
    return len(sizes) * 2 * 8


RELATION = {
    "make": features(7, teacher=(5,)),
    "weight": False,
    "edges": ROW_EDGES,
    "sent": sent_rows(),
    "why": "samples are compared with each other",
}
POOLED = "the smaller of two sizes is not in the target alone"
ADAPTED = features(3, 2, 5, teacher=(7, 2, 5))
PKD = {"weight": False, "sent": sent_channels, "why": "the elements of a channel are compared with each other"}
PKD_EDGES = {
    **MAP_EDGES,
    "constant channels": _at(MAPS * torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1) + 3, MAPS),
    "constant teacher": _at(MAPS, MAPS * 0 + 7),
    "far from zero": _at(MAPS + 1e4, MAPS),
    "one element": _at(MAPS[:1, :, :1, :1], MAPS[:1, :, :1, :1]),
}
CONTRAST = {**RELATION, "ranks_compile_from": (2, 10)}
STATEFUL = {**CONTRAST, "stateful": True}
# no axis of 4, the batch that is compiled first: the compiler takes axes of one size for one symbol
TOKENS, MAP, VECTOR = (3, 5), (5, 3, 2), (5,)


def _case(loss, oracle, kind, id="", **options):
    settings = {name: options.pop(name) for name in list(options) if name in Case.__dataclass_fields__}
    return Case(loss, oracle=oracle, options=options, id=id, **{**kind, **settings})


def _kd(id="", **options):
    return _case("KnowledgeDistillationLoss", oracles.kd, KD, id, **options)


def _jsd(id="", **options):
    return _case("GeneralizedJSDLoss", oracles.jsd, {**KD, "peak": 1.5}, id, **options)


def _sparse(id="", make=None, **options):
    kind = {"make": make or top_k(), "edges": SPARSE_EDGES, "saved": 2.5}
    return _case("SparseKDLoss", oracles.sparse_kd, kind, id, **options)


def _features(loss, oracle):
    """The three elementwise losses have one list of parameters. Saved for backward: pred and target."""
    shared = {"edges": MAP_EDGES, "saved": 2.0, "peak": 1.5}
    return [
        _case(loss, oracle, {**shared, "make": features(*MAP)}),
        _case(loss, oracle, {**shared, "make": features(*TOKENS)}, "tokens", edges={}),
        _case(loss, oracle, {**shared, "make": features(*VECTOR)}, "vectors", edges={}),
        _case(loss, oracle, {**shared, "make": features(5, 2, 2, 3)}, "volumes", edges={}),
        _case(loss, oracle, {**shared, "make": features(*MAP)}, "normalize", normalize=True),
        _case(loss, oracle, {**shared, "make": features(*TOKENS)}, "normalize tokens", normalize=True, edges={}),
        _case(loss, oracle, {**shared, "make": features(*VECTOR)}, "normalize vectors", normalize=True, edges={}),
        _case(
            loss,
            oracle,
            {"make": features(3, 2, 5, teacher=(7, 2, 5))},
            "adapter",
            student_channels=3,
            teacher_channels=7,
            normalize=True,
        ),
        _case(
            loss,
            oracle,
            {"make": features(5, 3, teacher=(2, 5)), "normalizer": False, "why": POOLED},
            "adapter of pooled tokens",
            student_channels=3,
            teacher_channels=5,
            resize="min",
        ),
        _case(loss, oracle, {"make": features(*MAP)}, "weighted mean", weighted_mean=True),
        _case(
            loss,
            oracle,
            {"make": features(3, 5, 3, teacher=(3, 3, 7)), "normalizer": False, "why": POOLED},
            "pooled",
            resize="min",
            student_channels=3,
            teacher_channels=3,
        ),
    ]


CASES = [
    _kd(),
    _kd("reverse", kl_direction="reverse", temperature=2.0),
    _kd("dense", make=logits(*S), reduction="mean", edges={}),
    _kd("tokens", make=logits(5, last=True), class_dim=-1, edges={}),
    _kd("standardized", logit_standardize=True, temperature=1.5),
    _kd("standardized reverse", logit_standardize=True, kl_direction="reverse", temperature=1.0),
    _kd("labels", make=labelled(*S), ignore=ignore_labels(), ignore_all=ignore_all, edges={}, saved=None),
    _kd(
        "token labels",
        make=labelled(5, last=True),
        class_dim=2,
        kl_direction="reverse",
        ignore=ignore_labels(-1),
        ignore_all=ignore_all,
        edges={},
        saved=None,
    ),
    _kd("mutual", teacher_detach=False),
    _case(
        "DKDLoss",
        oracles.dkd,
        {"make": labelled(), "ignore": ignore_labels(), "ignore_all": ignore_all, "edges": DKD_EDGES, "saved": 2.0},
    ),
    _case(
        "DKDLoss",
        oracles.dkd,
        {"make": labelled(*S), "ignore": ignore_labels(), "ignore_all": ignore_all},
        "dense",
        temperature=1.0,
        alpha=0.5,
        beta=2.0,
    ),
    _case(
        "DKDLoss",
        oracles.dkd,
        {"make": labelled(5, last=True), "ignore": ignore_labels(-1, 255), "saved": 2.0},
        "tokens",
        class_dim=-1,
        ignore_index=255,
        teacher_detach=False,
    ),
    *(
        _case(
            "DISTLoss",
            oracles.dist,
            {
                "make": make,
                "edges": LOGIT_EDGES if not options.get("class_dim") else {},
                "weight": False,
                "avg_factor": False,
                "sent": sent_moments,
                "why": "one number for the batch: no weight, no denominator",
            },
            id,
            **options,
        )
        for id, make, options in (
            ("", logits(), {}),
            ("rows", logits(), {"gamma": 0.0, "temperature": 4.0}),
            ("columns", logits(), {"beta": 0.0, "gamma": 2.0}),
            ("tokens", logits(5, last=True), {"class_dim": -1, "temperature": 2.0}),
        )
    ),
    _jsd(),
    _jsd("beta 0.1 hot", beta=0.1, temperature=3.0, temperature_squared=True),
    _jsd("forward", beta=0, temperature=2.0),
    _jsd("reverse", beta=1.0, temperature=2.0, temperature_squared=True),
    _jsd("skewed forward", beta=0.0, skew=0.1, temperature=1.5),
    _jsd("skewed reverse", beta=1, skew=0.1),
    _jsd("tokens", make=logits(5, last=True), class_dim=-1, edges={}, teacher_detach=False),
    _jsd("labels", make=labelled(*S), ignore=ignore_labels(), ignore_all=ignore_all, edges={}, saved=None),
    _jsd(
        "token labels",
        make=labelled(5, last=True),
        class_dim=2,
        beta=0.7,
        ignore=ignore_labels(-1),
        ignore_all=ignore_all,
        edges={},
        saved=None,
    ),
    _sparse(),
    _sparse("ignore", tail="ignore"),
    _sparse("renormalize", tail="renormalize", temperature=2.0),
    _sparse("hot", top_k(temperature=1.5), temperature=3.0, teacher_temperature=1.5),
    _sparse("hot ignore", temperature=0.5, tail="ignore"),
    _sparse("all classes", top_k(k=C, temperature=2.0), saved=None, temperature=3.0, teacher_temperature=2.0),
    _sparse("tokens with padding", top_k(5, padding=True)),
    _sparse("padding renormalize", top_k(5, padding=True), tail="renormalize"),
    _sparse("labels", labelled_top_k(*S), ignore=ignore_labels(-1), ignore_all=ignore_all, saved=None),
    _case("BinaryKDLoss", oracles.binary_kd, {**KD, "peak": 1.5}),
    _case("BinaryKDLoss", oracles.binary_kd, {**KD, "make": logits(*S), "peak": 1.5}, "hot", temperature=3.0),
    *_features("FeatureMSELoss", oracles.feature(2)),
    *_features("FeatureL1Loss", oracles.feature(1)),
    *_features("FeatureCosineLoss", oracles.feature_cosine),
    *(
        _case("AttentionLoss", oracles.attention, {"make": make, "edges": edges}, id, **options)
        for id, make, edges, options in (
            ("", features(5, 3, 7, teacher=(3, 2, 5)), MAP_EDGES, {}),
            ("paper", features(*MAP), MAP_EDGES, {"mode": "paper"}),
            ("p 1", features(*MAP), MAP_EDGES, {"p": 1, "resize": None}),
            ("p 0.5 paper", features(*MAP), MAP_EDGES, {"p": 0.5, "mode": "paper"}),
            ("p 4 paper", features(*MAP), MAP_EDGES, {"p": 4, "mode": "paper"}),
            ("p 16", features(*MAP), MAP_EDGES, {"p": 16}),
            (
                "plain",
                features(*MAP),
                {},
                {"normalize": False, "p": 3, "logits": False},
            ),  # 6e4³ is beyond half precision
            ("tokens", features(7, 3, teacher=(3, 5)), {}, {}),
            ("stages", stages, {}, {}),
            ("stages paper", stages, {}, {"mode": "paper"}),
        )
    ),
    _case(
        "MGDLoss",
        oracles.mgd,
        {"make": features(3, 2, 5, teacher=(5, 2, 5)), "draws": True},
        lambda_mgd=0.0,
        student_channels=3,
        teacher_channels=5,
        alpha_mgd=0.01,
    ),
    _case(
        "MGDLoss",
        oracles.mgd,
        {"make": features(3, 2, 5), "draws": True},
        "channel",
        lambda_mgd=0.0,
        student_channels=3,
        teacher_channels=3,
        mask_mode="channel",
    ),
    *(
        _case("CWDLoss", oracles.cwd, {"make": make, "edges": edges, **bounds}, id, **options)
        for id, make, edges, bounds, options in (
            ("", features(*MAP), MAP_EDGES, {"saved": 2.0, "peak": 2.5}, {}),
            ("hot tokens", features(*TOKENS), {}, {"saved": 2.0, "peak": 2.5}, {"temperature": 4.0}),
            ("volumes", features(5, 2, 2, 3), {}, {"saved": 2.0, "peak": 2.5}, {}),
            ("pooled", features(3, 5, 3, teacher=(3, 3, 7)), {}, {}, {"resize": "min"}),
            ("adapter", ADAPTED, {}, {}, {"student_channels": 3, "teacher_channels": 7}),
        )
    ),
    *(
        _case("PKDLoss", oracles.pkd, {**PKD, "make": make, "edges": edges, **bounds}, id, **options)
        for id, make, edges, bounds, options in (
            ("", features(*MAP, shift=3.0), PKD_EDGES, {"saved": 2.0, "peak": 2.5}, {}),
            ("tokens", features(*TOKENS), {}, {"saved": 2.0, "peak": 2.5}, {}),
            ("vectors", features(*VECTOR), {}, {"saved": 2.0, "peak": 2.5}, {}),
            ("volumes", features(5, 2, 2, 3), {}, {"saved": 2.0, "peak": 2.5}, {"eps": 1e-3}),
            ("pooled", features(3, 5, 3, teacher=(3, 3, 7)), {}, {}, {"resize": "min"}),
            ("adapter", ADAPTED, {}, {}, {"student_channels": 3, "teacher_channels": 7}),
        )
    ),
    _case("SPLoss", oracles.sp, RELATION),
    _case("SPLoss", oracles.sp, RELATION, "maps", make=features(3, 2, 2, teacher=(5, 3)), edges={}),
    _case("SPLoss", oracles.sp, RELATION, "eps", eps=1e-3),
    _case("RKDDistanceLoss", oracles.rkd_distance, RELATION),
    _case("RKDDistanceLoss", oracles.rkd_distance, RELATION, "squared", squared=True),
    _case("RKDDistanceLoss", oracles.rkd_distance, RELATION, "normalized", l2_normalize=True),
    _case("RKDDistanceLoss", oracles.rkd_distance, RELATION, "maps", make=features(3, 2, 2, teacher=(5, 3)), edges={}),
    _case("RKDAngleLoss", oracles.rkd_angle, RELATION),
    _case("RKDAngleLoss", oracles.rkd_angle, RELATION, "normalized", l2_normalize=True),
    _case("RKDAngleLoss", oracles.rkd_angle, RELATION, "chunks", chunk_size=2),
    _case("PKTLoss", oracles.pkt, RELATION),
    _case("PKTLoss", oracles.pkt, RELATION, "eps", eps=1e-3),
    _case("CRDLoss", oracles.crd, {**STATEFUL, "make": features(6), "edges": ROW_EDGES}),
    _case("CRDLoss", oracles.crd, {**CONTRAST, "make": features(6)}, "batch", mode="batch", temperature=0.2),
    _case("CRDLoss", oracles.crd, {**CONTRAST, "make": features(6)}, "batch cold", mode="batch", temperature=0.03),
    _case(
        "CRDLoss",
        oracles.crd,
        {**STATEFUL, "make": same_images, "edges": {}, "sent": sent_rows(None, 8, _own_images)},
        "same images",
        neg_num=20,
    ),
    _case(
        "CRDLoss",
        oracles.crd,
        {**STATEFUL, "make": features(7, teacher=(5,)), "edges": {}, "sent": sent_rows(3)},
        "heads",
        neg_num=20,
        student_channels=7,
        teacher_channels=5,
        feat_dim=3,
    ),
    _case(
        "CRDLoss",
        oracles.crd,
        {
            **STATEFUL,
            "make": bank_inputs,
            "edges": {},
            "sent": sent_rows(None, 8, _own_images, _log_z, _log_z),
            "draws": True,
            "ranks_compile_from": (2, 13),
            "gradcheck": False,
            "gradgradcheck": False,
            "why": "Z of the first batch counts as a constant",
        },
        "memory",
        num_samples=16,
        neg_num=6,
    ),
]
