"""What of the detection losses is drawn."""

from __future__ import annotations

from gallery.inputs import (
    aspect,
    bins,
    box,
    distances,
    element,
    error,
    image_box,
    keypoint,
    layers,
    rotated,
    shifted,
    towards,
)
from gallery.plot import Curve, Plot, elements

SHIFT = "shift of the box, in widths of the target"
SIZES = (
    Curve("same size", box(1, 1)),
    Curve("half as wide and high", box(0.5, 0.5)),
    Curve("twice as wide", box(2, 1)),
)
BOXES = "A box moves over a unit square. Gradients are with respect to the shift."

PLOTS: dict[str, Plot] = {
    "IoULoss": Plot(
        SHIFT,
        (-1.6, 1.6),
        tuple(Curve(f"mode='{mode}'", box(1, 1), {"mode": mode}) for mode in ("log", "linear", "square")),
        "A unit box moves over a unit square. From a shift of one width on they are disjoint, and the gradient "
        "is 0. With `mode='log'` the loss is −ln(eps) = 13.8 there, outside the plotted range.",
        gradient="the shift",
        limit=5,
        steepest=8,
    ),
    "GIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} Disjoint boxes are drawn together.", gradient="the shift"),
    "DIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} The distance of the centres counts.", gradient="the shift"),
    "CIoULoss": Plot(
        "aspect ratio of the box, log₂(width / height)",
        (-4, 4),
        tuple(
            Curve(f"{where}", aspect(shift))
            for where, shift in (("in place", 0), ("half a width aside", 0.5), ("two widths aside", 2))
        ),
        "A box of the target's area changes its shape. The penalty of the aspect ratio grows with the overlap.",
        gradient="log₂ of the ratio",
    ),
    "EIoULoss": Plot(SHIFT, (-2.5, 2.5), SIZES, f"{BOXES} Width and height count as well.", gradient="the shift"),
    "SIoULoss": Plot(
        "distance of the box, in widths of the target",
        (0.02, 2.5),
        tuple(Curve(f"towards {degrees}°", towards(degrees)) for degrees in (0, 20, 45)),
        "A unit box moves away from a unit square, along an axis or diagonally. The penalty of the distance depends "
        "on the angle.",
        gradient="the distance",
    ),
    "SmoothL1Loss": Plot(
        "error",
        (-3, 3),
        tuple(Curve(f"beta={b:g}", error, {"beta": b}) for b in (0.25, 1.0, 2.0)),
        "Quadratic within `beta`, linear beyond it.",
    ),
    "L1Loss": Plot("error", (-3, 3), (Curve("L1", error),), "The gradient is −1 or 1 everywhere but at 0."),
    "BalancedL1Loss": Plot(
        "error",
        (-3, 3),
        (
            Curve("alpha=0.5, gamma=1.5", error),
            Curve("alpha=0.2, gamma=1.5", error, {"alpha": 0.2}),
            Curve("alpha=0.5, gamma=1.5, beta=2", error, {"beta": 2.0}),
        ),
        "Small errors get more gradient than with smooth L1, large ones the constant `gamma`. Value and gradient are "
        "continuous for every `beta`.",
    ),
    "QualityFocalLoss": elements(
        "One logit and three qualities. The minimum is where the predicted score equals the quality.",
        *(Curve(f"quality {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    "DistributionFocalLoss": Plot(
        "centre of the predicted distribution, in bins",
        (0, 16),
        tuple(Curve(f"target {y}", bins(y)) for y in (4.0, 7.5, 12.3)),
        "Seventeen bins with a bell around the centre. The loss draws the mass to the two bins beside the target.",
        gradient="the centre",
        limit=30,
    ),
    "VariFocalLoss": elements(
        "One logit. Positives are weighted by their quality q, negatives (q = 0) by α pᵞ.",
        *(Curve(f"q = {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    "MatchabilityAwareLoss": elements(
        "One logit. The minimum of a matched class is where its score equals q^1.5; one that is not matched (q = 0) is "
        "focused.",
        *(Curve(f"q = {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    "IoUAwareBCELoss": elements(
        "One logit. The target of a matched class mixes its score with the IoU q, and is a constant in the gradient.",
        *(Curve(f"q = {q}", element(q)) for q in (0.0, 0.5, 0.9)),
    ),
    "FineGrainedLocalizationLoss": Plot(
        "centre of the predicted distribution, in bins",
        (0, 32),
        tuple(Curve(f"distance {d:g}", distances(d)) for d in (-2.5, 0.1, 1.0)),
        "Thirty-three bins, dense in the middle, with a bell around the centre. The loss draws the mass to the two "
        "bins beside the target.",
        gradient="the centre",
        limit=60,
    ),
    "DecoupledDistillationFocalLoss": Plot(
        "shift of the student's distribution, in bins",
        (-8, 8),
        (Curve("one matched box", layers(True)), Curve("three others", layers(False))),
        "Four boxes, of which the student is wrong about one group. The matched box counts for more than a quarter.",
        gradient="the shift",
    ),
    "GaussianFocalLoss": elements(
        "One logit of a heatmap. The loss of a negative beside a peak (y = 0.8) is almost 0.",
        Curve("peak, y = 1", element(1.0)),
        Curve("y = 0.5", element(0.5)),
        Curve("y = 0.8", element(0.8)),
        Curve("y = 0", element(0.0)),
    ),
    "OKSLoss": Plot(
        "distance of a keypoint, in square roots of the object's area",
        (-1, 1),
        (
            Curve("eye, sigma 0.025", keypoint, {"sigmas": [0.025]}),
            Curve("hip, sigma 0.107", keypoint, {"sigmas": [0.107]}),
            Curve("hip, mode='log'", keypoint, {"sigmas": [0.107], "mode": "log"}),
        ),
        "One keypoint of one object. People place an eye more exactly than a hip.",
        gradient="the distance",
        limit=4,
        steepest=20,
    ),
    "MPDIoULoss": Plot(
        SHIFT,
        (-2.5, 2.5),
        (Curve("same size", image_box(1, 1)), Curve("twice as wide", image_box(2, 1))),
        f"{BOXES} The corners count, in an image of four by four.",
        gradient="the shift",
    ),
    "WIoULoss": Plot(
        SHIFT,
        (-2.5, 2.5),
        (
            Curve("version 1", box(1, 1), {"version": 1}),
            Curve("version 3", box(1, 1)),
            Curve("version 3, alpha=1.4, delta=5", box(1, 1), {"alpha": 1.4, "delta": 5.0}),
        ),
        f"{BOXES} The mean of 1 - IoU is 1, as at the start of a training.",
        gradient="the shift",
    ),
    "NWDLoss": Plot(
        SHIFT,
        (-2.5, 2.5),
        tuple(Curve(f"constant={c:g}", box(1, 1), {"constant": c}) for c in (0.5, 1.0, 2.0)),
        f"{BOXES} There is a gradient whether they overlap or not.",
        gradient="the shift",
    ),
    "ProbIoULoss": Plot(
        "angle between the boxes, in degrees",
        (-90, 90),
        (
            Curve("sides 2 to 1", rotated(2**0.5)),
            Curve("sides 9 to 1", rotated(3.0)),
            Curve("sides 9 to 1, mode='l2'", rotated(3.0), {"mode": "l2"}),
        ),
        "A box turns over its target. The thinner it is, the more its angle counts.",
        gradient="the angle",
    ),
    "GWDLoss": Plot(
        "distance of the centres",
        (-6, 6),
        (
            Curve("along the box", shifted(0)),
            Curve("across the box", shifted(90)),
            Curve("along the box, tau=0", shifted(0), {"tau": 0.0}),
        ),
        "A box of 4 by 1 moves over its target. The distance does not depend on the direction.",
        gradient="the distance",
    ),
    "KLDLoss": Plot(
        "distance of the centres",
        (-6, 6),
        (
            Curve("along the box", shifted(0)),
            Curve("across the box", shifted(90)),
            Curve("along the box, tau=0", shifted(0), {"tau": 0.0}),
        ),
        "A box of 4 by 1 moves over its target. A shift across the narrow side counts more.",
        gradient="the distance",
    ),
}
