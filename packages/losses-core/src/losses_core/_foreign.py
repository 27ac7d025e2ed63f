"""Names of other libraries and what they are called here, for the hints of errors.

Of torch, torchvision, MONAI, segmentation_models_pytorch, kornia, timm and mm*. Names spelled alike need no row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from losses_core._suggest import did_you_mean

LOSSES_ELSEWHERE: dict[str, str] = {
    "AngleWiseRKD": "RKDAngleLoss",
    "ASLLoss": "AsymmetricLoss",
    "AsymmetricLossMultiLabel": "AsymmetricLossOptimized",
    "ATLoss": "AttentionLoss",
    "BCELoss": "BinaryCrossEntropyLoss",
    "BCEWithLogitsLoss": "BinaryCrossEntropyLoss",
    "BinaryFocalLossWithLogits": "BinaryFocalLoss",
    "CELoss": "CrossEntropyLoss",
    "complete_box_iou_loss": "CIoULoss",
    "CosineEmbeddingLoss": "FeatureCosineLoss",
    "DFLLoss": "DistributionFocalLoss",
    "distance_box_iou_loss": "DIoULoss",
    "DistanceWiseRKD": "RKDDistanceLoss",
    "GaussianNLLLoss": "",
    "generalized_box_iou_loss": "GIoULoss",
    "HausdorffDTLoss": "HDLoss",
    "HausdorffERLoss": "HDLoss",
    "HausdorffLoss": "HDLoss",
    "HuasdorffDisstanceLoss": "HDLoss",
    "HuberLoss": "SmoothL1Loss",
    "JsdCrossEntropy": "JSDCrossEntropyLoss",
    "KLDivergence": "KnowledgeDistillationLoss",
    "KLDivLoss": "KnowledgeDistillationLoss",
    "KnowledgeDistillationKLDivLoss": "KnowledgeDistillationLoss",
    "L2Loss": "FeatureMSELoss",
    "LabelSmoothingCrossEntropy": "LabelSmoothLoss",
    "LabelSmoothingLoss": "LabelSmoothLoss",
    "LovaszSoftmaxLoss": "LovaszLoss",
    "MAELoss": "L1Loss",
    "MaskedDiceLoss": "DiceLoss",
    "MSELoss": "FeatureMSELoss",
    "MultiLabelSoftMarginLoss": "BinaryCrossEntropyLoss",
    "NLLLoss": "CrossEntropyLoss",
    "OhemLoss": "OHEMCrossEntropyLoss",
    "QFLLoss": "QualityFocalLoss",
    "RKDLoss": "RKDDistanceLoss or RKDAngleLoss",
    "sigmoid_focal_loss": "BinaryFocalLoss",
    "SoftBCEWithLogitsLoss": "BinaryCrossEntropyLoss",
    "SoftTargetCrossEntropy": "SoftCrossEntropyLoss",
}
"""Name → what it is here; empty for a name that resembles one of another loss."""

NOTES: dict[str, str] = {
    "BCELoss": "For probabilities give it with_logits=False.",
    "CosineEmbeddingLoss": "It compares features of a student and a teacher.",
    "HuberLoss": "Huber's loss is delta times SmoothL1Loss(beta=delta).",
    "KLDivLoss": "It takes logits of both, not log-probabilities.",
    "MaskedDiceLoss": "It has ignore_index.",
    "NLLLoss": "It takes log-probabilities as well.",
}
"""Name → what differs."""

PARAMETERS_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "activate": ("activation",),
    "batch": ("per_image",),
    "eps": ("smooth",),
    "from_logits": ("with_logits", "activation"),
    "ignore_label": ("ignore_index",),
    "label_smooth_val": ("smoothing", "label_smoothing"),
    "mode": ("activation",),
    "reduce": ("reduction",),
    "sigmoid": ("activation",),
    "size_average": ("reduction",),
    "smooth_nr": ("smooth",),
    "smoothing": ("label_smoothing",),
    "softmax": ("activation",),
    "squared_pred": ("exponent",),
    "T": ("temperature",),
    "tau": ("temperature",),
    "use_sigmoid": ("activation",),
    "w_type": ("weight_type",),
    "weight": ("class_weight", "loss_weight"),
    "weights": ("class_weight", "loss_weight"),
}
"""Parameter → those that have its place here, as far as a loss has them."""

_BINARY = "For a sigmoid per class use 'BinaryCrossEntropyLoss'."
ADVICE: dict[tuple[str, str], str] = {
    ("CrossEntropyLoss", "avg_non_ignore"): "Leave it out: the mean is over the labels that are not ignored.",
    ("CrossEntropyLoss", "pos_weight"): _BINARY,
    ("CrossEntropyLoss", "use_mask"): _BINARY,
    ("CrossEntropyLoss", "use_sigmoid"): _BINARY,
    ("CrossEntropyLoss", "use_soft"): "Leave it out: probabilities are taken as targets too.",
    ("DiceLoss", "to_onehot_y"): "Leave it out: targets are class indices.",
}
"""Loss and parameter of another library → what to do."""


def loss_hint(name: str, known: Iterable[str]) -> str:
    """Say what is meant by a name that no loss has: a sentence that starts with a space, or nothing.

    Args:
        name: What was written. A dotted path, as `torch.nn.MSELoss`, is looked up by its last part.
        known: The names of all losses; a hint names one of these.

    Example:
        >>> loss_hint("nn.HuberLoss", ["SmoothL1Loss"])
        " Did you mean 'SmoothL1Loss'? Huber's loss is delta times SmoothL1Loss(beta=delta)."
        >>> loss_hint("nn.HuberLoss", ["L1Loss"])
        ''
    """
    names = list(known)
    last = name.rpartition(".")[2]
    if last != name and last in names:
        return f" Did you mean {last!r}?"
    key = last if last in LOSSES_ELSEWHERE else f"{last}Loss"
    if key not in LOSSES_ELSEWHERE:
        return did_you_mean(last, names)
    ours = LOSSES_ELSEWHERE[key]
    meant = re.findall(r"\w*Loss", ours)
    if not meant or not set(meant) <= set(names):
        return ""
    listed = re.sub(r"\w*Loss", lambda found: repr(found[0]), ours)
    return f" Did you mean {listed}? {NOTES.get(key, '')}".rstrip()


def parameter_hint(loss: str, name: object, known: Collection[str]) -> str:
    """Say what is meant by a parameter that a loss does not have: a sentence that starts with a space, or nothing.

    Example:
        >>> parameter_hint("KDLoss", "tau", ["temperature"])
        " Did you mean 'temperature'?"
    """
    if not isinstance(name, str):
        return ""
    if advice := ADVICE.get((loss, name)):
        return f" {advice}"
    if ours := [repr(parameter) for parameter in PARAMETERS_ELSEWHERE.get(name, ()) if parameter in known]:
        return f" Did you mean {' or '.join(ours)}?"
    return did_you_mean(name, known)
