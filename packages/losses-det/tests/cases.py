"""The table of cases: each detection loss, with each option that changes what it computes."""

from __future__ import annotations

import torch

from losses_testkit import Case, Inputs

from . import oracles

C = 64  # many classes, as a pair of labels and scores is small beside them


def _corners(generator, n, *lead):
    """Boxes around the middle of a canvas, so that most pairs overlap and no edges coincide."""
    centre = 8 + 3 * torch.rand(n, *lead, 2, generator=generator, dtype=torch.float64)
    size = 3 + 4 * torch.rand(n, *lead, 2, generator=generator, dtype=torch.float64)
    return centre, size


def boxes(bbox_format="xyxy", *lead):
    def make(generator, n):
        pair = []
        for _ in range(2):
            centre, size = _corners(generator, n, *lead)
            if bbox_format == "xyxy":
                parts = centre - size / 2, centre + size / 2
            else:
                parts = (centre - size / 2 if bbox_format == "ltwh" else centre), size
            pair.append(torch.cat(parts, -1))
        return Inputs(*pair)

    return make


def apart(generator, n):
    """Boxes that do not touch."""
    inputs = boxes()(generator, n)
    return Inputs(inputs.pred + torch.tensor([20.0, 5.0, 20.0, 5.0], dtype=torch.float64), inputs.target)


def coordinates(generator, n):
    """Differences on both sides of every beta in use."""
    target = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    step = torch.tensor([0.03, 0.08, 0.3, 0.8, 2.7], dtype=torch.float64)
    sign = torch.randint(0, 2, (n, 5), generator=generator) * 2 - 1
    return Inputs(target + sign * step * (1 + 0.1 * torch.rand(n, 5, generator=generator, dtype=torch.float64)), target)


def _logits(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2


def labels(generator, n):
    """A pair (label, score) with background, in both of its spellings."""
    label = torch.randint(0, C, (n,), generator=generator)
    label[::3] = C
    label[2::6] = -1
    return Inputs(_logits(generator, n, C), (label, torch.rand(n, generator=generator, dtype=torch.float64)))


def scores(generator, n):
    """Dense scores, most of them 0."""
    pred, score = _logits(generator, n, 5), torch.rand(n, 5, generator=generator, dtype=torch.float64)
    return Inputs(pred, score * (torch.rand(n, 5, generator=generator) > 0.6))


def probabilities(make):
    def made(generator, n):
        inputs = make(generator, n)
        return Inputs(inputs.pred.sigmoid(), inputs.target)

    return made


def distances(bins, *lead):
    def make(generator, n):
        target = (bins - 1) * torch.rand(n, *lead, generator=generator, dtype=torch.float64)
        return Inputs(_logits(generator, n, *lead, bins), target)

    return make


def four_sides(generator, n):
    inputs = distances(17, 4)(generator, n)
    return Inputs(inputs.pred.flatten(1), inputs.target)


def _at(pred, target):
    return lambda: Inputs(torch.tensor(pred, dtype=torch.float64), torch.tensor(target, dtype=torch.float64))


BOX = [10.0, 20.0, 50.0, 60.0]
BOX_EDGES = {
    "equal": _at([BOX, [0.0, 0.0, 4000.0, 4000.0]], [BOX, [0.0, 0.0, 4000.0, 4000.0]]),
    "disjoint": _at([BOX, [0.0, 0.0, 1.0, 1.0]], [[100.0, 200.0, 110.0, 220.0], [3999.0, 3999.0, 4000.0, 4000.0]]),
    "touching": _at([BOX, BOX], [[50.0, 20.0, 90.0, 60.0], [50.0, 60.0, 90.0, 90.0]]),
    "zero size": _at([[30.0, 30.0, 30.0, 30.0], BOX], [BOX, [30.0, 30.0, 30.0, 30.0]]),
    "both zero size": _at([[5.0, 5.0, 5.0, 5.0], [0.0] * 4], [[5.0, 5.0, 5.0, 5.0], [7.0] * 4]),
    "zero height": _at([[10.0, 30.0, 50.0, 30.0], [10.0, 30.0, 50.0, 30.0], BOX], [BOX, [10.0, 30.0, 50.0, 30.0], BOX]),
    "zero width": _at([[30.0, 20.0, 30.0, 60.0], [30.0, 20.0, 30.0, 60.0]], [BOX, [30.0, 25.0, 30.0, 60.0]]),
    "inverted": _at([[50.0, 60.0, 10.0, 20.0], [50.0, 20.0, 10.0, 60.0], BOX], [BOX, BOX, [50.0, 60.0, 10.0, 20.0]]),
    "both inverted": _at([[50.0, 60.0, 10.0, 20.0]] * 2, [[50.0, 60.0, 10.0, 20.0], [4000.0, 60.0, 10.0, 20.0]]),
    "4000 pixels": _at(
        [[0.0, 0.0, 4000.0, 4000.0], [0.0, 0.0, 4000.0, 1.0]], [[1.0, 0.0, 4000.0, 3000.0], [0.0, 0.0, 1.0, 4000.0]]
    ),
    "tiny": _at(
        [[0.0, 0.0, 1e-4, 1e-4], [0.5, 0.5, 0.5 + 1e-4, 0.5 + 1e-3]], [[0.0, 0.0, 1e-4, 2e-4], [0.5, 0.5, 0.6, 0.6]]
    ),
    "one inside": _at([[20.0, 30.0, 40.0, 50.0]], [BOX]),
    "same centre": _at([[0.0, 0.0, 40.0, 20.0]], [[10.0, -10.0, 30.0, 30.0]]),
    "no boxes": lambda: Inputs(torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, 4, dtype=torch.float64)),
}
PEAK = 1.5  # of losses of rows and elements
BOXES = {"logits": False, "edges": BOX_EDGES, "saved": 2.0, "peak": PEAK}
DETACHED = {
    "gradcheck": False,
    "gradgradcheck": False,
    "why": "alpha is a constant in the gradient: test_ciou_gradient_holds_alpha_fixed",
}
FAR = _at([[6e4, -6e4, 0.0, 1.0]] * 2, [[0.0] * 4, [6e4, -6e4, 1.0, 1.0]])
L1_EDGES = {"equal": _at([[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 3.0, 4.0]]), "far": FAR}
COORDINATES = {"make": coordinates, "logits": False, "edges": L1_EDGES, "saved": 2.0, "peak": PEAK}


def _quality_edges():
    logits = [[6e4, -6e4, 0.0], [-6e4, 6e4, 50.0], [0.0, 0.0, 0.0]]
    pred, label = torch.tensor(logits, dtype=torch.float64), torch.tensor
    return {
        "no object": lambda: Inputs(pred, (label([3, 3, 3]), torch.zeros(3, dtype=torch.float64))),
        "right and certain": lambda: Inputs(pred, (label([0, 1, 2]), torch.ones(3, dtype=torch.float64))),
        "wrong and certain": lambda: Inputs(pred, (label([1, 0, 2]), torch.ones(3, dtype=torch.float64))),
        "exact": lambda: Inputs(pred, (label([2, 0, 0]), torch.full((3,), 0.5, dtype=torch.float64))),
        "one class": lambda: Inputs(pred[:, :1], (label([0, 1, -1]), torch.ones(3, dtype=torch.float64))),
        "dense": lambda: Inputs(pred, torch.tensor([[1.0, 0.0, 0.5]] * 3, dtype=torch.float64)),
    }


SCORE_EDGES = {
    "right": _at([[6e4, -6e4, 50.0]], [[1.0, 0.0, 1.0]]),
    "wrong": _at([[-6e4, 6e4, -50.0]], [[1.0, 0.0, 0.3]]),
    "exact": _at([[0.0, 0.0]], [[0.5, 0.0]]),
    "no object": _at([[1.0, -1.0]], [[0.0, 0.0]]),
}
PROBABILITY_EDGES = {
    "certain": _at([[1.0, 0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0, 1.0]]),
    "soft": _at([[1.0, 0.0, 0.5]], [[0.5, 0.5, 0.5]]),
}
BIN_EDGES = {
    "ends": _at([[9.0, -9.0] + [0.0] * 15] * 4, [0.0, 16.0, 15.999, 8.0]),
    "outside": _at([[0.0] * 17] * 3, [-3.0, 16.5, 1e4]),
    "saturated": _at([[6e4] + [-6e4] * 16] * 2, [0.0, 16.0]),
}

THREE_OPTIONS = 1.52  # a block of the smallest size holds a few more temporaries then
FOCUS = {
    "gradcheck": False,
    "gradgradcheck": False,
    "why": "the focusing factor is a constant in the gradient: test_constants_of_the_gradient",
}
FAMILY = {
    "IoULoss": oracles.iou,
    "GIoULoss": oracles.giou,
    "DIoULoss": oracles.diou,
    "CIoULoss": oracles.ciou,
    "EIoULoss": oracles.eiou,
    "SIoULoss": oracles.siou,
}


def _box_cases():
    for loss, oracle in FAMILY.items():
        common = {**BOXES, **(DETACHED if loss == "CIoULoss" else {})}
        other = "linear" if loss == "IoULoss" else "log"
        yield Case(loss, boxes(), oracle, **common)
        yield Case(loss, boxes(), oracle, {"mode": other}, id=other, **common)
        yield Case(loss, boxes("cxcywh"), oracle, {"bbox_format": "cxcywh"}, id="cxcywh", **{**common, "edges": {}})
        yield Case(
            loss,
            boxes("ltwh", 2),
            oracle,
            {"bbox_format": "ltwh", "mode": "square"},
            id="ltwh",
            **{**common, "edges": {}},
        )
        if loss != "IoULoss":
            yield Case(loss, apart, oracle, id="apart", **common)
        powers = {"power": 3, "mode": "linear", "inner_ratio": 0.7}
        yield Case(loss, boxes(), oracle, powers, id="power and inner boxes", **common)
        focus = {"focal_gamma": 0.5, "mode": "linear", "power": 1.5, "bbox_format": "cxcywh", "inner_ratio": 1.25}
        yield Case(
            loss, boxes("cxcywh"), oracle, focus, id="focal", **{**common, **FOCUS, "edges": {}, "peak": THREE_OPTIONS}
        )


def heatmaps(generator, n):
    """Logits, and targets of which some are peaks."""
    target = torch.rand(n, 3, 4, generator=generator, dtype=torch.float64)
    return Inputs(_logits(generator, n, 3, 4), target.masked_fill(target > 0.8, 1))


def keypoints(points=17, labelled=True):
    """Objects of about 10 by 10 whose points are off by about a standard deviation; one object has no label at all."""

    def make(generator, n):
        area = 50 + 100 * torch.rand(n, generator=generator, dtype=torch.float64)
        target = 10 * torch.rand(n, points, 2, generator=generator, dtype=torch.float64)
        error = 0.08 * torch.randn(n, points, 2, generator=generator, dtype=torch.float64)
        visibility = torch.randint(0, 3, (n, points), generator=generator).to(torch.int8)
        visibility[:, 0] = 2
        if n > 3:
            visibility[3] = 0
        call = {"area": area} | ({"visibility": visibility} if labelled else {})
        return Inputs(target + error * area.sqrt()[:, None, None], target, call)

    return make


def _keypoint_edges():
    pred = torch.tensor([[[6e4, -6e4], [0.0, 1.0]], [[3.0, 4.0], [3.0, 4.0]]], dtype=torch.float64)
    target, ones = torch.tensor([[[-6e4, 6e4], [0.0, 1.0]], [[3.0, 4.0]] * 2], dtype=torch.float64), torch.ones
    area = torch.tensor([0.0, 1e-12], dtype=torch.float64)
    return {
        "far and equal, no area": lambda: Inputs(pred, target, {"area": area}),
        "nothing labelled": lambda: Inputs(pred, target, {"area": ones(2).double(), "visibility": torch.zeros(2, 2)}),
        "one labelled": lambda: Inputs(
            pred, target, {"area": ones(2).double(), "visibility": torch.tensor([[1, 0], [0, 2]])}
        ),
        "NaN without a label": lambda: Inputs(
            pred,
            target.index_fill(1, torch.tensor(1), torch.nan),
            {"area": area, "visibility": torch.tensor([[1, 0]] * 2)},
        ),
    }


def fine_distances(reg_max, *lead):
    """Distances on both sides of 0, some beyond the last bins."""

    def make(generator, n):
        target = 2 * torch.randn(n, *lead, generator=generator, dtype=torch.float64)
        return Inputs(_logits(generator, n, *lead, reg_max + 1), target)

    return make


def layers(reg_max, flat=False, quality=True):
    """Logits of two layers, and which boxes are matched."""

    def make(generator, n):
        pred, target = (_logits(generator, n, 4, reg_max + 1) for _ in range(2))
        call = {"matched": torch.arange(n) % 3 == 0}
        if quality:
            call["quality"] = torch.rand(n, generator=generator, dtype=torch.float64)
        return Inputs(*(x.flatten(1) if flat else x for x in (pred, target)), call)

    return make


def _two_collectives(inputs, sizes):
    """The number of sides of each group, then numerator and denominator."""
    return [16, 16], []


def _layer_edges():
    logits = 6e4 * torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0], dtype=torch.float64).expand(2, 4, 5)
    some, none = torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)
    return {
        "equal": lambda: Inputs(logits, logits, {"matched": some}),
        "opposite": lambda: Inputs(logits, -logits, {"matched": some}),
        "none matched": lambda: Inputs(logits, logits.flip(-1), {"matched": none}),
        "all matched": lambda: Inputs(logits, logits.flip(-1), {"matched": ~none}),
    }


FINE_EDGES = {
    "bins": _at([[9.0, -9.0, 0.0, 0.0, 1.0]] * 5, [-2.0, -1.0, 0.0, 1.0, 2.0]),
    "outside": _at([[0.0] * 5] * 3, [-3.0, 2.5, 6e4]),
    "saturated": _at([[6e4] + [-6e4] * 4] * 2, [-2.0, 2.0]),
}
FINE = {"reg_max": 4, "up": 0.5, "reg_scale": 2.0}
WITH_CONSTANTS = {
    "gradcheck": False,
    "gradgradcheck": False,
    "why": "target or factor is a constant in the gradient: test_constants_of_the_gradient",
}


def with_image_size(generator, n):
    """Boxes, each in an image of its own."""
    inputs = boxes()(generator, n)
    inputs.call["image_size"] = 16 + 8 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return inputs


def rotated(unit=1.0, *lead):
    """Boxes in any direction, neither square nor near their target."""

    def make(generator, n):
        pair = []
        for low in (0.5, 2.5):
            centre = 4 * torch.rand(n, *lead, 2, generator=generator, dtype=torch.float64)
            side = low + torch.rand(n, *lead, 2, generator=generator, dtype=torch.float64)
            angle = 2 * unit * torch.randn(n, *lead, 1, generator=generator, dtype=torch.float64)
            pair.append(torch.cat((centre, side * torch.tensor([1.5, 0.6]).double(), angle), -1))
        return Inputs(*pair)

    return make


TURNED = [10.0, 20.0, 40.0, 10.0, 0.7]
ROTATED_EDGES = {
    "equal": _at([TURNED, [0.0, 0.0, 4000.0, 1.0, -2.0]], [TURNED, [0.0, 0.0, 4000.0, 1.0, -2.0]]),
    "a period apart": _at([TURNED], [[10.0, 20.0, 40.0, 10.0, 0.7 + 3.141592653589793]]),
    "squares": _at([[0.0, 0.0, 8.0, 8.0, 0.3]] * 2, [[0.0, 0.0, 8.0, 8.0, 1.1], [4.0, 0.0, 2.0, 2.0, 0.3]]),
    "zero sides": _at([[5.0, 5.0, 0.0, 0.0, 0.0], TURNED], [TURNED, [5.0, 5.0, 0.0, 0.0, 0.0]]),
    "one zero side": _at([[5.0, 5.0, 9.0, 0.0, 0.0], TURNED], [TURNED, [5.0, 5.0, 0.0, 3.0, 1.0]]),
    "all zero": _at([[0.0] * 5], [[0.0] * 5]),
    "points apart": _at([[0.0] * 5], [[9.0, 9.0, 0.0, 0.0, 0.0]]),
    "thin": _at([[0.0, 0.0, 4000.0, 1e-3, 0.1], [0.0, 0.0, 1e-3, 4000.0, 0.1]], [[0.0, 0.0, 4000.0, 1e-3, 0.2]] * 2),
    "far": _at([[6e4, -6e4, 10.0, 5.0, 0.5]] * 2, [[-6e4, 6e4, 10.0, 5.0, 0.2], [6e4, -6e4, 6e4, 6e4, 0.2]]),
}
TURNED_BOXES = {"logits": False, "saved": 2.0, "peak": PEAK}
WISE = {**BOXES, **FOCUS, "stateful": True}
KEYPOINTS = {"logits": False, "saved": 2.4, "peak": PEAK, "half_tolerance": 2e-3}
LAYERS = {"saved": 2.1, "peak": PEAK, "sent": _two_collectives}
NEW_CASES = [
    Case("GaussianFocalLoss", heatmaps, oracles.gaussian_focal, edges=SCORE_EDGES, saved=2.0, peak=PEAK),
    Case(
        "GaussianFocalLoss",
        heatmaps,
        oracles.gaussian_focal,
        {"alpha": 1.5, "gamma": 0.5},
        id="powers",
        edges=SCORE_EDGES,
        saved=2.0,
    ),
    Case("GaussianFocalLoss", heatmaps, oracles.gaussian_focal, {"alpha": 0, "gamma": 0}, id="plain"),
    Case(
        "GaussianFocalLoss",
        probabilities(heatmaps),
        oracles.gaussian_focal,
        {"use_sigmoid": False},
        id="probabilities",
        logits=False,
        edges=PROBABILITY_EDGES,
    ),
    Case("OKSLoss", keypoints(), oracles.oks, **KEYPOINTS),
    Case("OKSLoss", keypoints(), oracles.oks, {"mode": "log"}, id="log", **KEYPOINTS),
    Case(
        "OKSLoss",
        keypoints(2, labelled=False),
        oracles.oks,
        {"sigmas": [0.05, 0.2], "mode": "log", "eps": 1e-3},
        id="all labelled",
        edges=_keypoint_edges(),
        **KEYPOINTS,
    ),
    Case(
        "OKSLoss",
        keypoints(2),
        oracles.oks,
        {"sigmas": [0.05, 0.2]},
        id="two points",
        edges=_keypoint_edges(),
        **KEYPOINTS,
    ),
    Case(
        "MatchabilityAwareLoss",
        labels,
        oracles.matchability_aware,
        edges=_quality_edges(),
        saved=2.0,
        peak=PEAK,
        **WITH_CONSTANTS,
    ),
    Case(
        "MatchabilityAwareLoss",
        scores,
        oracles.matchability_aware,
        {"alpha": 0.5, "gamma": 2.0},
        id="scores",
        edges=SCORE_EDGES,
        saved=2.0,
        peak=PEAK,
        **WITH_CONSTANTS,
    ),
    Case(
        "IoUAwareBCELoss", labels, oracles.iou_aware_bce, edges=_quality_edges(), saved=2.0, peak=PEAK, **WITH_CONSTANTS
    ),
    Case(
        "IoUAwareBCELoss",
        scores,
        oracles.iou_aware_bce,
        {"alpha": 0.8, "gamma": 1.5, "min_target": 0.2},
        id="scores",
        edges=SCORE_EDGES,
        saved=2.0,
        peak=PEAK,
        **WITH_CONSTANTS,
    ),
    Case("FineGrainedLocalizationLoss", fine_distances(32), oracles.fine_grained, saved=2.0, peak=PEAK),
    Case(
        "FineGrainedLocalizationLoss",
        fine_distances(4, 3),
        oracles.fine_grained,
        FINE,
        id="options",
        edges=FINE_EDGES,
        saved=2.2,
    ),
    Case("DecoupledDistillationFocalLoss", layers(32), oracles.decoupled_distillation, **LAYERS),
    Case(
        "DecoupledDistillationFocalLoss",
        layers(4, flat=True, quality=False),
        oracles.decoupled_distillation,
        {"reg_max": 4, "temperature": 2.0},
        id="flat",
        edges=_layer_edges(),
        **{**LAYERS, "saved": 2.5, "peak": None},
    ),
    Case("MPDIoULoss", boxes(), oracles.mpdiou, {"image_size": [20, 24.5]}, **BOXES),
    Case(
        "MPDIoULoss", with_image_size, oracles.mpdiou, {"power": 2}, id="sizes", **{**BOXES, "edges": {}, "saved": 2.5}
    ),
    Case(
        "MPDIoULoss",
        boxes("ltwh", 2),
        oracles.mpdiou,
        {"image_size": (20, 24), "mode": "log", "bbox_format": "ltwh", "inner_ratio": 0.8},
        id="ltwh",
        **{**BOXES, "edges": {}},
    ),
    Case("NWDLoss", boxes(), oracles.nwd, **BOXES),
    Case("NWDLoss", boxes("cxcywh"), oracles.nwd, {"constant": 2, "bbox_format": "cxcywh"}, id="cxcywh", **BOXES),
    Case("NWDLoss", boxes("ltwh", 2), oracles.nwd, {"bbox_format": "ltwh"}, id="ltwh", **{**BOXES, "edges": {}}),
    Case("WIoULoss", boxes(), oracles.wiou, **WISE, sent=_two_collectives),
    Case(
        "WIoULoss",
        boxes("cxcywh"),
        oracles.wiou,
        {"alpha": 1.4, "delta": 5, "momentum": 0.5, "bbox_format": "cxcywh"},
        id="options",
        **{**WISE, "edges": {}},
        weight=False,  # a weight of 0 changes the mean that the other rows are compared with
        sent=_two_collectives,
    ),
    Case("ProbIoULoss", rotated(), oracles.probiou, edges=ROTATED_EDGES, **TURNED_BOXES),
    Case(
        "ProbIoULoss",
        rotated(57.0, 2),
        oracles.probiou,
        {"mode": "l2", "floor": 1e-3, "angle_unit": "degree"},
        id="l2",
        # a gradient that grows with the distance is beyond fp16 where boxes are 1e5 apart
        edges={name: make for name, make in ROTATED_EDGES.items() if name != "far"},
        **TURNED_BOXES,
    ),
    Case("GWDLoss", rotated(), oracles.gwd, edges=ROTATED_EDGES, **TURNED_BOXES),
    Case(
        "GWDLoss",
        rotated(57.0, 2),
        oracles.gwd,
        {"fun": "sqrt", "tau": 0, "alpha": 0.5, "normalize": False, "angle_unit": "degree", "floor": 1e-2},
        id="sqrt",
        edges=ROTATED_EDGES,
        **TURNED_BOXES,
    ),
    Case("GWDLoss", rotated(), oracles.gwd, {"fun": "none", "tau": 2}, id="none", edges=ROTATED_EDGES, **TURNED_BOXES),
    Case("KLDLoss", rotated(), oracles.kld, edges=ROTATED_EDGES, **TURNED_BOXES),
    Case(
        "KLDLoss",
        rotated(57.0, 2),
        oracles.kld,
        {"fun": "sqrt", "tau": 0, "alpha": 2, "angle_unit": "degree"},
        id="sqrt",
        edges=ROTATED_EDGES,
        **TURNED_BOXES,
    ),
    Case(
        "KLDLoss",
        rotated(),
        oracles.kld,
        {"sqrt": False, "tau": 1.5},
        id="divergence",
        edges=ROTATED_EDGES,
        **TURNED_BOXES,
    ),
    Case("WIoULoss", apart, oracles.wiou, {"version": 1}, id="version 1", **{**BOXES, **FOCUS}),
]

CASES = [
    *NEW_CASES,
    *_box_cases(),
    Case("IoULoss", boxes(), oracles.iou, {"mode": "iou"}, id="iou", **BOXES),
    Case("GIoULoss", boxes("xywh"), oracles.giou, {"bbox_format": "xywh", "eps": 1e-3}, id="xywh", logits=False),
    Case("SIoULoss", boxes(), oracles.siou, {"theta": 2.5}, id="theta", **BOXES),
    Case("SIoULoss", boxes(), oracles.siou, {"theta": 1}, id="theta 1", **BOXES),
    Case("L1Loss", oracle=oracles.l1, **COORDINATES),
    Case("SmoothL1Loss", oracle=oracles.smooth_l1, **COORDINATES),
    Case("SmoothL1Loss", oracle=oracles.smooth_l1, options={"beta": 0.11}, id="beta", **COORDINATES),
    Case("SmoothL1Loss", oracle=oracles.smooth_l1, options={"beta": 0.0}, id="l1", **COORDINATES),
    Case("BalancedL1Loss", oracle=oracles.balanced_l1, **COORDINATES),
    Case(
        "BalancedL1Loss",
        oracle=oracles.balanced_l1,
        options={"alpha": 0.3, "gamma": 2.0, "beta": 0.5},
        id="options",
        **COORDINATES,
    ),
    Case("QualityFocalLoss", labels, oracles.quality_focal, edges=_quality_edges(), saved=2.0, peak=PEAK),
    Case(
        "QualityFocalLoss",
        scores,
        oracles.quality_focal,
        {"beta": 1.5},
        id="scores",
        edges=SCORE_EDGES,
        saved=2.0,
        peak=PEAK,
    ),
    Case("QualityFocalLoss", labels, oracles.quality_focal, {"beta": 0.5}, id="soft power", edges=_quality_edges()),
    Case("QualityFocalLoss", labels, oracles.quality_focal, {"beta": 0}, id="plain", edges=_quality_edges()),
    Case(
        "QualityFocalLoss",
        probabilities(labels),
        oracles.quality_focal,
        {"use_sigmoid": False},
        id="probabilities",
        logits=False,
        saved=2.0,
    ),
    Case(
        "QualityFocalLoss",
        probabilities(scores),
        oracles.quality_focal,
        {"use_sigmoid": False, "beta": 1.0},
        id="score probabilities",
        logits=False,
        edges=PROBABILITY_EDGES,
    ),
    Case("VariFocalLoss", scores, oracles.varifocal, edges=SCORE_EDGES, saved=2.0, peak=PEAK),
    Case(
        "VariFocalLoss",
        scores,
        oracles.varifocal,
        {"iou_weighted": False},
        id="unweighted",
        edges=SCORE_EDGES,
        saved=2.0,
    ),
    Case("VariFocalLoss", scores, oracles.varifocal, {"alpha": 0.5, "gamma": 0.5}, id="soft power", edges=SCORE_EDGES),
    Case("VariFocalLoss", scores, oracles.varifocal, {"gamma": 0}, id="plain", edges=SCORE_EDGES),
    Case("VariFocalLoss", scores, oracles.varifocal, {"detach_weight": True}, id="detached", **FOCUS),
    Case(
        "VariFocalLoss",
        probabilities(scores),
        oracles.varifocal,
        {"use_sigmoid": False, "gamma": 1.5},
        id="probabilities",
        logits=False,
        edges=PROBABILITY_EDGES,
    ),
    Case("DistributionFocalLoss", distances(17), oracles.distribution_focal, edges=BIN_EDGES, saved=2.0, peak=PEAK),
    Case("DistributionFocalLoss", four_sides, oracles.distribution_focal, id="four sides", saved=2.0, peak=PEAK),
    Case(
        "DistributionFocalLoss", distances(8, 2, 3), oracles.distribution_focal, {"reg_max": 7}, id="reg max", saved=2.0
    ),
]
