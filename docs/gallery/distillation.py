"""What of the distillation losses is drawn."""

from __future__ import annotations

from gallery.inputs import (
    against_teacher,
    beside,
    double,
    listed,
    noisy_map,
    normal,
    one_location,
    one_point,
    teacher_logit,
    turned,
    with_label,
)
from gallery.plot import Curve, Plot

PLOTS: dict[str, Plot] = {
    "KnowledgeDistillationLoss": Plot(
        "student's margin",
        (-6, 8),
        (
            *(Curve(f"temperature={T:g}", against_teacher, {"temperature": T}) for T in (1.0, 4.0)),
            Curve("temperature=1, reverse", against_teacher, {"temperature": 1.0, "kl_direction": "reverse"}),
        ),
        "Two classes; the teacher's margin is 2. The loss of a student that is too confident grows without bound in "
        "the forward direction, and stays below 0.13 in the reverse one.",
        gradient="the margin",
    ),
    "DKDLoss": Plot(
        "student's logit of the target class",
        (-4, 8),
        (
            Curve("alpha=1, beta=8", with_label),
            Curve("alpha=1, beta=0", with_label, {"beta": 0.0}),
            Curve("alpha=0, beta=1", with_label, {"alpha": 0.0, "beta": 1.0}),
        ),
        "Three classes. The part between the other classes (beta) does not depend on the logit of the target class.",
        gradient="the logit",
    ),
    "DISTLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 180),
        (
            Curve("rows and columns", turned(normal(6, 5, seed=3), normal(6, 5, seed=4))),
            Curve("rows alone (gamma=0)", turned(normal(6, 5, seed=3), normal(6, 5, seed=4)), {"gamma": 0.0}),
            Curve("columns alone (beta=0)", turned(normal(6, 5, seed=3), normal(6, 5, seed=4)), {"beta": 0.0}),
        ),
        "Six samples of five classes, turned away from the teacher's logits.",
        gradient="the angle",
        points=61,
    ),
    "GeneralizedJSDLoss": Plot(
        "student's margin",
        (-6, 8),
        (
            *(Curve(f"beta={beta:g}", against_teacher, {"beta": beta}) for beta in (0.0, 0.5, 1.0)),
            Curve("beta=0, skew=0.1", against_teacher, {"beta": 0.0, "skew": 0.1}),
        ),
        "Two classes; the teacher's margin is 2. Against a mixture, and with a skew, the loss is bounded.",
        gradient="the margin",
        limit=2.5,
    ),
    "SparseKDLoss": Plot(
        "student's logit of the first class (the teacher's is 2)",
        (-4, 8),
        tuple(Curve(f"tail={tail}", listed, {"tail": tail}) for tail in ("bucket", "ignore", "renormalize")),
        "Four classes, two of them listed. Without the tail the loss may be negative; renormalized, the student learns "
        "that the other classes have probability 0.",
        gradient="the logit",
    ),
    "BinaryKDLoss": Plot(
        "student's logit",
        (-8, 8),
        (
            *(Curve(f"teacher's logit {value:g}", teacher_logit(value)) for value in (-4.0, 0.0, 2.0)),
            Curve("teacher's logit 2, temperature=4", teacher_logit(2.0), {"temperature": 4.0}),
        ),
        "The loss is 0 where the logits are equal, also where the teacher is certain that the class is absent.",
        gradient="the logit",
    ),
    "FeatureMSELoss": Plot(
        "distance from the teacher's feature",
        (-3, 3),
        (Curve("normalize=False", beside), Curve("normalize=True", beside, {"normalize": True})),
        "A feature beside a unit vector. Normalised, only the direction counts, and the loss is bounded.",
        gradient="the distance",
    ),
    "FeatureL1Loss": Plot(
        "distance from the teacher's feature",
        (-3, 3),
        (Curve("normalize=False", beside), Curve("normalize=True", beside, {"normalize": True})),
        "A feature beside a unit vector. Normalised, only the direction counts, and the loss is bounded.",
        gradient="the distance",
    ),
    "FeatureCosineLoss": Plot(
        "angle between student and teacher, in degrees",
        (-180, 180),
        (Curve("1 − cos", turned(double([1, 0]), double([0, 1]))),),
        "The length of the features does not count.",
        gradient="the angle",
    ),
    "AttentionLoss": Plot(
        "activation at one location (the teacher's is 1)",
        (0, 3),
        tuple(Curve(f"p={p:g}", one_location, {"p": p}) for p in (1.0, 2.0, 4.0)),
        "One of sixteen locations of a feature map is scaled. A larger power p gives more weight to the "
        "strongest activations.",
        gradient="the activation",
    ),
    "MGDLoss": Plot(
        "distance from the teacher's features",
        (-3, 3),
        tuple(
            Curve(
                f"lambda_mgd={share:g}", noisy_map, {"lambda_mgd": share, "student_channels": 4, "teacher_channels": 4}
            )
            for share in (0.0, 0.65)
        ),
        "With the generator as it is initialised, so the minimum is not at 0: training moves it there.",
        gradient="the distance",
    ),
    "CWDLoss": Plot(
        "activation at one location (the teacher's is 1)",
        (-6, 8),
        tuple(Curve(f"temperature={T:g}", one_location, {"temperature": T}) for T in (1.0, 4.0)),
        "One of sixteen locations of a feature map is scaled, in all four channels.",
        gradient="the activation",
    ),
    "PKDLoss": Plot(
        "distance from the teacher's features",
        (-3, 3),
        (Curve("1 − ρ", noisy_map),),
        "Noise, in the teacher's standard deviations. However strong it is, the loss is bounded.",
        gradient="the distance",
    ),
    "RKDDistanceLoss": Plot(
        "one of four points moved by",
        (-2, 2),
        (Curve("distances", one_point), Curve("squared=True", one_point, {"squared": True})),
        "Four points in the plane; one moves away from where the teacher has it.",
        gradient="the point",
    ),
    "RKDAngleLoss": Plot(
        "one of four points moved by",
        (-2, 2),
        (Curve("angles", one_point),),
        "Four points in the plane; one moves away from where the teacher has it.",
        gradient="the point",
    ),
    "PKTLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 90),
        (Curve("PKT", turned(normal(6, 5, seed=3), normal(6, 5, seed=4))),),
        "Six features, turned away from the teacher's.",
        gradient="the angle",
        points=61,
    ),
    "SPLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 90),
        (Curve("SP", turned(normal(6, 5, seed=3), normal(6, 5, seed=4))),),
        "Six features, turned away from the teacher's.",
        gradient="the angle",
        points=61,
    ),
    "CRDLoss": Plot(
        "angle between student and teacher, in degrees",
        (0, 90),
        tuple(
            Curve(
                f"temperature={tau:g}",
                turned(normal(8, 6, seed=3), normal(8, 6, seed=4)),
                {"mode": "batch", "temperature": tau},
            )
            for tau in (0.07, 0.2, 0.5)
        ),
        "`mode='batch'` with eight samples, turned away from the teacher's features.",
        gradient="the angle",
        points=61,
    ),
}
