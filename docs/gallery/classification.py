"""What of the classification losses is drawn."""

from __future__ import annotations

import torch

from gallery.inputs import copies, distribution, element, in_a_batch, label, labels_of, tags
from gallery.plot import Curve, Plot, elements

MARGIN = "logit of the true class minus the other"

PLOTS: dict[str, Plot] = {
    "CrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"label_smoothing={s}", label, {"label_smoothing": s}) for s in (0.0, 0.1, 0.3)),
        "Two classes. With smoothing the loss has its minimum at a finite margin, and grows again beyond it.",
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
        "Two classes, `alpha=None`. `gamma=0` is cross-entropy; a larger gamma down-weights easy examples more.",
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
        "One logit. The loss of a negative below the probability margin `clip` is 0. By default no gradient flows "
        "through the focusing factor, so the right plot is not the derivative of the left one.",
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
        "Two classes. `epsilon=0` is cross-entropy. Relative to the loss, ε changes that of nearly correct samples "
        "most.",
        gradient="the margin",
    ),
    "PolyFocalLoss": elements(
        "One logit with target 1, `alpha=None`. `epsilon=0` is the focal loss.",
        *(Curve(f"epsilon={e:g}", element(1), {"epsilon": e, "alpha": None}) for e in (0.0, 1.0, -1.0)),
        limit=5,
    ),
    "LogitAdjustedCrossEntropyLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(Curve(f"{a} : {b}", label, {"class_counts": [a, b]}) for a, b in ((50, 50), (90, 10), (10, 90), (1, 99))),
        "Two classes, and how many samples there are of the true one and of the other. The rarer the true class, the "
        "larger the margin that it needs. Equal counts give cross-entropy.",
        gradient="the margin",
    ),
    "JSDCrossEntropyLoss": Plot(
        "margin of the augmented copy",
        (-5, 8),
        tuple(Curve(f"clean margin {m:g}", copies(m), {"num_splits": 2, "alpha": 12.0}) for m in (0.0, 2.0, 4.0)),
        "Two classes, one clean image and one copy. The loss is smallest where both get the same probabilities. The "
        "gradient is that of the copy.",
        gradient="the copy's margin",
    ),
    "AsymmetricLossSingleLabel": Plot(
        MARGIN,
        (-5, 8),
        (
            *(Curve(f"gamma_neg={n}", label, {"gamma_neg": n}) for n in (0, 1, 4)),
            Curve("gamma_neg=4, gamma_pos=1", label, {"gamma_pos": 1}),
        ),
        "Two classes, `smoothing=0.1`. `gamma_neg=0` is label smoothing; a larger one removes the pull back from a "
        "large margin.",
        gradient="the margin",
    ),
    "ZLPRLoss": elements(
        "One logit; those of the other classes are 0. Other negatives take a part of the gradient of a negative.",
        Curve("target 1", tags(1)),
        Curve("target 0", tags(0)),
        Curve("target 0, 9 other negatives", tags(*[0] * 10)),
        Curve("target 0, 9 positives", tags(0, *[1] * 9)),
    ),
    "SeesawLoss": Plot(
        MARGIN,
        (-5, 8),
        tuple(
            Curve(name, labels_of(*counts), {"num_classes": 2, "reduction": "none", **options})
            for name, counts, options in (
                ("p=q=0", (1, 1), {"p": 0.0, "q": 0.0}),
                ("1 : 1", (1, 1), {}),
                ("50 : 1", (50, 1), {}),
                ("50 : 1, q=0", (50, 1), {"q": 0.0}),
            )
        ),
        "Two classes, and how many samples there are of the true one and of the other. `p=q=0` is cross-entropy. A "
        "rarer class is pushed down less while its logit is below that of the true class, and more while it is above. "
        "No gradient flows through the factors, so the right plot is not the derivative of the left one.",
        gradient="the margin",
        part=(0,),
    ),
    "TwoWayLoss": elements(
        "One logit in a batch of three samples and three classes, in which the others are 0.",
        Curve("target 1", in_a_batch(1)),
        Curve("target 0", in_a_batch(0)),
        Curve("target 1, temperature_pos=1", in_a_batch(1), {"temperature_pos": 1.0}),
        Curve("target 0, temperature_neg=4", in_a_batch(0), {"temperature_neg": 4.0}),
    ),
}
