"""The classification losses in NumPy float64, written from the published formulas, one element at a time in mind."""

from __future__ import annotations

import numpy as np


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x, axis=1):
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _axis_one(values, x):
    values = np.asarray(values, dtype=np.float64)
    return values if values.ndim == 0 else values.reshape(-1, *([1] * (x.ndim - 2)))


def _distribution(x, target, smoothing, ignore_index):
    """Class-last one-hot (or given) target distribution, and which places count."""
    classes = x.shape[1]
    if target.shape == x.shape:
        q, counted = np.moveaxis(target, 1, -1), np.ones(target[:, 0].shape, bool)
    else:
        counted = target != ignore_index
        q = np.eye(classes)[np.where(counted, target, 0)]
    return (1 - smoothing) * q + smoothing / classes, counted


def cross_entropy(pred, target, class_weight=None, ignore_index=-100, label_smoothing=0.0):
    q, counted = _distribution(pred, target, label_smoothing, ignore_index)
    w = np.ones(pred.shape[1]) if class_weight is None else np.asarray(class_weight, np.float64)
    value = -(w * q * np.moveaxis(log_softmax(pred), 1, -1)).sum(-1) * counted
    if target.shape == pred.shape:
        return value, 1.0
    return value, np.where(counted, w[np.where(counted, target, 0)], 0)


def soft_cross_entropy(pred, target, class_weight=None):
    return cross_entropy(pred, target, class_weight)


def label_smooth(pred, target, smoothing=0.1, num_classes=None, class_weight=None, ignore_index=-100):
    return cross_entropy(pred, target, class_weight, ignore_index, smoothing)


def binary_cross_entropy(pred, target, pos_weight=1.0, with_logits=True, class_weight=1.0, ignore_index=-100):
    target = target.reshape(pred.shape)
    p = sigmoid(pred) if with_logits else pred
    v, w = _axis_one(pos_weight, pred), _axis_one(class_weight, pred)
    counted = target != ignore_index
    with np.errstate(divide="ignore"):
        log_p, log_q = np.maximum(np.log(p), -100), np.maximum(np.log(1 - p), -100)
    return -w * (v * target * log_p + (1 - target) * log_q) * counted, counted


def focal(pred, target, alpha=0.25, gamma=2.0, class_weight=None, ignore_index=-100, use_sigmoid=False):
    classes = pred.shape[1]
    w = np.ones(classes) if class_weight is None else np.asarray(class_weight, np.float64)
    if use_sigmoid:
        if target.ndim == 1:
            counted = np.repeat((target != ignore_index)[:, None], classes, 1)
            target = (target[:, None] == np.arange(classes)).astype(np.float64)
        else:
            counted = target != ignore_index
        value, _ = sigmoid_focal(pred, target, alpha, gamma, w)
        return value * counted, counted
    counted = target != ignore_index
    label = np.where(counted, target, 0)
    p = np.take_along_axis(softmax(pred), np.expand_dims(label, 1), 1).squeeze(1)
    a = np.asarray(1.0 if alpha is None else alpha, np.float64)
    a = a[label] if a.ndim else a
    return -a * w[label] * (1 - p) ** gamma * np.log(p) * counted, w[label] * counted


def sigmoid_focal(pred, target, alpha=0.25, gamma=2.0, class_weight=1.0, ignore_index=-100):
    target = target.reshape(pred.shape)
    counted = target != ignore_index
    p = sigmoid(pred)
    p_t = p * target + (1 - p) * (1 - target)
    ce = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    off = alpha is None or (np.ndim(alpha) == 0 and alpha < 0)
    a = 1.0 if off else _axis_one(alpha, pred) * target + (1 - _axis_one(alpha, pred)) * (1 - target)
    return np.where(counted, a * _axis_one(class_weight, pred) * np.abs(1 - p_t) ** gamma * ce, 0), counted


def asymmetric(pred, target, gamma_neg=4, gamma_pos=1, clip=0.05, disable_torch_grad_focal=True, ignore_index=-100):
    counted = target != ignore_index
    p = sigmoid(pred)
    p_m = np.maximum(p - clip, 0)
    value = -(target * (1 - p) ** gamma_pos * np.log(p) + (1 - target) * p_m**gamma_neg * np.log(1 - p_m))
    return value * counted, counted


def poly_cross_entropy(pred, target, epsilon=1.0, class_weight=None, ignore_index=-100, label_smoothing=0.0):
    value, normalizer = cross_entropy(pred, target, class_weight, ignore_index, label_smoothing)
    q, counted = _distribution(pred, target, label_smoothing, ignore_index)
    w = np.ones(pred.shape[1]) if class_weight is None else np.asarray(class_weight, np.float64)
    return value + epsilon * (w * q * (1 - np.moveaxis(softmax(pred), 1, -1))).sum(-1) * counted, normalizer


def poly_focal(pred, target, epsilon=1.0, alpha=0.25, gamma=2.0, ignore_index=-100):
    value, counted = sigmoid_focal(pred, target, alpha, gamma, ignore_index=ignore_index)
    target = target.reshape(pred.shape)
    p = sigmoid(pred)
    wrong = target * (1 - p) + (1 - target) * p
    a = 1.0 if alpha is None or alpha < 0 else alpha * target + (1 - alpha) * (1 - target)
    return np.where(counted, value + a * epsilon * np.abs(wrong) ** (gamma + 1), 0), counted


def logit_adjusted(
    pred, target, class_counts, tau=1.0, class_weight=None, ignore_index=-100, label_smoothing=0.0, adjust_in_eval=False
):
    counts = np.asarray(class_counts, np.float64)
    counts = np.where(counts > 0, counts, counts[counts > 0].min())
    prior = (counts / counts.sum()).reshape(-1, *([1] * (pred.ndim - 2)))
    return cross_entropy(pred + tau * np.log(prior), target, class_weight, ignore_index, label_smoothing)


def jsd_cross_entropy(pred, target, num_splits=3, alpha=12.0, smoothing=0.1, ignore_index=-100):
    splits = np.split(pred, num_splits)
    value, counted = cross_entropy(splits[0], target[: len(splits[0])], None, ignore_index, smoothing)
    p = [softmax(x) for x in splits]
    mean = sum(p) / num_splits
    divergence = sum((q * np.log(q / mean)).sum(1) for q in p) / num_splits
    return value + alpha * divergence * (counted > 0), counted


def asymmetric_single_label(
    pred, target, gamma_neg=4.0, gamma_pos=0.0, smoothing=0.1, class_weight=None, ignore_index=-100
):
    classes = pred.shape[1]
    w = np.ones(classes) if class_weight is None else np.asarray(class_weight, np.float64)
    q, counted = _distribution(pred, target, smoothing, ignore_index)
    p = np.moveaxis(softmax(pred), 1, -1)
    label = np.where(counted, target, 0)
    is_label = np.arange(classes) == label[..., None]
    focus = np.where(is_label, (1 - p) ** gamma_pos, p**gamma_neg)
    return -(w * q * focus * np.log(p)).sum(-1) * counted, w[label] * counted


def zlpr(pred, target, ignore_index=-100):
    target = target.reshape(pred.shape)
    valid = target != ignore_index
    positive, negative = valid & (target > 0.5), valid & (target <= 0.5)
    value = np.log(1 + (np.exp(pred) * negative).sum(1)) + np.log(1 + (np.exp(-pred) * positive).sum(1))
    return value, valid.any(1)


def seesaw(pred, target, num_classes, p=0.8, q=2.0, eps=0.01, ignore_index=-100):
    """The first batch: the counts are those of its own labels."""
    counted = target != ignore_index
    n = np.maximum(np.bincount(target[counted], minlength=num_classes), 1).astype(np.float64)
    y = np.where(counted, target, 0)[..., None]
    sigma, x = np.moveaxis(softmax(pred), 1, -1), np.moveaxis(pred, 1, -1)
    sigma_y = np.maximum(np.take_along_axis(sigma, y, -1), eps)
    factor = np.minimum(1, n / n[y]) ** p * np.maximum(1, sigma / sigma_y) ** q
    np.put_along_axis(factor, y, 1.0, -1)
    weighted = factor * np.exp(x)
    return -np.log(np.take_along_axis(np.exp(x), y, -1)[..., 0] / weighted.sum(-1)) * counted, counted


def two_way(pred, target, temperature_pos=4.0, temperature_neg=1.0, ignore_index=-100):
    classes = pred.shape[1]
    x, t = (np.moveaxis(a.reshape(pred.shape), 1, -1).reshape(-1, classes) for a in (pred, target))
    sums, numbers = [], []
    for logits, tags in ((x, t), (x.T, t.T)):
        h = []
        for row, tag in zip(logits, tags, strict=True):
            valid = tag != ignore_index
            positive, negative = row[valid & (tag > 0.5)], row[valid & (tag <= 0.5)]
            if positive.size:
                margin = -np.inf
                if negative.size:
                    margin = temperature_neg * np.log(np.exp(negative / temperature_neg).sum())
                    margin += temperature_pos * np.log(np.exp(-positive / temperature_pos).sum())
                h.append(np.log1p(np.exp(margin)))
        sums.append(sum(h))
        numbers.append(max(1, len(h)))
    # the contract divides the sum by the normalizer: by what makes it the two means
    mean = sum(total / number for total, number in zip(sums, numbers, strict=True))
    return sum(sums), sum(sums) / mean if mean else 1.0
