"""What of the segmentation losses is drawn."""

from __future__ import annotations

import torch

from gallery.inputs import at_points, bar, growing, mined, mined_binary, one_channel, two_channels
from gallery.plot import Curve, Plot

PIXELS = "shift of the predicted disc, in pixels"
DISCS = "A predicted disc of radius 8 (or as named) moves over the true one, in an image of 48 × 48 pixels."

PLOTS: dict[str, Plot] = {
    "DiceLoss": Plot(
        PIXELS,
        (-14, 14),
        (
            Curve("radius 8", two_channels(8)),
            Curve("radius 8, naive_dice=True", two_channels(8), {"naive_dice": True}),
            Curve("radius 3", two_channels(3)),
        ),
        f"{DISCS} Background and object, averaged.",
        gradient="the shift",
    ),
    "BinaryDiceLoss": Plot(
        PIXELS,
        (-14, 14),
        (
            Curve("radius 8", one_channel(8)),
            Curve("radius 3", one_channel(3)),
            Curve("radius 3, smooth=100", one_channel(3), {"smooth": 100.0}),
        ),
        f"{DISCS} A large `smooth` hides small objects.",
        gradient="the shift",
    ),
    "GeneralizedDiceLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(
            Curve(f"weight_type='{kind}'", two_channels(4), {"weight_type": kind})
            for kind in ("square", "simple", "uniform")
        ),
        "A disc of radius 4 moves over the true one. `square` gives the small object the largest weight relative to "
        "the background.",
        gradient="the shift",
    ),
    "LovaszLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", two_channels(8)), Curve("radius 3", two_channels(3))),
        f"{DISCS} The mean over background and object.",
        gradient="the shift",
    ),
    "LovaszHingeLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", one_channel(8)), Curve("radius 3", one_channel(3))),
        f"{DISCS} Raw logits: a hinge, so the value is not bounded by 1.",
        gradient="the shift",
    ),
    "BoundaryLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"theta={theta}", two_channels(8, 1.5), {"theta": theta}) for theta in (3, 5, 7)),
        f"{DISCS} Only contours count. The wider the tolerance `theta`, the further away a contour is noticed. The "
        "waves of the gradient are those of the grid of pixels.",
        gradient="the shift",
    ),
    "HDLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"alpha={alpha:g}", two_channels(5), {"alpha": alpha}) for alpha in (1.0, 1.5, 2.0)),
        "A disc of radius 5 moves over the true one. Errors are weighted by their distance to the contours, to the "
        "power `alpha`. No gradient flows through the distances: the right plot is not the derivative of the left one.",
        gradient="the shift",
    ),
    "TverskyLoss": Plot(
        "radius of the predicted disc, in pixels",
        (2, 16),
        tuple(
            Curve(f"alpha={alpha}, beta={beta}", growing(8), {"alpha": alpha, "beta": beta})
            for alpha, beta in ((0.5, 0.5), (0.3, 0.7), (0.7, 0.3))
        ),
        "A predicted disc grows; the true one has radius 8. With a larger `beta`, "
        "a disc that is too small has a larger loss than one that is too large.",
        gradient="the radius",
    ),
    "FocalTverskyLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"gamma={gamma}", one_channel(5), {"gamma": gamma}) for gamma in (0.75, 1.0, 1.5)),
        "A disc of radius 5 moves over the true one. A smaller `gamma` gives a larger gradient near the correct "
        "position.",
        gradient="the shift",
    ),
    "JaccardLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", one_channel(8)), Curve("radius 3", one_channel(3))),
        f"{DISCS} Intersection over union is lower than Dice, and steeper near the right place.",
        gradient="the shift",
    ),
    "MCCLoss": Plot(
        PIXELS,
        (-14, 14),
        (Curve("radius 8", one_channel(8)), Curve("radius 3", one_channel(3))),
        f"{DISCS} Above 1 where prediction and truth exclude each other more than by chance.",
        gradient="the shift",
    ),
    "DiceCELoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"ce_weight={weight}", two_channels(4, 1.0), {"ce_weight": weight}) for weight in (0.0, 0.5, 1.0)),
        "A disc of radius 4 moves over the true one. Dice alone is flat once the discs are apart; cross-entropy is "
        "not.",
        gradient="the shift",
    ),
    "DiceFocalLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"gamma={gamma}", two_channels(4, 0.2), {"gamma": gamma}) for gamma in (0.0, 1.0, 3.0)),
        "A disc of radius 4 moves over the true one. The larger `gamma`, the smaller the loss of nearly correct "
        "pixels; 0 is cross-entropy.",
        gradient="the shift",
    ),
    "SurfaceLoss": Plot(
        PIXELS,
        (-14, 14),
        tuple(Curve(f"radius {radius}", two_channels(radius), {"include_background": False}) for radius in (3, 8, 12)),
        f"{DISCS} Signed distances to the true contour, over what is predicted as the object: negative where it is "
        "right, and with a gradient at every distance.",
        gradient="the shift",
    ),
    "SoftClDiceLoss": Plot(
        "shift of the predicted line, in pixels",
        (-10, 10),
        tuple(Curve(f"line {width:g} wide", bar(width), {"iterations": 5}) for width in (3.0, 7.0)),
        "A predicted line moves across the true one. The loss is small while each centre line lies in the other line.",
        gradient="the shift",
    ),
    "SkeletonRecallLoss": Plot(
        "shift of the predicted line, in pixels",
        (-10, 10),
        tuple(Curve(f"tube={tube}", bar(7.0), {"iterations": 5, "tube": tube}) for tube in (0, 1, 2)),
        "A predicted line, 7 wide, moves across the true one. The loss is small while the tube around the true centre "
        "line is within the predicted line.",
        gradient="the shift",
    ),
    "PointMaskLoss": Plot(
        PIXELS,
        (-14, 14),
        (
            Curve("BCE and Dice", at_points(8)),
            Curve("BCE", at_points(8), {"dice_weight": 0.0}),
            Curve("Dice", at_points(8), {"bce_weight": 0.0}),
        ),
        f"{DISCS} The same 2000 points at each shift.",
        gradient="the shift",
    ),
    "OHEMCrossEntropyLoss": Plot(
        "probability of the true class",
        (-5, 5),
        tuple(
            Curve(f"thresh={th}", mined, {"thresh": th, "min_kept": 1, "reduction": "none"}) for th in (0.5, 0.7, 0.9)
        ),
        "One pixel beside three that are worse. It counts while its probability is below `thresh`.",
        axis=torch.sigmoid,
        gradient="the logit",
        part=(0, 0, 0),
        points=241,
    ),
    "OHEMBinaryLoss": Plot(
        "probability of the truth",
        (-5, 5),
        tuple(
            Curve(f"thresh={th}", mined_binary, {"thresh": th, "min_kept": 1, "reduction": "none"})
            for th in (0.5, 0.7, 0.9)
        ),
        "One pixel beside three that are worse. It counts while its probability is below `thresh`.",
        axis=torch.sigmoid,
        gradient="the logit",
        part=(0, 0, 0),
        points=241,
    ),
}
