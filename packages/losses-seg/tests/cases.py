"""The table of cases: each segmentation loss, with each option that changes what it computes."""

from __future__ import annotations

import torch

from losses_testkit import Case, Inputs

from . import oracles, shape_oracles

C, S = 4, (4, 5)
LARGE = 10


def _size(n, s=S):
    """Larger images in the large batches for which memory is measured, or sums per image and class would show in it."""
    return tuple(8 * side for side in s) if n and n % LARGE == 0 else s


def _logits(generator, n, c=C, s=S):
    return torch.randn(n, c, *_size(n, s), generator=generator, dtype=torch.float64) * 2


def _labels(generator, n, low, high, s=S):
    return torch.randint(low, high, (n, *_size(n, s)), generator=generator)


def index(generator, n):
    return Inputs(_logits(generator, n), _labels(generator, n, 0, C))


def many(generator, n):
    """So many classes that their softmax is computed in another way."""
    return Inputs(_logits(generator, n, 34, (2, 3)), _labels(generator, n, 0, 34, (2, 3)))


def index_channel(generator, n):
    """(n,1,*S) indices of 8 bits."""
    return Inputs(_logits(generator, n), _labels(generator, n, 0, C).unsqueeze(1).to(torch.uint8))


def few(generator, n):
    """Indices of which two classes do not occur, in blocks."""
    return Inputs(_logits(generator, n), _labels(generator, n, 1, C - 1)[:, ::2].repeat_interleave(2, 1))


def volume(generator, n):
    return Inputs(_logits(generator, n, 3, (3, 2, 4)), _labels(generator, n, 0, 3, (3, 2, 4)))


def line(generator, n):
    return Inputs(_logits(generator, n, 3, (11,)), _labels(generator, n, 0, 3, (11,)))


def one_hot(generator, n):
    labels = _labels(generator, n, 0, C)
    return Inputs(_logits(generator, n), torch.nn.functional.one_hot(labels, C).movedim(-1, 1).contiguous())


def soft(generator, n):
    return Inputs(_logits(generator, n), _logits(generator, n).softmax(1))


def multi_hot(generator, n):
    return Inputs(_logits(generator, n), torch.randint(0, 2, (n, C, *_size(n)), generator=generator))


def binary(generator, n):
    return Inputs(_logits(generator, n, 1), _labels(generator, n, 0, 2))


def binary_float(generator, n):
    return Inputs(_logits(generator, n, 1), _labels(generator, n, 0, 2).unsqueeze(1).double())


def plain(generator, n):
    """Without a channel axis."""
    return Inputs(_logits(generator, n, 1)[:, 0], _labels(generator, n, 0, 2))


def rows(generator, n):
    pred = torch.randn(n, C, generator=generator, dtype=torch.float64)
    return Inputs(pred, torch.randint(0, C, (n,), generator=generator))


def with_distance(generator, n):
    """Labels, and distances that are known already."""
    inputs = few(generator, n)
    return Inputs(inputs.pred, inputs.target, {"target_dist": _logits(generator, n)})


def masks(generator, n):
    """(M,1,H,W) logits, masks of another resolution, and the points to read."""
    pred = 2 * torch.randn(n, 1, 12, 16, generator=generator, dtype=torch.float64)
    target = torch.rand(n, 9, 10, generator=generator, dtype=torch.float64)
    return Inputs(pred, target, {"point_coords": torch.rand(n, 6, 2, generator=generator, dtype=torch.float64)})


def masks_as_large(generator, n):
    """(M,H,W) logits, and masks of 0 and 1."""
    pred = 2 * torch.randn(n, 12, 16, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (n, 1, 12, 16), generator=generator)
    return Inputs(pred, target, {"point_coords": torch.rand(n, 6, 2, generator=generator, dtype=torch.float64)})


def ignore_corner(inputs):
    """Ignore all of a mask, and a part of the others."""
    target = inputs.target.clone()
    target[0] = target[1:, ..., :4, :8] = 255
    return Inputs(inputs.pred, target, inputs.call), (target == 255).reshape(inputs.pred.shape)


def wide(generator, n):
    """Images beside which the sums of each class are small."""
    return Inputs(_logits(generator, n, C, (8, 10)), _labels(generator, n, 0, C, (8, 10)))


def with_lines(generator, n):
    """Labels, and labels of their centre lines."""
    inputs = index(generator, n)
    return Inputs(inputs.pred, inputs.target, {"skeleton": _labels(generator, n, 0, C).unsqueeze(1).to(torch.uint8)})


def with_maps(generator, n):
    """Labels, and the centre lines of each class, in [0,1]."""
    inputs = index(generator, n)
    return Inputs(inputs.pred, inputs.target, {"skeleton": _logits(generator, n).sigmoid()})


def flat(values):
    """Probabilities instead of logits."""

    def make(generator, n):
        inputs = values(generator, n)
        return Inputs(inputs.pred.softmax(1) if inputs.pred.shape[1] > 1 else inputs.pred.sigmoid(), inputs.target)

    return make


def ignore_pixels(value=255):
    """Ignore a part of the pixels by their labels, (N,*S) or (N,1,*S)."""

    def ignore(inputs):
        target = inputs.target.clone()
        pixels = target.view(target.shape[0], -1)
        pixels[0, :7] = pixels[1:, ::4] = value
        hidden = (target == value).reshape(inputs.pred.shape[0], 1, *inputs.pred.shape[2:])
        return Inputs(inputs.pred, target, inputs.call), hidden.expand(inputs.pred.shape)

    return ignore


def ignore_plain(inputs):
    target = inputs.target.clone()
    target[0, 0] = target[1:, :, 2] = 255
    return Inputs(inputs.pred, target), (target == 255).reshape(inputs.pred.shape)


def ignore_dense(inputs):
    """Ignore whole pixels of a target of the shape of pred."""
    target = inputs.target.clone()
    target[0, :, 0] = target[1:, :, :, 2] = 255
    return Inputs(inputs.pred, target), target == 255


def ignore_elements(inputs):
    """Ignore single channels of pixels."""
    target = inputs.target.clone()
    target[0, 1, 0] = target[1:, 0, :, 2] = 255
    return Inputs(inputs.pred, target), target == 255


def ignore_rows(inputs):
    target = inputs.target.clone()
    target[0] = target[2] = 255
    return Inputs(inputs.pred, target), (target == 255).unsqueeze(1).expand(inputs.pred.shape)


def ignore_all(value=255):
    return lambda inputs: Inputs(inputs.pred, torch.full_like(inputs.target, value), inputs.call)


def _at(pred, target):
    return lambda: Inputs(pred.double(), target)


LABELS = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]], [[2, 2, 2, 2]] * 3])
SURE = torch.nn.functional.one_hot(LABELS, 3).movedim(-1, 1) * 2e4 - 1e4
EDGES = {
    "right and certain": _at(SURE, LABELS),
    "wrong and certain": _at(-SURE, LABELS),
    "uniform": _at(SURE * 0, LABELS),
    "one pixel": _at(torch.randn(2, 3, 1, 1), torch.tensor([[[1]], [[0]]])),
    "one valid pixel": _at(torch.randn(1, 3, 1, 3), torch.tensor([[[255, 1, 255]]])),
    "one image ignored": _at(torch.randn(2, 3, 3, 4), torch.stack([LABELS[0], torch.full((3, 4), 255)])),
}
MASKS = torch.stack([torch.zeros(4, 4), torch.ones(4, 4), torch.eye(4)]).long()
BINARY_EDGES = {
    "right and certain": _at(MASKS.unsqueeze(1) * 2e4 - 1e4, MASKS),
    "wrong and certain": _at(1e4 - MASKS.unsqueeze(1) * 2e4, MASKS),
    "uniform": _at(torch.zeros(3, 1, 4, 4), MASKS),
    "one image ignored": _at(torch.randn(3, 1, 4, 4), torch.stack([MASKS[2], 255 - 254 * MASKS[2], MASKS[1] * 255])),
}

INDEX = {
    "make": index,
    "ignore": ignore_pixels(),
    "ignore_all": ignore_all(),
    "edges": EDGES,
    "saved": 1.0,
    "saved_size": LARGE,
}
CHANNEL = {**INDEX, "make": index_channel}
FEW = {**INDEX, "make": few}
MANY = {**INDEX, "make": many, "edges": {}}
VOLUME = {**INDEX, "make": volume}
LINE = {**INDEX, "make": line, "saved": None}
ONE_HOT = {**INDEX, "make": one_hot, "ignore": ignore_dense}
SOFT = {**ONE_HOT, "make": soft, "saved": 2.0}
MULTI = {**ONE_HOT, "make": multi_hot, "ignore": ignore_elements, "edges": {}}
BINARY = {**INDEX, "make": binary, "edges": BINARY_EDGES}
BINARY_FLOAT = {**BINARY, "make": binary_float, "saved": 2.0}
PLAIN = {**BINARY, "make": plain, "ignore": ignore_plain}
GIVEN = {**INDEX, "make": flat(index), "logits": False, "edges": {}, "saved": None}
GIVEN_DISTANCE = {**INDEX, "make": with_distance, "edges": {}, "saved": 2.0}
POINTS = {"make": masks, "peak": 2.5}
POINTS_LABELS = {**POINTS, "make": masks_as_large, "ignore": ignore_corner, "ignore_all": ignore_all()}
GIVEN_LINES = {**INDEX, "make": with_lines, "edges": {}, "saved": 2.0}
GIVEN_MAPS = {**GIVEN_LINES, "make": with_maps, "saved": None}
WIDE = {**INDEX, "make": wide}
ROWS = {**INDEX, "make": rows, "ignore": ignore_rows, "edges": {}, "saved": None}


def _sizes(inputs, sizes):
    """Number of classes, and of pixels of the largest part: every rank sends as much."""
    pixels = inputs.pred[0, 0].numel()
    return inputs.pred.shape[1], max(sizes) * pixels


def sent_overlap(inputs, sizes):
    """Three sums and a count of each class, there and back."""
    classes, _ = _sizes(inputs, sizes)
    return [4 * classes * 8], [4 * classes * 8]


def sent_keys(inputs, sizes):
    """How many rows; a key for each class and pixel, signed by the truth; the loss of each class, there and back."""
    classes, pixels = _sizes(inputs, sizes)
    return [8, classes * pixels * 8, classes * 8], [classes * 8]


def sent_soft_keys(inputs, sizes):
    (*gathered, summed), back = sent_keys(inputs, sizes)
    return [*gathered, *gathered, summed], back


def _sent_hardest(min_kept, *, classes):
    """How many losses, and those that may be among the hardest; numerator and denominator.

    With ``classes``, each class of a pixel has a loss of its own.
    """

    def sent(inputs, sizes):
        elements = max(sizes) * (inputs.pred[0] if classes else inputs.pred[0, 0]).numel()
        return [8, (min(min_kept, elements) if isinstance(min_kept, int) else elements) * 8, 16], []

    return sent


BATCH = {"weight": False, "why": "images share their sums", "sent": sent_overlap}
MINED = {
    "weight": False,
    "why": "pixels compete: a weight of zero takes a pixel out of the mining",
}
WEIGHTS = [0.5, 1.0, 2.0, 0.25]


LONG_TO_TRACE = {
    "dynamic": False,
    "why": "compiled for one size: distances and skeletons are those of the default case, and slow to trace",
}


def _case(loss, oracle, kind, id="", **options):
    if any(isinstance(value, list | torch.Tensor) for value in options.values()):
        kind = {**kind, "edges": {}}  # the edge inputs have another number of classes
    settings = {name: options.pop(name) for name in list(options) if name in Case.__dataclass_fields__}
    return Case(loss, oracle=oracle, options=options, id=id, **{**kind, **settings})


def _dice(kind, id="", **options):
    return _case("DiceLoss", oracles.dice, {**kind, "peak": 2.5}, id, **options)


def _binary_dice(kind, id="", **options):
    return _case("BinaryDiceLoss", oracles.binary_dice, {**kind, "peak": 2.5}, id, **options)


def _generalized(kind, id="", **options):
    return _case("GeneralizedDiceLoss", oracles.generalized_dice, {**kind, "peak": 2.5}, id, **options)


def _lovasz(kind, id="", **options):
    settings = (
        {} if options.get("per_image") else {**BATCH, "sent": sent_soft_keys if kind["make"] is soft else sent_keys}
    )
    if kind["make"] is index:
        settings["peak"] = 5.0  # of four classes one at a time is sorted; of eight, 4.0
    return _case("LovaszLoss", oracles.lovasz, {**kind, **settings}, id, **options)


def _hinge(kind, id="", **options):
    settings = {} if options.get("per_image") else {**BATCH, "sent": lambda *given: sent_keys(*_one_channel(*given))}
    return _case("LovaszHingeLoss", oracles.lovasz_hinge, {**kind, **settings, "peak": 14.0}, id, **options)


def _one_channel(inputs, sizes):
    pred = inputs.pred
    return Inputs(pred if pred.shape[1] == 1 else pred.unsqueeze(1), inputs.target), sizes


def _boundary(kind, id="", **options):
    kind = {**kind, **(LONG_TO_TRACE if id else {})}
    return _case("BoundaryLoss", oracles.boundary, {**kind, "peak": 4.0}, id, **options)


def _hausdorff(kind, id="", **options):
    # saved: pred, the distances, what is ignored
    kind = {**kind, "peak": 6.0, "saved": 2.07 if kind["saved"] == 1.0 else None}
    return _case("HDLoss", oracles.hausdorff, kind, id, **options)


def _surface(kind, id="", **options):
    saved = kind["saved"] and kind["saved"] + 0.25
    return _case("SurfaceLoss", shape_oracles.surface, {**kind, "peak": 2.5, "saved": saved}, id, **options)


def _point_mask(kind, id="", **options):
    return _case("PointMaskLoss", shape_oracles.point_mask, kind, id, **options)


def sent_skeletons(inputs, sizes):
    """Six sums of each class, there and back."""
    return [6 * _sizes(inputs, sizes)[0] * 8], [6 * _sizes(inputs, sizes)[0] * 8]


def _cl_dice(kind, id="", **options):
    kind = {**kind, "saved": None, **(LONG_TO_TRACE if id else {})}
    return _case("SoftClDiceLoss", shape_oracles.cl_dice, kind, id, **options)


def _skeleton_recall(kind, id="", **options):
    saved = kind["saved"] and kind["saved"] + 1.25  # beside pred, its probabilities, and the skeleton in bytes
    kind = {**kind, "peak": 2.5, "saved": saved}
    return _case("SkeletonRecallLoss", shape_oracles.skeleton_recall, kind, id, **options)


def _ohem(kind, id="", **options):
    kind = {**kind, **MINED, "sent": _sent_hardest(options.get("min_kept", 100000), classes=False), "peak": 2.5}
    kind["saved"] = kind["saved"] and kind["saved"] + 0.07  # beside pred, what is kept
    return _case("OHEMCrossEntropyLoss", oracles.ohem_cross_entropy, kind, id, **options)


def _ohem_binary(kind, id="", **options):
    kind = {**kind, **MINED, "sent": _sent_hardest(options.get("min_kept", 100000), classes=True), "peak": 6.0}
    kind["saved"] = kind["saved"] and kind["saved"] + 0.25
    return _case("OHEMBinaryLoss", oracles.ohem_binary, kind, id, **options)


def _overlap(loss, oracle, peak=2.5):
    """A maker of cases of a loss of regions, and those that any of them has."""

    def case(kind, id="", **options):
        return _case(loss, oracle, {**kind, "peak": peak}, id, **options)

    few = case(FEW, "present in batch", classes="present", per_image=False, include_background=False, **BATCH)
    ids = case(INDEX, "ids and weight", classes=[0, 3], class_weight=WEIGHTS)
    return case, [case(INDEX), few, ids, case(SOFT, "soft"), case(BINARY, "one channel")]


def sent_totals(inputs, sizes):
    """Two denominators, then a numerator; forward only."""
    return [16, 16], []


def sent_compound(inputs, sizes):
    """Three sums of Dice, a count and the sum of the other loss of each class, there and back; then nothing."""
    return [40 * inputs.pred.shape[1]], [40 * inputs.pred.shape[1]]


COMPOUND = {"avg_factor": False, "why": "two terms with a normalizer each", "sent": sent_totals, "peak": 2.5}
COMPOUND_BATCH = {**COMPOUND, "weight": False, "sent": sent_compound}


def _dice_ce(kind, id="", **options):
    return _case("DiceCELoss", oracles.dice_ce, {**kind, **COMPOUND}, id, **options)


def _dice_focal(kind, id="", **options):
    return _case("DiceFocalLoss", oracles.dice_focal, {**kind, **COMPOUND}, id, **options)


OTHER = {"ignore": ignore_pixels(-100), "ignore_all": ignore_all(-100), "edges": {}}
CLASS_2 = {"ignore": ignore_pixels(2), "ignore_all": ignore_all(2), "edges": {}}

_tversky, TVERSKY = _overlap("TverskyLoss", oracles.tversky)
_focal_tversky, FOCAL_TVERSKY = _overlap("FocalTverskyLoss", oracles.focal_tversky)
_jaccard, JACCARD = _overlap("JaccardLoss", oracles.jaccard)
_mcc, MCC = _overlap("MCCLoss", oracles.mcc, peak=3.0)  # images of 20 pixels, beside whose counts they are small
OVERLAPS = [
    *TVERSKY,
    _tversky(INDEX, "weights", alpha=0.2, beta=1.5),
    _tversky(INDEX, "no smooth", alpha=0.0, smooth=0.0),
    _tversky({**INDEX, **OTHER}, "ignore -100", ignore_index=-100, class_weight=torch.tensor(WEIGHTS)),
    _tversky({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _tversky(CHANNEL, "uint8"),
    _tversky(VOLUME, "3-D"),
    _tversky(ONE_HOT, "one-hot"),
    _tversky(MULTI, "multi-label", activation="sigmoid"),
    _tversky(GIVEN, "probabilities", activation="none"),
    *FOCAL_TVERSKY,
    _focal_tversky(INDEX, "square", gamma=2.0),
    _focal_tversky(VOLUME, "no smooth", gamma=1.3, smooth=0.0),
    *JACCARD,
    _jaccard(INDEX, "no smooth", smooth=0.0),
    *MCC,
    _mcc(FEW, "all", classes="all"),
    _mcc(MULTI, "multi-label", activation="sigmoid", include_background=False),
    _mcc(BINARY_FLOAT, "float batch", per_image=False, **BATCH),
    _dice_ce(INDEX),
    _dice_ce(FEW, "batch", per_image=False, classes="present", ce_weight=0.5, **COMPOUND_BATCH),
    _dice_ce(INDEX, "smoothing and weight", label_smoothing=0.2, class_weight=WEIGHTS, include_background=False),
    _dice_ce({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2, exponent=1.5),
    _dice_ce(CHANNEL, "uint8", label_smoothing=0.1, naive_dice=True),
    _dice_ce(VOLUME, "3-D"),
    _dice_ce(ONE_HOT, "one-hot", class_weight=WEIGHTS),
    _dice_ce(SOFT, "soft", naive_dice=True, label_smoothing=0.1),
    _dice_ce(BINARY, "one channel"),
    _dice_ce(BINARY_FLOAT, "one channel float", naive_dice=True, dice_weight=2.0),
    _dice_focal(INDEX),
    _dice_focal(FEW, "batch", per_image=False, focal_weight=0.5, **COMPOUND_BATCH),
    _dice_focal(INDEX, "half", gamma=0.5, alpha=0.25, class_weight=WEIGHTS),
    _dice_focal(SOFT, "soft", gamma=1.5, peak=3.0),  # images of 20 pixels, as above
    _dice_focal(BINARY, "one channel"),
    _dice_focal(BINARY_FLOAT, "one channel float", gamma=1.5, alpha=0.25),
]

CASES = [
    _dice(INDEX),
    _dice(INDEX, "batch", per_image=False, **BATCH),
    _dice(INDEX, "no smooth", smooth=0.0),
    _dice(INDEX, "exponent 1.5", exponent=1.5),
    _dice(INDEX, "naive", naive_dice=True),
    _dice(FEW, "present", classes="present", include_background=False),
    _dice(FEW, "present in batch", classes="present", per_image=False, **BATCH),
    _dice(INDEX, "ids and weight", classes=[0, 3], class_weight=WEIGHTS),
    _dice({**INDEX, **OTHER}, "ignore -100", ignore_index=-100, class_weight=torch.tensor(WEIGHTS)),
    _dice({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _dice(CHANNEL, "uint8"),
    _dice(VOLUME, "3-D"),
    _dice(MANY, "many classes", peak=3.0),  # images of 6 pixels, beside whose sums they are small
    _dice(LINE, "1-D"),
    _dice(ONE_HOT, "one-hot"),
    _dice(SOFT, "soft"),
    _dice(SOFT, "soft naive", naive_dice=True),
    _dice(MULTI, "multi-label", activation="sigmoid"),
    _dice(BINARY, "one channel"),
    _dice(BINARY_FLOAT, "one channel float", naive_dice=True),
    _dice(GIVEN, "probabilities", activation="none"),
    _binary_dice(BINARY),
    _binary_dice(PLAIN, "no channel", smooth=0.5, naive_dice=True),
    _binary_dice(BINARY_FLOAT, "float batch", per_image=False, **BATCH),
    _binary_dice(BINARY, "present", classes="present"),
    _generalized(INDEX),
    _generalized(INDEX, "batch", per_image=False, **BATCH),
    _generalized(FEW, "absent max", weight_type="simple"),
    _generalized(FEW, "absent zero", absent="zero", smooth=0.0),
    _generalized(FEW, "uniform", weight_type="uniform", absent="zero", include_background=False),
    _generalized({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _generalized(VOLUME, "3-D"),
    _generalized(SOFT, "soft"),
    _generalized(BINARY, "one channel", peak=3.1),
    _generalized(BINARY_FLOAT, "one channel float", include_background=False, peak=3.1),
    _lovasz(INDEX),
    _lovasz(INDEX, "per image", per_image=True),
    _lovasz(FEW, "few"),
    _lovasz(FEW, "all", classes="all"),
    _lovasz(FEW, "ids per image", classes=[0, 2], class_weight=WEIGHTS, per_image=True),
    _lovasz({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _lovasz(CHANNEL, "uint8"),
    _lovasz(VOLUME, "3-D"),
    _lovasz(ONE_HOT, "one-hot"),
    _lovasz(SOFT, "soft"),
    _lovasz(MULTI, "multi-label", activation="sigmoid"),
    _lovasz(BINARY, "one channel", per_image=True),
    _lovasz(GIVEN, "probabilities", activation="none"),
    _hinge(BINARY),
    _hinge(PLAIN, "per image", per_image=True),
    _hinge(BINARY_FLOAT, "float"),
    _boundary(INDEX),
    _boundary(FEW, "all", classes="all", theta=7),
    _boundary(FEW, "ids", classes=[1, 0], theta0=5),
    _boundary({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _boundary(CHANNEL, "uint8"),
    _boundary(VOLUME, "3-D"),
    _boundary(LINE, "1-D"),
    _boundary(SOFT, "soft"),
    _boundary(BINARY, "one channel"),
    _hausdorff(INDEX),
    _hausdorff(INDEX, "alpha", alpha=1.5, include_background=False),
    _hausdorff(INDEX, "threshold", pred_mask="threshold"),
    _hausdorff(INDEX, "one-sided", one_sided=True),
    _hausdorff({**INDEX, "edges": {}}, "spacing", spacing=[0.5, 2.0]),
    _hausdorff({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _hausdorff(VOLUME, "3-D"),
    _hausdorff(SOFT, "soft"),
    _hausdorff(BINARY, "one channel"),
    _surface(INDEX),
    _surface(FEW, "present", classes="present", include_background=False),
    _surface(INDEX, "ids", classes=[3, 0]),
    _surface({**INDEX, "edges": {}}, "spacing", spacing=[0.5, 2.0]),
    _surface({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2),
    _surface(CHANNEL, "uint8"),
    _surface(VOLUME, "3-D"),
    _surface(LINE, "1-D"),
    _surface(SOFT, "soft"),
    _surface(MULTI, "multi-label", activation="sigmoid"),
    _surface(BINARY, "one channel"),
    _surface(GIVEN_DISTANCE, "distance", classes="present"),
    _surface(GIVEN, "probabilities", activation="none"),
    _point_mask(POINTS),
    _point_mask(POINTS, "Dice", bce_weight=0.0, dice_weight=2.0, smooth=0.0),
    _point_mask(POINTS_LABELS, "as large", ignore_index=255),
    _cl_dice(WIDE, iterations=2, peak=2.5),
    _cl_dice(WIDE, "defaults", peak=2.6),
    _cl_dice(INDEX, "batch", iterations=1, per_image=False, **{**BATCH, "sent": sent_skeletons}),
    _cl_dice(FEW, "present", iterations=1, classes="present", include_background=True, smooth=0.0),
    _cl_dice(INDEX, "ids and weight", iterations=0, classes=[1, 3], class_weight=WEIGHTS),
    _cl_dice({**INDEX, **CLASS_2}, "ignore class 2", iterations=1, ignore_index=2),
    _cl_dice(VOLUME, "3-D", iterations=1),
    _cl_dice(LINE, "1-D", iterations=2),
    _cl_dice(SOFT, "soft", iterations=2),
    _cl_dice(MULTI, "multi-label", iterations=1, activation="sigmoid"),
    _cl_dice(BINARY, "one channel", iterations=2),
    _cl_dice(GIVEN, "probabilities", iterations=1, activation="none"),
    _skeleton_recall(INDEX),
    _skeleton_recall(INDEX, "batch", per_image=False, **BATCH),
    _skeleton_recall(FEW, "present", classes="present", include_background=True, smooth=0.0, iterations=1, tube=0),
    _skeleton_recall(INDEX, "ids and weight", iterations=0, tube=1, classes=[1, 3], class_weight=WEIGHTS),
    _skeleton_recall({**INDEX, **CLASS_2}, "ignore class 2", ignore_index=2, iterations=1),
    _skeleton_recall(VOLUME, "3-D", iterations=1, tube=1),
    _skeleton_recall(SOFT, "soft", iterations=1, tube=1),
    _skeleton_recall(BINARY, "one channel", iterations=1, tube=1),
    _skeleton_recall(GIVEN_LINES, "lines"),
    _skeleton_recall(GIVEN_MAPS, "maps", include_background=True, peak=3.1),  # copied where pixels are ignored
    _ohem(INDEX),
    _ohem(INDEX, "five", thresh=0.2, min_kept=5),
    _ohem({**INDEX, "saved": 1.2}, "threshold", peak=3.0, thresh=0.7, min_kept=1, class_weight=WEIGHTS),
    _ohem(INDEX, "part", thresh=None, min_kept=0.3),
    _ohem({**INDEX, **OTHER}, "ignore -100", ignore_index=-100, thresh=None, min_kept=7),
    _ohem(CHANNEL, "uint8", thresh=0.3, min_kept=4),
    _ohem(VOLUME, "3-D", peak=2.75, thresh=None, min_kept=9),  # of few classes, what is kept per pixel takes as much
    _ohem(ROWS, "rows", thresh=0.3, min_kept=2),
    _ohem(SOFT, "soft", peak=3.0, thresh=None, min_kept=0.5, class_weight=WEIGHTS),
    _ohem_binary(BINARY),
    _ohem_binary(PLAIN, "no channel", thresh=0.4, min_kept=6),
    _ohem_binary(MULTI, "multi-label", thresh=None, min_kept=0.2),
    _ohem_binary(BINARY_FLOAT, "float", thresh=0.6, min_kept=3),
    *OVERLAPS,
]
