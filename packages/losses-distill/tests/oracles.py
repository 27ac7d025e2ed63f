"""The distillation losses in NumPy float64, written from the published formulas, position by position."""

from __future__ import annotations

import itertools

import numpy as np
import torch


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def _positions(pred, target, class_dim):
    """Class-last copies of both, and an empty array with one entry per position."""
    axis = 1 if class_dim is None else class_dim
    s, t = np.moveaxis(pred, axis, -1), np.moveaxis(target, axis, -1)
    return s, t, np.zeros(s.shape[:-1])


def kd(
    pred,
    target,
    temperature=4.0,
    reduction="batchmean",
    kl_direction="forward",
    class_dim=None,
    ignore_index=-100,
    logit_standardize=False,
    teacher_detach=True,
    labels=None,
):
    s, t, value = _positions(pred, target, class_dim)
    counted = np.ones(value.shape) if labels is None else labels != ignore_index
    for i in np.ndindex(value.shape):
        z_s, z_t = s[i], t[i]
        if logit_standardize:
            z_s, z_t = ((z - z.mean()) / z.std() for z in (z_s, z_t))
        p, q = softmax(z_s / temperature), softmax(z_t / temperature)
        if kl_direction == "reverse":
            p, q = q, p
        value[i] = counted[i] * temperature**2 * np.sum(q * np.log(q / p))
    return value, counted


def dkd(
    pred, target, labels, temperature=4.0, alpha=1.0, beta=8.0, class_dim=None, ignore_index=-100, teacher_detach=True
):
    s, t, value = _positions(pred, target, class_dim)
    counted = labels != ignore_index
    for i in np.ndindex(value.shape):
        if not counted[i]:
            continue
        p, q = softmax(s[i] / temperature), softmax(t[i] / temperature)
        k = labels[i]
        rest_p, rest_q = np.delete(p, k), np.delete(q, k)
        true = q[k] * np.log(q[k] / p[k]) + rest_q.sum() * np.log(rest_q.sum() / rest_p.sum())
        hat_p, hat_q = rest_p / rest_p.sum(), rest_q / rest_q.sum()
        value[i] = temperature**2 * (alpha * true + beta * np.sum(hat_q * np.log(hat_q / hat_p)))
    return value, counted


def dist(pred, target, beta=1.0, gamma=1.0, temperature=1.0, eps=1e-8, class_dim=None):
    s, t, value = _positions(pred, target, class_dim)
    p = np.array([softmax(s[i] / temperature) for i in np.ndindex(value.shape)]).reshape(-1, s.shape[-1])
    q = np.array([softmax(t[i] / temperature) for i in np.ndindex(value.shape)]).reshape(-1, s.shape[-1])

    def part(rows_p, rows_q):
        losses = []
        for a, b in zip(rows_p, rows_q, strict=True):
            a, b = a - a.mean(), b - b.mean()
            if np.linalg.norm(a) > eps and np.linalg.norm(b) > eps:
                losses.append(1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        return np.mean(losses) if losses else 0.0

    return temperature**2 * (beta * part(p, q) + gamma * part(p.T, q.T)), 1.0


def _pool(x, size, axis):
    """Adaptive average pooling of one axis: window i is [floor(i·n/m), ceil((i+1)·n/m))."""
    n = x.shape[axis]
    windows = [range(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
    return np.stack([x.take(w, axis).mean(axis) for w in windows], axis)


def _matched(pred, target, resize):
    spatial = [1] if pred.ndim == 3 else range(2, pred.ndim)
    if resize == "min":
        for axis in spatial:
            size = min(pred.shape[axis], target.shape[axis])
            pred, target = _pool(pred, size, axis), _pool(target, size, axis)
    return pred, target


def _channels(x):
    return 2 if x.ndim == 3 else 1


def _adapted(pred, student_channels, teacher_channels):
    """The adapter as a seeded build initialises it: U(-1/√in, 1/√in), weight before bias."""
    if student_channels is None or student_channels == teacher_channels:
        return pred
    torch.manual_seed(0)
    layer = torch.nn.Linear(student_channels, teacher_channels)
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return np.moveaxis(np.moveaxis(pred, _channels(pred), -1) @ weight.T + bias, -1, _channels(pred))


def feature(power):
    def oracle(
        pred,
        target,
        normalize=False,
        student_channels=None,
        teacher_channels=None,
        resize=None,
        eps=1e-6,
        weighted_mean=False,
    ):
        pred, target = _matched(pred, target, resize)
        pred = _adapted(pred, student_channels, teacher_channels)
        if normalize:
            pred, target = (x / np.sqrt((x * x).sum(_channels(x), keepdims=True)) for x in (pred, target))
        return np.abs(pred - target) ** power, 1.0

    return oracle


def feature_cosine(
    pred,
    target,
    normalize=False,
    student_channels=None,
    teacher_channels=None,
    resize=None,
    eps=1e-6,
    weighted_mean=False,
):
    pred, target = _matched(pred, target, resize)
    pred = _adapted(pred, student_channels, teacher_channels)
    c = _channels(pred)
    return 1 - (pred * target).sum(c) / np.sqrt((pred**2).sum(c) * (target**2).sum(c)), 1.0


def attention(pred, target, p=2, normalize=True, mode="code", resize="min"):
    """Of each location, or of each sample for mode "paper" and for stages."""
    stages = zip(pred, target, strict=True) if isinstance(pred, list | tuple) else [(pred, target)]
    values = []
    for s, t in stages:
        maps = []
        for x in _matched(s, t, resize):
            q = (np.abs(x) ** p).mean(_channels(x))
            length = np.sqrt((q * q).sum(tuple(range(1, q.ndim)), keepdims=True))
            maps.append(q / length if normalize else q)
        d = np.abs(maps[0] - maps[1])
        values.append(d**2 if mode == "code" else (d**p).reshape(len(d), -1).sum(1) ** (1 / p))
    if not isinstance(pred, list | tuple):
        return values[0], 1.0
    return sum(v.reshape(len(v), -1).mean(1) for v in values), 1.0


def mgd(
    pred, target, alpha_mgd=0.00007, lambda_mgd=0.65, student_channels=None, teacher_channels=None, mask_mode="spatial"
):
    """For lambda 0; the parameters are read from a seeded build, the convolutions are written out."""
    from losses_distill import MGDLoss

    torch.manual_seed(0)
    state = MGDLoss(student_channels=student_channels, teacher_channels=teacher_channels).state_dict()
    state = {name.removeprefix("generation."): value.double().numpy() for name, value in state.items()}
    x = pred
    if "align_weight" in state:
        x = np.einsum("ncij,dc->ndij", x, state["align_weight"]) + state["align_bias"][:, None, None]
    x = np.maximum(convolve(x, state["first_weight"], state["first_bias"]), 0)
    x = convolve(x, state["second_weight"], state["second_bias"])
    return alpha_mgd * ((target - x) ** 2).sum((1, 2, 3)), 1.0


def convolve(x, weight, bias):
    """3×3, padded by one."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    h, w = x.shape[2:]
    total = 0
    for i, j in itertools.product(range(3), range(3)):
        total = total + np.einsum("ncij,dc->ndij", padded[:, :, i : i + h, j : j + w], weight[:, :, i, j])
    return total + bias[:, None, None]


def smooth_l1(x):
    return np.where(np.abs(x) < 1, 0.5 * x * x, np.abs(x) - 0.5)


def _flat(x, l2_normalize=False):
    x = x.reshape(len(x), -1)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if l2_normalize else x


def rkd_distance(pred, target, eps=1e-12, squared=False, l2_normalize=False):
    scaled = []
    for x in (_flat(pred, l2_normalize), _flat(target, l2_normalize)):
        d = np.linalg.norm(x[:, None] - x[None], axis=2) ** (2 if squared else 1)
        off = ~np.eye(len(x), dtype=bool)
        scaled.append(d / d[off].mean() if off.any() else d)
    return smooth_l1(scaled[0] - scaled[1]), 1.0


def rkd_angle(pred, target, eps=1e-12, l2_normalize=False, chunk_size=None):
    cosines = []
    for x in (_flat(pred, l2_normalize), _flat(target, l2_normalize)):
        d = x[None] - x[:, None]  # d[j, i] = x_i - x_j
        length = np.linalg.norm(d, axis=2, keepdims=True)
        e = np.divide(d, length, out=np.zeros_like(d), where=length > np.sqrt(eps))
        cosines.append(np.einsum("jid,jkd->jik", e, e))
    return smooth_l1(cosines[0] - cosines[1]).sum((1, 2)), float(len(pred) ** 2)


def pkt(pred, target, eps=1e-7, reduction="mean"):
    kernels = []
    for x in (_flat(pred, True), _flat(target, True)):
        k = (x @ x.T + 1) / 2
        kernels.append(k / k.sum(1, keepdims=True))
    p, q = kernels
    return q * np.log((q + eps) / (p + eps)), 1.0


def crd_heads(pred, target, student_channels, teacher_channels, feat_dim):
    """Embeddings of length 1, through the heads of a seeded build: student's first, then the teacher's."""
    s, t = _flat(pred), _flat(target)
    if student_channels is not None:
        torch.manual_seed(0)
        heads = [torch.nn.Linear(n, feat_dim) for n in (student_channels, teacher_channels)]
        s, t = (
            x @ h.weight.detach().double().numpy().T + h.bias.detach().double().numpy()
            for x, h in zip((s, t), heads, strict=True)
        )
    return _flat(s, True), _flat(t, True)


def crd(
    pred,
    target,
    temperature=0.07,
    neg_num=16384,
    mode="auto",
    student_channels=None,
    teacher_channels=None,
    feat_dim=128,
    num_samples=None,
    momentum=0.5,
    eps=1e-7,
    share_negatives=True,
    sample_idx=None,
    contrast_idx=None,
):
    """The first call: an empty queue, or banks as a seeded build draws them."""
    s, t = crd_heads(pred, target, student_channels, teacher_channels, feat_dim)
    if num_samples is not None:
        banks = _drawn_banks(num_samples, s.shape[1])
        value, _ = nce(s, t, banks, contrast_idx, temperature, eps)
        return value, 1.0
    return info_nce(s, t, temperature, sample_idx), 1.0


def _drawn_banks(num_samples, width):
    """What a seeded build draws at its first call."""
    from losses_distill import CRDLoss

    torch.manual_seed(0)
    loss = CRDLoss(num_samples=num_samples).eval()
    index = torch.zeros(1, 2, dtype=torch.long)  # given, so that nothing but the banks is drawn
    loss(torch.ones(1, width), torch.ones(1, width), sample_idx=index[:, 0], contrast_idx=index)
    return [loss.memory.student.double().numpy(), loss.memory.teacher.double().numpy()]


def info_nce(s, t, temperature, sample_idx=None, queued=None):
    """Both directions, one anchor at a time; ``queued`` holds rows of students, of teachers, and their indices."""
    n = len(s)
    index = [None] * n if sample_idx is None else list(sample_idx)
    old_s, old_t, old_index = ([], [], []) if queued is None else queued
    value = np.zeros(n)
    for anchors, keys, old in ((s, t, old_t), (t, s, old_s)):
        for i in range(n):
            others = [keys[j] for j in range(n) if j != i and (index[i] is None or index[j] != index[i])]
            others += [row for row, k in zip(old, old_index, strict=True) if index[i] is None or k != index[i]]
            positive = np.exp(anchors[i] @ keys[i] / temperature)
            value[i] -= np.log(positive / (positive + sum(np.exp(anchors[i] @ row / temperature) for row in others)))
    return value


def nce(s, t, banks, contrast_idx, temperature, eps, log_z=None):
    """Value of each sample, and log Z of both sides."""
    m, k = len(banks[0]), contrast_idx.shape[1] - 1
    value, found = np.zeros(len(s)), []
    for side, (anchors, bank) in enumerate(((s, banks[1]), (t, banks[0]))):
        scores = np.exp(np.einsum("nd,nkd->nk", anchors, bank[contrast_idx]) / temperature)
        z = m * scores.mean() if log_z is None else np.exp(log_z[side])
        found.append(np.log(z))
        p, c = scores / z, k / m
        value -= np.log(p[:, 0] / (p[:, 0] + c + eps))
        value -= np.log(c / (p[:, 1:] + c + eps)).sum(1)
    return value, found


def jsd(
    pred,
    target,
    beta=0.5,
    temperature=1.0,
    skew=None,
    class_dim=None,
    ignore_index=-100,
    temperature_squared=False,
    teacher_detach=True,
    labels=None,
):
    s, t, value = _positions(pred, target, class_dim)
    counted = np.ones(value.shape) if labels is None else labels != ignore_index

    def kl(a, b):
        return np.sum(a * np.log(a / b))

    for i in np.ndindex(value.shape):
        student, teacher = softmax(s[i] / temperature), softmax(t[i] / temperature)
        share = skew or 0.0
        if beta == 0:
            value[i] = kl(teacher, share * teacher + (1 - share) * student)
        elif beta == 1:
            value[i] = kl(student, (1 - share) * teacher + share * student)
        else:
            mixture = (1 - beta) * student + beta * teacher
            value[i] = beta * kl(teacher, mixture) + (1 - beta) * kl(student, mixture)
        value[i] *= counted[i] * (temperature**2 if temperature_squared else 1)
    return value, counted


def sparse_kd(pred, target, temperature=1.0, tail="bucket", teacher_temperature=1.0, ignore_index=-100, labels=None):
    ids, log_p = target
    value = np.zeros(pred.shape[:-1])
    counted = np.ones(value.shape) if labels is None else labels != ignore_index
    for i in np.ndindex(value.shape):
        listed = (ids[i] >= 0) & (log_p[i] > -np.inf)
        k, p = ids[i][listed], np.exp(log_p[i][listed])
        s = softmax(pred[i] / temperature)
        if not len(k) or not counted[i]:
            continue
        rest_p, rest_s = max(1 - p.sum(), 0) if len(k) < len(s) else 0, np.delete(s, k).sum()
        power = teacher_temperature / temperature
        if tail == "renormalize":
            p = p**power / (p**power).sum()
        elif power != 1:
            total = (p**power).sum() + rest_p**power
            p, rest_p = p**power / total, rest_p**power / total
        value[i] = np.sum(p * np.log(p / s[k]))
        if tail == "bucket" and rest_p > 0:
            value[i] += rest_p * np.log(rest_p / rest_s)
        value[i] *= temperature**2
    return value, counted


def binary_kd(pred, target, temperature=1.0):
    p, q = (1 / (1 + np.exp(-z / temperature)) for z in (pred, target))
    return temperature**2 * (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))), 1.0


def cwd(pred, target, temperature=1.0, student_channels=None, teacher_channels=None, resize=None):
    pred, target = _matched(pred, target, resize)
    pred = _adapted(pred, student_channels, teacher_channels)
    s, t = (np.moveaxis(x, _channels(x), 1).reshape(len(x), x.shape[_channels(x)], -1) for x in (pred, target))
    value = np.zeros(s.shape[:2])
    for i in np.ndindex(value.shape):
        p, q = softmax(s[i] / temperature), softmax(t[i] / temperature)
        value[i] = temperature**2 * np.sum(q * np.log(q / p))
    return value, 1.0


def pkd(pred, target, student_channels=None, teacher_channels=None, resize=None, eps=1e-6):
    pred, target = _matched(pred, target, resize)
    pred = _adapted(pred, student_channels, teacher_channels)
    z = []
    for x in (pred, target):
        rows = np.moveaxis(x, _channels(x), 0)
        standard = np.zeros(rows.shape)
        for c, row in enumerate(rows):
            if row.size > 1 and row.std(ddof=1) > eps * np.abs(row).max():
                standard[c] = (row - row.mean()) / row.std(ddof=1)
        z.append(np.moveaxis(standard, 0, _channels(x)))
    return (z[0] - z[1]) ** 2 / 2, 1.0


def sp(pred, target, eps=1e-12):
    rows = []
    for x in (pred, target):
        x = x.reshape(len(x), -1)
        g = np.array([[a @ b for b in x] for a in x]).reshape(len(x), len(x))
        rows.append(np.array([row / np.sqrt(row @ row) if np.sqrt(row @ row) > eps else row * 0 for row in g]))
    return (rows[0] - rows[1]).reshape(len(pred), len(pred)) ** 2, 1.0
