"""Losses between student and teacher."""

from __future__ import annotations

import numpy as np

from bench.edges.exact.common import Array, Target, huber, log_softmax, mean, unit


def distilled(x: Array, t: Array, *, temperature: float = 4.0) -> float:
    if not len(x):
        return 0.0
    log_p, log_q = log_softmax(x / temperature), log_softmax(t / temperature)
    return float(temperature**2 * (np.exp(log_q) * (log_q - log_p)).sum(1).mean())


def decoupled(x: Array, t: Array, labels: Target, *, temperature: float = 4.0) -> float:
    """α 1, β 8."""
    value = []
    for z, u, label in zip(x / temperature, t / temperature, labels, strict=True):
        of_pair = []
        rest = []
        for logits in (z, u):
            others = np.delete(logits, label)
            log_p = log_softmax(logits, 0)
            of_pair.append(np.array([log_p[label], np.logaddexp.reduce(np.delete(log_p, label))]))
            rest.append(log_softmax(others, 0))
        target_class = (np.exp(of_pair[1]) * (of_pair[1] - of_pair[0])).sum()
        value.append(target_class + 8 * (np.exp(rest[1]) * (rest[1] - rest[0])).sum())
    return temperature**2 * mean(np.array(value))


def correlated(x: Array, t: Array) -> float:
    """DIST; where nothing varies there is no correlation."""
    if not len(x):
        return 0.0
    p, q = np.exp(log_softmax(x)), np.exp(log_softmax(t))
    total = 0.0
    for a, b in ((p, q), (p.T, q.T)):
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        total += 1 - mean((unit(a) * unit(b)).sum(1))
    return total


def jensen_shannon(x: Array, t: Array, *, beta: float = 0.5) -> float:
    if not len(x):
        return 0.0
    log_s, log_p = log_softmax(x), log_softmax(t)
    log_m = np.logaddexp(log_s + np.log(1 - beta), log_p + np.log(beta))
    of_teacher, of_student = (np.exp(log) * (log - log_m) for log in (log_p, log_s))
    return float((beta * of_teacher + (1 - beta) * of_student).sum(1).mean())


def listed(x: Array, target: Target) -> float:
    """Of the classes in a list, and all others as one."""
    ids, log_p = target
    if not len(x):
        return 0.0
    log_s, total = log_softmax(x), 0.0
    for row, k, log in zip(log_s, ids, log_p, strict=True):
        rest = max(1 - np.exp(log).sum(), 0.0)
        total += (np.exp(log) * (log - row[k])).sum()
        if rest and len(k) < len(row):
            total += rest * (np.log(rest) - np.logaddexp.reduce(np.delete(row, k)))
    return float(total / len(x))


def binary(x: Array, t: Array) -> float:
    logs = [(-np.logaddexp(0, -z), -np.logaddexp(0, z)) for z in (x, t)]
    return mean(sum(np.exp(log_q) * (log_q - log_p) for log_p, log_q in zip(*logs, strict=True)))


def squared(x: Array, t: Array) -> float:
    return mean((x - t) ** 2)


def cosine(x: Array, t: Array) -> float:
    """Over the channels of each location."""
    x, t = (np.moveaxis(a, 1, -1).reshape(-1, a.shape[1]) for a in (x, t))
    return 1 - mean((unit(x) * unit(t)).sum(1)) if len(x) else 0.0


def channels(x: Array, t: Array) -> float:
    """Divergence of the distributions of each channel over the positions."""
    if not len(x):
        return 0.0
    log_p, log_q = (log_softmax(a.reshape(-1, a.shape[2] * a.shape[3])) for a in (x, t))
    return float((np.exp(log_q) * (log_q - log_p)).sum(1).mean())


def standardized(x: Array, t: Array) -> float:
    """Half the squared difference of standardized channels."""
    if not len(x):
        return 0.0
    rows = [np.moveaxis(a, 1, 0).reshape(a.shape[1], -1) for a in (x, t)]
    z = []
    for a in rows:
        centered = a - a.mean(1, keepdims=True)
        deviation = np.sqrt((centered**2).sum(1, keepdims=True) / max(a.shape[1] - 1, 1))
        varies = deviation > 1e-6 * np.abs(a).max(1, keepdims=True)
        z.append(np.where(varies, centered / np.where(varies, deviation, 1), 0))
    return mean((z[0] - z[1]) ** 2) / 2


def similarities(x: Array, t: Array) -> float:
    return mean((unit(x @ x.T) - unit(t @ t.T)) ** 2) if len(x) else 0.0


def distances(x: Array, t: Array) -> float:
    scaled = []
    for points in (x, t):
        d = np.linalg.norm(points[:, None] - points[None], axis=2)
        pairs = d[~np.eye(len(d), dtype=bool)]
        scaled.append(d / pairs.mean() if pairs.size and pairs.mean() else d)
    return mean(huber(scaled[0] - scaled[1]))


def angles(x: Array, t: Array) -> float:
    cosines = []
    for points in (x, t):
        d = points[None] - points[:, None]
        length = np.linalg.norm(d, axis=2, keepdims=True)
        e = np.divide(d, length, out=np.zeros_like(d), where=length > 0)
        cosines.append(np.einsum("jid,jkd->jik", e, e))
    return mean(huber(cosines[0] - cosines[1]))


def kernels(x: Array, t: Array) -> float:
    if not len(x):
        return 0.0
    p, q = ((unit(points) @ unit(points).T + 1) / 2 for points in (x, t))
    p, q = (k / np.maximum(k.sum(1, keepdims=True), 1e-300) for k in (p, q))
    return mean(q * np.log((q + 1e-7) / (p + 1e-7)))


def attention(x: Array, t: Array) -> float:
    if not len(x):
        return 0.0
    ours, theirs = (unit((points**2).mean(1)) for points in (x, t))
    return mean((ours - theirs) ** 2)


def contrast(x: Array, t: Array, *, temperature: float = 0.07) -> float:
    if not len(x):
        return 0.0
    scores = unit(x) @ unit(t).T / temperature
    return -float(np.diag(log_softmax(scores)).mean() + np.diag(log_softmax(scores.T)).mean())
