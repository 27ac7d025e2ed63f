"""What of the classification losses is drawn."""

from __future__ import annotations

import torch

from gallery.inputs import distribution, element, label
from gallery.plot import Curve, Plot, elements

MARGIN = "logit of the true class minus the other"

PLOTS: dict[str, Plot] = {
    "CrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"label_smoothing={s}", label, {"label_smoothing": s}) for s in (0.0, 0.1, 0.3)),
        "Two classes. With smoothing the loss has its minimum at a finite margin: a more certain answer costs again.",
        gradient="the margin",
    ),
    "BinaryCrossEntropyLoss": elements(
        "One logit. `pos_weight` scales the positive side only.",
        Curve("target 1", element(1)),
        Curve("target 0", element(0)),
        Curve("target 1, pos_weight=3", element(1), {"pos_weight": 3.0}),
    ),
    "SoftCrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"target ({q:g}, {1 - q:g})", distribution(q)) for q in (1.0, 0.8, 0.5)),
        "Two classes. The minimum is where the prediction equals the target; its value is the target's entropy.",
        gradient="the margin",
    ),
    "FocalLoss": Plot(
        "probability of the true class",
        (-6, 6),
        tuple(Curve(f"gamma={g:g}", label, {"gamma": g, "alpha": None}) for g in (0.0, 1.0, 2.0, 5.0)),
        "Two classes, `alpha=None`. `gamma=0` is cross-entropy; a larger gamma turns away from what is right already.",
        axis=torch.sigmoid,
        gradient="the logit",
        limit=5,
    ),
    "BinaryFocalLoss": elements(
        "One logit with target 1 and with target 0, at the default `alpha=0.25`: negatives weigh three times as much.",
        Curve("target 1, gamma=2", element(1)),
        Curve("target 0, gamma=2", element(0)),
        Curve("target 1, gamma=0", element(1), {"gamma": 0.0}),
        Curve("target 0, gamma=0", element(0), {"gamma": 0.0}),
    ),
    "MultiLabelFocalLoss": elements(
        "One of many labels: target 1 for three values of `alpha`.",
        *(Curve(f"target 1, alpha={a}", element(1), {"alpha": a}) for a in (0.25, 0.5, 0.75)),
    ),
    "LabelSmoothLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"smoothing={s}", label, {"smoothing": s}) for s in (0.05, 0.1, 0.3)),
        "Two classes. The minimum moves towards smaller margins as the smoothing grows.",
        gradient="the margin",
    ),
    "AsymmetricLoss": elements(
        "One logit. Negatives below the probability margin `clip` cost nothing. The gradient does not pass through the "
        "focusing factor unless it is asked to, so it is not the slope of the curve on the left.",
        Curve("target 1", element(1)),
        Curve("target 0", element(0)),
        Curve("target 0, clip=0", element(0), {"clip": 0.0}),
        Curve("target 0, focus with gradient", element(0), {"disable_torch_grad_focal": False}),
        limit=5,
    ),
    "AsymmetricLossOptimized": elements(
        "The curves of `AsymmetricLoss`, with another `gamma_neg`.",
        Curve("target 1", element(1)),
        *(Curve(f"target 0, gamma_neg={g}", element(0), {"gamma_neg": g}) for g in (1, 2, 4)),
        limit=5,
    ),
    "PolyCrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"epsilon={e:g}", label, {"epsilon": e}) for e in (0.0, 1.0, 2.0, -1.0)),
        "Two classes. `epsilon=0` is cross-entropy. ε changes the loss of samples that are nearly right most, relative "
        "to what it is there.",
        gradient="the margin",
    ),
    "PolyFocalLoss": elements(
        "One logit with target 1, `alpha=None`. `epsilon=0` is the focal loss.",
        *(Curve(f"epsilon={e:g}", element(1), {"epsilon": e, "alpha": None}) for e in (0.0, 1.0, -1.0)),
        limit=5,
    ),
}
