"""The table of cases: each classification loss, with each option that changes what it computes."""

from __future__ import annotations

import torch

from losses_testkit import Case, Inputs

from . import oracles

C, S = 5, (3, 2)


def index(generator, n):
    return Inputs(_logits(generator, n), torch.randint(0, C, (n, *S), generator=generator))


def split(number):
    """Logits of a batch and its copies, (number·n,C,*S), and labels (n,*S)."""

    def make(generator, n):
        pred = torch.randn(number * n, C, *S, generator=generator, dtype=torch.float64) * 2
        return Inputs(pred, torch.randint(0, C, (n, *S), generator=generator))

    return make


def ignore_in_all_splits(inputs):
    target = inputs.target.clone()
    target[0, 0] = target[1:, 1, 1] = -100
    ignored = (target == -100).unsqueeze(1).expand(-1, C, *S)
    return Inputs(inputs.pred, target), ignored.repeat(inputs.pred.shape[0] // target.shape[0], 1, 1, 1)


def rows(generator, n, classes=C):
    """(n,C) with a background label C among the targets."""
    pred = torch.randn(n, classes, generator=generator, dtype=torch.float64) * 2
    return Inputs(pred, torch.randint(0, classes + 1, (n,), generator=generator))


def soft(generator, n):
    return Inputs(_logits(generator, n), _logits(generator, n).softmax(1))


def multi_hot(generator, n):
    return Inputs(_logits(generator, n), torch.randint(0, 2, (n, C, *S), generator=generator).double())


def probabilities(generator, n):
    inputs = multi_hot(generator, n)
    return Inputs(inputs.pred.sigmoid(), inputs.target)


def column(generator, n):
    """(n,1) with targets (n,)."""
    pred = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return Inputs(pred, torch.randint(0, 2, (n,), generator=generator).double())


def _logits(generator, n):
    return torch.randn(n, C, *S, generator=generator, dtype=torch.float64) * 2


def ignore_labels(value):
    """Ignore a part of (N,*S) labels."""

    def ignore(inputs):
        target = inputs.target.clone()
        target[0, 0] = target[1:, 1, 1] = value
        return Inputs(inputs.pred, target), (target == value).unsqueeze(1).expand_as(inputs.pred)

    return ignore


def ignore_rows(inputs):
    target = inputs.target.clone()
    target[0] = target[2] = -100
    return Inputs(inputs.pred, target), (target == -100).unsqueeze(1).expand_as(inputs.pred)


def ignore_elements(inputs):
    target = inputs.target.clone()
    target[0] = -100
    target[1:, -1] = -100
    return Inputs(inputs.pred, target), (target == -100).reshape(inputs.pred.shape)


def ignore_some_rows(inputs):
    target = inputs.target.clone()
    target[0, :, 0] = -100
    target[1:, -1] = -100
    return Inputs(inputs.pred, target), target == -100


def ignore_all(value=-100):
    return lambda inputs: Inputs(inputs.pred, torch.full_like(inputs.target, value))


def _at(pred, target):
    return lambda: Inputs(pred.double(), target)


SATURATED = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0], [50.0, -50.0]])
EDGES = {
    "right and certain": _at(SATURATED, torch.tensor([0, 1, 0, 0])),
    "wrong and certain": _at(SATURATED, torch.tensor([1, 0, 1, 1])),
    "one class": _at(torch.randn(3, 1), torch.zeros(3, dtype=torch.long)),
}
HARD = SATURATED.sign().clamp(min=0)
ELEMENT_EDGES = {
    "right and certain": _at(SATURATED, HARD),
    "wrong and certain": _at(SATURATED, 1 - HARD),
}

INDEX = {
    "make": index,
    "ignore": ignore_labels(-100),
    "ignore_all": ignore_all(),
    "edges": EDGES,
    "saved": 1.0,
    "peak": 1.5,
}
ELEMENTWISE = {
    "make": multi_hot,
    "ignore": ignore_elements,
    "ignore_all": ignore_all(),
    "edges": ELEMENT_EDGES,
    "saved": 2.0,
    "peak": 1.5,
}
SOFT = {"make": soft, "saved": 2.0, "peak": 1.5}
ROWS = {"make": rows, "ignore": ignore_rows, "ignore_all": ignore_all(), "saved": 2.0, "peak": 1.5}
COUNTS = [1000, 300, 0, 20, 5]
ROWS_OF_ELEMENTS = {**ELEMENTWISE, "ignore": ignore_some_rows}
SEESAW = {
    **INDEX,
    "edges": {},  # of another number of classes
    "stateful": True,
    "gradcheck": False,
    "gradgradcheck": False,
    "why": "the factors carry no gradient on purpose",
    "sent": lambda inputs, sizes: ([8 * C, 16], []),  # the counts of the batch, then the sums
}
TWO_WAY = {
    **ELEMENTWISE,
    "saved": 1.0,
    "peak": 2.5,
    "weight": False,
    "avg_factor": False,
    # of each class and side the largest logit; the sums of them, and what the samples of the rank add up to
    "sent": lambda inputs, sizes: ([16 * C, 16 * C + 16], [16 * C + 16]),
}
SPLIT = {
    "make": split(3),
    "ignore": ignore_in_all_splits,
    "ignore_all": ignore_all(),
    "saved": 1.0,
    "distributed": False,
    "why": "pred has several rows for each of the target, which the contract cannot cut: test_jsd_loss.py does",
}
WEIGHTS = [0.5, 1.0, 2.0, 0.25, 3.0]
DETACHED = {"gradcheck": False, "gradgradcheck": False, "why": "the focusing factor carries no gradient on purpose"}


def _case(loss, oracle, kind, id="", **options):
    if any(isinstance(value, list | torch.Tensor) for value in options.values()):
        kind = {**kind, "edges": {}}  # the edge inputs have another number of classes
    settings = {name: options.pop(name) for name in list(options) if name in Case.__dataclass_fields__}
    return Case(loss, oracle=oracle, options=options, id=id, **{**kind, **settings})


CASES = [
    _case("CrossEntropyLoss", oracles.cross_entropy, INDEX),
    _case("CrossEntropyLoss", oracles.cross_entropy, INDEX, "class weight", class_weight=WEIGHTS),
    _case(
        "CrossEntropyLoss",
        oracles.cross_entropy,
        INDEX,
        "smoothing",
        class_weight=torch.tensor(WEIGHTS),
        label_smoothing=0.2,
    ),
    _case(
        "CrossEntropyLoss",
        oracles.cross_entropy,
        {**INDEX, "ignore": ignore_labels(255), "ignore_all": ignore_all(255)},
        "ignore 255",
        ignore_index=255,
    ),
    _case("CrossEntropyLoss", oracles.cross_entropy, SOFT, "soft", label_smoothing=0.1),
    _case("SoftCrossEntropyLoss", oracles.soft_cross_entropy, SOFT),
    _case("SoftCrossEntropyLoss", oracles.soft_cross_entropy, SOFT, "class weight", class_weight=WEIGHTS),
    _case("BinaryCrossEntropyLoss", oracles.binary_cross_entropy, ELEMENTWISE),
    _case("BinaryCrossEntropyLoss", oracles.binary_cross_entropy, ELEMENTWISE, "pos weight", pos_weight=3.0),
    _case(
        "BinaryCrossEntropyLoss",
        oracles.binary_cross_entropy,
        ELEMENTWISE,
        "per class",
        pos_weight=WEIGHTS,
        class_weight=WEIGHTS[::-1],
    ),
    _case(
        "BinaryCrossEntropyLoss",
        oracles.binary_cross_entropy,
        {**ELEMENTWISE, "make": probabilities, "edges": {}, "logits": False},
        "probabilities",
        with_logits=False,
        pos_weight=2.0,
    ),
    _case(
        "BinaryCrossEntropyLoss",
        oracles.binary_cross_entropy,
        {**ELEMENTWISE, "make": column},
        "column",
        saved=None,
        ignore=None,
    ),
    _case("FocalLoss", oracles.focal, INDEX, saved=1.5),
    _case("FocalLoss", oracles.focal, INDEX, "plain", alpha=None, gamma=0.0, class_weight=WEIGHTS, saved=None),
    _case("FocalLoss", oracles.focal, INDEX, "per class", alpha=WEIGHTS, gamma=0.5, class_weight=WEIGHTS, saved=None),
    _case("FocalLoss", oracles.focal, ROWS, "sigmoid", use_sigmoid=True),
    _case("FocalLoss", oracles.focal, ROWS, "sigmoid per class", use_sigmoid=True, class_weight=WEIGHTS, gamma=0.5),
    _case(
        "FocalLoss",
        oracles.focal,
        {
            **ROWS,
            "make": lambda g, n: Inputs(rows(g, n).pred, multi_hot(g, n).target[..., 0, 0]),
            "ignore": ignore_elements,
        },
        "sigmoid one-hot",
        use_sigmoid=True,
        alpha=[0.5, 1.0, 0.25, 0.1, 1.0],
    ),
    _case("BinaryFocalLoss", oracles.sigmoid_focal, ELEMENTWISE),
    _case("BinaryFocalLoss", oracles.sigmoid_focal, ELEMENTWISE, "soft power", alpha=None, gamma=0.5),
    _case("BinaryFocalLoss", oracles.sigmoid_focal, ELEMENTWISE, "plain", alpha=-1, gamma=0),
    _case("BinaryFocalLoss", oracles.sigmoid_focal, {"make": column}, "column", gamma=1.5),
    _case("BinaryFocalLoss", oracles.sigmoid_focal, SOFT, "soft target"),
    _case("MultiLabelFocalLoss", oracles.sigmoid_focal, ELEMENTWISE),
    _case(
        "MultiLabelFocalLoss",
        oracles.sigmoid_focal,
        ELEMENTWISE,
        "per class",
        alpha=[0.1, 0.3, 0.5, 0.7, 0.9],
        class_weight=WEIGHTS,
        gamma=3.0,
    ),
    _case("LabelSmoothLoss", oracles.label_smooth, INDEX),
    _case(
        "LabelSmoothLoss",
        oracles.label_smooth,
        INDEX,
        "class weight",
        smoothing=0.3,
        num_classes=C,
        class_weight=WEIGHTS,
    ),
    _case("LabelSmoothLoss", oracles.label_smooth, SOFT, "soft"),
    _case("AsymmetricLoss", oracles.asymmetric, ELEMENTWISE, **DETACHED),
    _case("AsymmetricLoss", oracles.asymmetric, ELEMENTWISE, "focus learns", disable_torch_grad_focal=False),
    _case("AsymmetricLossOptimized", oracles.asymmetric, ELEMENTWISE, **DETACHED),
    _case("AsymmetricLossOptimized", oracles.asymmetric, ELEMENTWISE, "focus learns", disable_torch_grad_focal=False),
    _case(
        "AsymmetricLossOptimized",
        oracles.asymmetric,
        ELEMENTWISE,
        "no margin",
        clip=0.0,
        gamma_neg=2.0,
        gamma_pos=0.5,
        disable_torch_grad_focal=False,
    ),
    _case("PolyCrossEntropyLoss", oracles.poly_cross_entropy, INDEX),
    _case("PolyCrossEntropyLoss", oracles.poly_cross_entropy, INDEX, "class weight", epsilon=2.0, class_weight=WEIGHTS),
    _case(
        "PolyCrossEntropyLoss",
        oracles.poly_cross_entropy,
        INDEX,
        "smoothing",
        epsilon=-1.0,
        class_weight=WEIGHTS,
        label_smoothing=0.2,
    ),
    _case("PolyCrossEntropyLoss", oracles.poly_cross_entropy, INDEX, "smoothing alone", label_smoothing=0.1),
    _case("PolyCrossEntropyLoss", oracles.poly_cross_entropy, SOFT, "soft", label_smoothing=0.1, class_weight=WEIGHTS),
    _case("PolyFocalLoss", oracles.poly_focal, ELEMENTWISE),
    _case("PolyFocalLoss", oracles.poly_focal, ELEMENTWISE, "soft power", epsilon=-1.0, alpha=None, gamma=0.5),
    _case("PolyFocalLoss", oracles.poly_focal, ELEMENTWISE, "plain", epsilon=2.0, alpha=-1, gamma=0.0),
    _case("PolyFocalLoss", oracles.poly_focal, {"make": column}, "column", gamma=1.5),
    _case("PolyFocalLoss", oracles.poly_focal, SOFT, "soft target"),
    _case("LogitAdjustedCrossEntropyLoss", oracles.logit_adjusted, INDEX, class_counts=COUNTS),
    _case(
        "LogitAdjustedCrossEntropyLoss",
        oracles.logit_adjusted,
        INDEX,
        "class weight",
        class_counts=torch.tensor(COUNTS) / 1325,
        tau=0.5,
        class_weight=WEIGHTS,
        label_smoothing=0.1,
        adjust_in_eval=True,
    ),
    _case("LogitAdjustedCrossEntropyLoss", oracles.logit_adjusted, INDEX, "plain", class_counts=COUNTS, tau=0.0),
    _case("LogitAdjustedCrossEntropyLoss", oracles.logit_adjusted, SOFT, "soft", class_counts=COUNTS),
    _case("JSDCrossEntropyLoss", oracles.jsd_cross_entropy, SPLIT),
    _case(
        "JSDCrossEntropyLoss",
        oracles.jsd_cross_entropy,
        SPLIT,
        "two",
        make=split(2),
        num_splits=2,
        alpha=3.0,
        smoothing=0.0,
    ),
    _case("JSDCrossEntropyLoss", oracles.jsd_cross_entropy, SPLIT, "no divergence", alpha=0.0),
    _case("AsymmetricLossSingleLabel", oracles.asymmetric_single_label, INDEX),
    _case(
        "AsymmetricLossSingleLabel",
        oracles.asymmetric_single_label,
        INDEX,
        "class weight",
        gamma_pos=1.0,
        gamma_neg=2.0,
        smoothing=0.3,
        class_weight=WEIGHTS,
    ),
    _case("AsymmetricLossSingleLabel", oracles.asymmetric_single_label, INDEX, "roots", gamma_pos=0.5, gamma_neg=0.3),
    _case(
        "AsymmetricLossSingleLabel",
        oracles.asymmetric_single_label,
        INDEX,
        "hard labels",
        gamma_pos=1.5,
        smoothing=0.0,
        class_weight=WEIGHTS,
        saved=None,
    ),
    _case("ZLPRLoss", oracles.zlpr, ROWS_OF_ELEMENTS),
    _case("ZLPRLoss", oracles.zlpr, {"make": column}, "column"),
    _case("SeesawLoss", oracles.seesaw, SEESAW, num_classes=C),
    _case("SeesawLoss", oracles.seesaw, SEESAW, "mitigation", num_classes=C, q=0.0, p=1.5),
    _case("SeesawLoss", oracles.seesaw, SEESAW, "compensation", num_classes=C, p=0.0, eps=0.2),
    _case("TwoWayLoss", oracles.two_way, TWO_WAY),
    _case("TwoWayLoss", oracles.two_way, TWO_WAY, "temperatures", temperature_pos=0.7, temperature_neg=3.0),
]
