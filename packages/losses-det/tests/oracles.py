"""The detection losses in NumPy float64, written from the published formulas, one pair of boxes at a time."""

from __future__ import annotations

import math

import numpy as np

# ---------------------------------------------------------------------------------------------------------- boxes


def to_corners(box, bbox_format):
    a, b, c, d = (float(v) for v in box)
    if bbox_format == "xyxy":
        return a, b, c, d
    if bbox_format == "ltwh":
        return a, b, a + c, b + d
    return a - c / 2, b - d / 2, a + c / 2, b + d / 2


class Pair:
    """Two boxes and what can be measured of them."""

    def __init__(self, box, other, eps, bbox_format):
        x1, y1, x2, y2 = to_corners(box, bbox_format)
        g1, g2, g3, g4 = to_corners(other, bbox_format)
        self.eps = eps
        self.w, self.h = max(x2 - x1, 0), max(y2 - y1, 0)
        self.wg, self.hg = max(g3 - g1, 0), max(g4 - g2, 0)
        self.inter = max(min(x2, g3) - max(x1, g1), 0) * max(min(y2, g4) - max(y1, g2), 0)
        self.union = self.w * self.h + self.wg * self.hg - self.inter
        self.iou = self.inter / max(self.union, eps)
        self.ew = max(max(x2, g3) - min(x1, g1), 0)
        self.eh = max(max(y2, g4) - min(y1, g2), 0)
        self.dx, self.dy = (x1 + x2 - g1 - g3) / 2, (y1 + y2 - g2 - g4) / 2


def of_iou(pair, mode):
    if mode == "log":
        return -math.log(max(pair.iou, pair.eps))
    return 1 - pair.iou**2 if mode == "square" else 1 - pair.iou


def distance_term(p):
    return (p.dx**2 + p.dy**2) / max(p.ew**2 + p.eh**2, p.eps)


def giou_term(p):
    hull = p.ew * p.eh
    return (hull - p.union) / max(hull, p.eps)


def aspect(p):
    return 4 / math.pi**2 * (math.atan2(p.wg, p.hg) - math.atan2(p.w, p.h)) ** 2


def alpha_of(p):
    return aspect(p) / max((1 - p.iou) + aspect(p), p.eps)


def ciou_terms(p):
    return distance_term(p), alpha_of(p) * aspect(p)


def eiou_terms(p):
    return distance_term(p), (p.w - p.wg) ** 2 / max(p.ew**2, p.eps), (p.h - p.hg) ** 2 / max(p.eh**2, p.eps)


def siou_term(p, theta):
    angle = 2 * abs(p.dx * p.dy) / max(p.dx**2 + p.dy**2, p.eps)
    delta = sum(1 - math.exp(-(2 - angle) * (d / max(e, p.eps)) ** 2) for d, e in ((p.dx, p.ew), (p.dy, p.eh)))
    omega = [abs(t - g) / max(t, g, p.eps) for t, g in ((p.w, p.wg), (p.h, p.hg))]
    return (delta + sum((1 - math.exp(-o)) ** theta for o in omega)) / 2


def shrunk(box, bbox_format, ratio):
    x1, y1, x2, y2 = to_corners(box, bbox_format)
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, ratio * (x2 - x1), ratio * (y2 - y1)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _boxes(pred, target, terms, mode, eps=1e-6, bbox_format="xyxy", power=1.0, inner_ratio=None, focal_gamma=0.0):
    value = []
    for box, other in zip(pred.reshape(-1, 4), target.reshape(-1, 4), strict=True):
        pair = inner = Pair(box, other, eps, bbox_format)
        if inner_ratio is not None:
            inner = Pair(*(shrunk(b, bbox_format, inner_ratio) for b in (box, other)), eps, "xyxy")
        overlap = 1 - inner.iou**power if power != 1 else of_iou(inner, mode)
        loss = overlap + sum(max(term, 0) ** power for term in terms(pair))
        value.append(loss * (pair.iou**focal_gamma if focal_gamma else 1))
    return np.array(value, np.float64).reshape(pred.shape[:-1]), 1.0


def iou(pred, target, mode="log", **options):
    return _boxes(pred, target, lambda pair: (), mode, **options)


def giou(pred, target, mode="linear", **options):
    return _boxes(pred, target, lambda pair: [giou_term(pair)], mode, **options)


def diou(pred, target, mode="linear", **options):
    return _boxes(pred, target, lambda pair: [distance_term(pair)], mode, **options)


def ciou(pred, target, mode="linear", **options):
    return _boxes(pred, target, ciou_terms, mode, **options)


def eiou(pred, target, mode="linear", **options):
    return _boxes(pred, target, eiou_terms, mode, **options)


def siou(pred, target, mode="linear", theta=4.0, **options):
    return _boxes(pred, target, lambda pair: [siou_term(pair, theta)], mode, **options)


def mpdiou(pred, target, image_size, mode="linear", power=1.0, bbox_format="xyxy", **options):
    value, _ = _boxes(pred, target, lambda pair: (), mode, power=power, bbox_format=bbox_format, **options)
    sizes = np.broadcast_to(np.asarray(image_size, np.float64), (*pred.shape[:-1], 2))
    for at in np.ndindex(value.shape):
        corners = zip(to_corners(pred[at], bbox_format), to_corners(target[at], bbox_format), strict=True)
        value[at] += sum((a - b) ** 2 for a, b in corners) / (sizes[at] ** 2).sum()
    return value, 1.0


def nwd(pred, target, constant=12.8, bbox_format="xyxy"):
    value = np.zeros(pred.shape[:-1])
    for at in np.ndindex(value.shape):
        p = Pair(pred[at], target[at], 1e-6, bbox_format)
        w2 = p.dx**2 + p.dy**2 + ((p.w - p.wg) ** 2 + (p.h - p.hg) ** 2) / 4
        value[at] = 1 - math.exp(-math.sqrt(w2) / constant)
    return value, 1.0


def wiou(pred, target, version=3, alpha=1.9, delta=3.0, momentum=1e-4, eps=1e-6, bbox_format="xyxy", mean=1.0):
    """The first call of a training."""
    rows = zip(pred.reshape(-1, 4), target.reshape(-1, 4), strict=True)
    pairs = [Pair(box, other, eps, bbox_format) for box, other in rows]
    if pairs:
        mean = (1 - momentum) * mean + momentum * sum(1 - p.iou for p in pairs) / len(pairs)
    value = []
    for p in pairs:
        r = math.exp((p.dx**2 + p.dy**2) / max(p.ew**2 + p.eh**2, eps))
        beta = (1 - p.iou) / mean
        focus = beta / (delta * alpha ** (beta - delta)) if version == 3 else 1
        value.append(focus * r * (1 - p.iou))
    return np.array(value, np.float64).reshape(pred.shape[:-1]), 1.0


# ----------------------------------------------------------------------------------------------------- coordinates


def l1(pred, target):
    return np.abs(pred - target), 1.0


def smooth_l1(pred, target, beta=1.0):
    x = np.abs(pred - target)
    return np.where(x < beta, 0.5 * x**2 / (beta or 1), x - 0.5 * beta), 1.0


def balanced_l1(pred, target, alpha=0.5, gamma=1.5, beta=1.0):
    x, b = np.abs(pred - target), math.exp(gamma / alpha) - 1
    near = alpha / b * (b * x + beta) * np.log(b * x / beta + 1) - alpha * x
    return np.where(x < beta, near, gamma * x + gamma * beta / b - alpha * beta), 1.0


# ---------------------------------------------------------------------------------------------------------- scores


def _probability(pred, use_sigmoid):
    return 1 / (1 + np.exp(-pred)) if use_sigmoid else pred


def _bce(p, y):
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def dense_scores(pred, target):
    if not isinstance(target, tuple | list):
        return target
    scores = np.zeros_like(pred)
    for at in np.ndindex(pred.shape[:-1]):
        label = target[0][at]
        if 0 <= label < pred.shape[-1]:
            scores[(*at, label)] = target[1][at]
    return scores


def quality_focal(pred, target, beta=2.0, use_sigmoid=True):
    y, p = dense_scores(pred, target), _probability(pred, use_sigmoid)
    return (np.abs(y - p) ** beta * _bce(p, y)).sum(-1), 1.0


def varifocal(pred, target, alpha=0.75, gamma=2.0, use_sigmoid=True, iou_weighted=True, detach_weight=False):
    p = _probability(pred, use_sigmoid)
    positive = target if iou_weighted else np.ones_like(target)
    return np.where(target > 0, positive, alpha * p**gamma) * _bce(p, target), 1.0


def distribution_focal(pred, target, reg_max=16):
    bins = reg_max + 1
    logits = pred.reshape(-1, bins)
    value = np.empty(target.size)
    for row, y in enumerate(np.clip(target, 0, reg_max).ravel()):
        shifted = logits[row] - logits[row].max()
        log_s = shifted - math.log(np.exp(shifted).sum())
        left = min(math.floor(y), reg_max - 1)
        value[row] = -((left + 1 - y) * log_s[left] + (y - left) * log_s[left + 1])
    return value.reshape(target.shape), 1.0


def gaussian_focal(pred, target, alpha=2.0, gamma=4.0, use_sigmoid=True):
    p = _probability(pred, use_sigmoid)
    value = np.empty_like(p)
    for at in np.ndindex(p.shape):
        if target[at] == 1:
            value[at] = -((1 - p[at]) ** alpha) * math.log(p[at])
        else:
            value[at] = -((1 - target[at]) ** gamma) * p[at] ** alpha * math.log(1 - p[at])
    return value, 1.0


# ------------------------------------------------------------------------------------------------------- keypoints

COCO = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
"""In thousandths, as in pycocotools."""


def oks(pred, target, area, visibility=None, sigmas=None, mode="linear", eps=1e-6):
    sigmas = [s / 1000 for s in COCO] if sigmas is None else sigmas
    value, counted = np.zeros(len(pred)), np.zeros(len(pred))
    for n in range(len(pred)):
        terms = []
        for k, sigma in enumerate(sigmas):
            if visibility is None or visibility[n, k] > 0:
                d2 = ((pred[n, k] - target[n, k]) ** 2).sum()
                terms.append(math.exp(-d2 / (2 * max(area[n], 1e-9) * (2 * sigma) ** 2)))
        if terms:
            similarity = sum(terms) / len(terms)
            value[n] = 1 - similarity if mode == "linear" else -math.log(max(similarity, eps))
            counted[n] = 1
    return value, counted


# ---------------------------------------------------------------------------------------- quality of matched boxes


def _matched(pred, target):
    """(row, class) → quality, of what is matched."""
    if isinstance(target, tuple | list):
        pairs = zip(np.ndindex(pred.shape[:-1]), target[0].ravel(), target[1].ravel(), strict=True)
        return {(*at, int(label)): q for at, label, q in pairs if 0 <= label < pred.shape[-1]}
    return {at: target[at] for at in np.ndindex(target.shape) if target[at] > 0}


def matchability_aware(pred, target, alpha=None, gamma=1.5):
    p, matched = _probability(pred, True), _matched(pred, target)
    value = np.zeros(pred.shape[:-1])
    for at in np.ndindex(pred.shape):
        if at in matched:
            value[at[:-1]] += _bce(p[at], matched[at] ** gamma)
        else:
            value[at[:-1]] -= (1 if alpha is None else alpha) * p[at] ** gamma * math.log(1 - p[at])
    return value, 1.0


def iou_aware_bce(pred, target, alpha=0.25, gamma=2.0, min_target=0.01):
    p, matched = _probability(pred, True), _matched(pred, target)
    value = np.zeros(pred.shape[:-1])
    for at in np.ndindex(pred.shape):
        if at in matched:
            value[at[:-1]] += _bce(p[at], max(p[at] ** alpha * matched[at] ** (1 - alpha), min_target))
        else:
            value[at[:-1]] -= p[at] ** gamma * math.log(1 - p[at])
    return value, 1.0


# --------------------------------------------------------------------------------------- fine-grained distributions


def bin_values(reg_max=32, up=0.5, reg_scale=4.0):
    a, half = up * reg_scale, reg_max // 2
    step = (a + 1) ** (2 / (reg_max - 2)) if reg_max > 2 else 1
    right = [step**i - 1 for i in range(1, half)]
    return np.array([-2 * a, *(-w for w in reversed(right)), 0.0, *right, 2 * a])


def _log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def fine_grained(pred, target, reg_max=32, up=0.5, reg_scale=4.0):
    w, log_s = bin_values(reg_max, up, reg_scale), _log_softmax(pred.reshape(-1, reg_max + 1))
    value = np.empty(target.size)
    for row, d in enumerate(np.clip(target, w[0], w[-1]).ravel()):
        i = max(k for k in range(reg_max) if w[k] <= d)
        right = (d - w[i]) / (w[i + 1] - w[i])
        value[row] = -(1 - right) * log_s[row, i] - right * log_s[row, i + 1]
    return value.reshape(target.shape), 1.0


def decoupled_distillation(pred, target, matched, quality=None, reg_max=32, temperature=5.0):
    shape = (*matched.shape, 4)
    log_p, log_q = (_log_softmax(x.reshape(*shape, reg_max + 1) / temperature) for x in (pred, target))
    value = temperature**2 * (np.exp(log_q) * (log_q - log_p)).sum(-1)
    if quality is not None:
        value = value * quality[..., None]
    share = np.ones(shape)
    for group in (matched, ~matched):
        share[group] = 1 / math.sqrt(max(4 * group.sum(), 1))
    return value * share, share


# --------------------------------------------------------------------------------------------------- rotated boxes


def _gaussian(box, share, floor, angle_unit):
    x, y, w, h, angle = (float(number) for number in box)
    angle = math.radians(angle) if angle_unit == "degree" else angle
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.array([x, y]), turn @ np.diag([share * w**2 + floor, share * h**2 + floor]) @ turn.T


def _root_of(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values)) @ vectors.T


def _rotated(pred, target, share, floor, angle_unit, distance):
    value = np.zeros(pred.shape[:-1])
    for at in np.ndindex(value.shape):
        (mean, sigma), (mean_t, sigma_t) = (_gaussian(box[at], share, floor, angle_unit) for box in (pred, target))
        value[at] = distance(mean - mean_t, sigma, sigma_t)
    return value, 1.0


def _transform(x, fun, tau):
    f = {"log1p": math.log1p, "sqrt": math.sqrt, "none": float}[fun](x)
    return 1 - 1 / (tau + f) if tau >= 1 else f


def probiou(pred, target, mode="l1", floor=0.01, angle_unit="radian"):
    def distance(d, p, t):
        b = d @ np.linalg.inv(p + t) @ d / 4
        b += math.log(np.linalg.det(p + t) / (4 * math.sqrt(np.linalg.det(p) * np.linalg.det(t)))) / 2
        return math.sqrt(1 - math.exp(-b)) if mode == "l1" else b

    return _rotated(pred, target, 1 / 12, floor, angle_unit, distance)


def gwd(pred, target, fun="log1p", tau=1.0, alpha=1.0, normalize=True, floor=1e-6, angle_unit="radian"):
    def distance(d, p, t):
        half = _root_of(p)
        shape = np.trace(p) + np.trace(t) - 2 * np.trace(_root_of(half @ t @ half))
        value = math.sqrt(d @ d + alpha**2 * shape)
        return _transform(value / (2 * np.linalg.det(p @ t) ** 0.125) if normalize else value, fun, tau)

    return _rotated(pred, target, 1 / 4, floor, angle_unit, distance)


def kld(pred, target, fun="log1p", tau=1.0, alpha=1.0, sqrt=True, floor=1e-6, angle_unit="radian"):
    def distance(d, p, t):
        inverse = np.linalg.inv(p)
        k = d @ inverse @ d / (2 * alpha**2) + np.trace(inverse @ t) / 2 - 1
        k += math.log(np.linalg.det(p) / np.linalg.det(t)) / 2
        return _transform(math.sqrt(k) if sqrt else k, fun, tau)

    return _rotated(pred, target, 1 / 4, floor, angle_unit, distance)


def pairwise(name, pred, target, **options):
    """The cost of every pair of the last axes but one (of labels: the last), one pair at a time."""
    if name in ("focal", "softmax"):
        lead, queries, targets = pred.shape[:-2], pred.shape[-2], target.shape[-1]
    else:
        axes = options.pop("axes", 1)
        lead, queries, targets = pred.shape[: -axes - 1], pred.shape[-axes - 1], target.shape[-axes - 1]
    cost = np.zeros((*lead, queries, targets))
    for index in np.ndindex(*lead, queries, targets):
        *where, q, m = index
        cost[index] = PAIR[name](pred[(*where, q)], target[(*where, m)], **options)
    return cost


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _focal_pair(logits, label, alpha=0.25, gamma=2.0):
    x = logits[label]
    p = 1 / (1 + math.exp(-x)) if x > -700 else 0.0
    q = 1 / (1 + math.exp(x)) if x < 700 else 0.0
    return alpha * q**gamma * _softplus(-x) - (1 - alpha) * p**gamma * _softplus(x)


def _softmax_pair(logits, label):
    return -math.exp(_log_softmax(logits)[label])


def _mask_bce_pair(x, t):
    return np.mean(t * _softplus(-x) + (1 - t) * _softplus(x))


def _mask_dice_pair(x, t, smooth=1.0):
    p = np.exp(-_softplus(-x))
    return 1 - (2 * np.sum(p * t) + smooth) / (np.sum(p) + np.sum(t) + smooth)


def _pair_of(loss):
    return lambda pred, target, **options: loss(pred, target, **options)[0].item()


PAIR = {
    "focal": _focal_pair,
    "softmax": _softmax_pair,
    "l1": lambda pred, target: np.abs(pred - target).sum(),
    "iou": _pair_of(iou),
    "giou": _pair_of(giou),
    "diou": _pair_of(diou),
    "ciou": _pair_of(ciou),
    "eiou": _pair_of(eiou),
    "siou": _pair_of(siou),
    "mask_bce": _mask_bce_pair,
    "mask_dice": _mask_dice_pair,
}
