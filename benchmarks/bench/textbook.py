"""Losses as their papers write them, operation by operation: for where no library has the loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def asymmetric_optimized(x: Tensor, y: Tensor) -> Tensor:
    """ASL with γ 4/1, margin 0.05 and focusing factors without a gradient, in place where that is possible."""
    positive = torch.sigmoid(x)
    negative = (1 - positive).add_(0.05).clamp_(max=1)
    loss = y * positive.clamp(min=1e-8).log() + (1 - y) * negative.clamp(min=1e-8).log()
    with torch.no_grad():
        focus = (1 - positive * y - negative * (1 - y)).pow_(y + 4 * (1 - y))
    return -(loss * focus).mean()


def balanced_softmax(x: Tensor, y: Tensor, counts: list[int]) -> Tensor:
    """Cross-entropy of logits plus the logarithm of the class counts."""
    return F.cross_entropy(x + torch.tensor(counts, dtype=x.dtype, device=x.device).log(), y)


def eiou(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Efficient IoU loss."""
    low, high = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    size, size_t = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
    shared = (high - low).clamp(min=0)
    inter = shared[:, 0] * shared[:, 1]
    union = size[:, 0] * size[:, 1] + size_t[:, 0] * size_t[:, 1] - inter + eps
    hull = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])
    shift = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    centre = (shift**2).sum(1) / ((hull**2).sum(1) + eps)
    sides = ((size - size_t) ** 2 / (hull**2 + eps)).sum(1)
    return (1 - inter / union + centre + sides).mean()


def siou(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """SIoU loss, with the angle cost as the sine of twice the angle."""
    low, high = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    size, size_t = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
    shared = (high - low).clamp(min=0)
    inter = shared[:, 0] * shared[:, 1]
    union = size[:, 0] * size[:, 1] + size_t[:, 0] * size_t[:, 1] - inter + eps
    hull = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(pred[:, :2], target[:, :2])
    shift = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    length = torch.sqrt((shift**2).sum(1) + eps)
    sine = shift.abs().amin(1) / length
    angle = torch.sin(2 * torch.asin(sine))
    distance = (1 - torch.exp((angle - 2).unsqueeze(1) * (shift / (hull + eps)) ** 2)).sum(1)
    omega = (size - size_t).abs() / (torch.maximum(size, size_t) + eps)
    shape = ((1 - torch.exp(-omega)) ** 4).sum(1)
    return (1 - inter / union + (distance + shape) / 2).mean()


def binary_dice(pred: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """V-Net's Dice with squares."""
    p = torch.sigmoid(pred).flatten(1)
    g = target.flatten(1)
    return (1 - (2 * (p * g).sum(1) + smooth) / ((p * p).sum(1) + (g * g).sum(1) + smooth)).mean()


def dice(pred: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice with squares of each class and image, against the one-hot target."""
    p = torch.softmax(pred, 1).flatten(2)
    g = F.one_hot(target, pred.shape[1]).movedim(-1, 1).to(p.dtype).flatten(2)
    return (1 - (2 * (p * g).sum(2) + smooth) / ((p * p).sum(2) + (g * g).sum(2) + smooth)).mean()


def focal_tversky(pred: Tensor, target: Tensor, alpha: float = 0.3, beta: float = 0.7, gamma: float = 0.75) -> Tensor:
    """A power of the Tversky loss of each class, with sums over the batch."""
    p = torch.softmax(pred, 1).movedim(1, 0).flatten(1)
    g = F.one_hot(target, pred.shape[1]).movedim(-1, 0).to(p.dtype).flatten(1)
    tp = (p * g).sum(1)
    fp, fn = (p * (1 - g)).sum(1), ((1 - p) * g).sum(1)
    return ((1 - tp / (tp + alpha * fp + beta * fn)) ** gamma).mean()


def dice_and(other: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Dice without squares, and another loss."""

    def loss(pred: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
        p = torch.softmax(pred, 1).flatten(2)
        g = F.one_hot(target, pred.shape[1]).movedim(-1, 1).to(p.dtype).flatten(2)
        dice = 1 - (2 * (p * g).sum(2) + smooth) / (p.sum(2) + g.sum(2) + smooth)
        return dice.mean() + other(pred, target)

    return loss


def softmax_focal(pred: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """The focal loss of class indices."""
    entropy = F.cross_entropy(pred, target, reduction="none")
    return ((1 - torch.exp(-entropy)) ** gamma * entropy).mean()


def boundary(pred: Tensor, target: Tensor, theta0: int = 3, theta: int = 5) -> Tensor:
    """Boundary F1 of all classes, by max pooling."""

    def widen(x: Tensor, size: int) -> Tensor:
        return F.max_pool2d(x, size, 1, size // 2)

    p = torch.softmax(pred, 1)
    g = F.one_hot(target, pred.shape[1]).movedim(-1, 1).to(p.dtype)
    b, b_true = widen(1 - p, theta0) - (1 - p), widen(1 - g, theta0) - (1 - g)
    precision = (b * widen(b_true, theta)).sum((2, 3)) / (b.sum((2, 3)) + 1e-7)
    recall = (b_true * widen(b, theta)).sum((2, 3)) / (b_true.sum((2, 3)) + 1e-7)
    return (1 - 2 * precision * recall / (precision + recall + 1e-7)).mean()


def point_mask(pred: Tensor, target: Tensor, point_coords: Tensor) -> Tensor:
    """BCE and Dice of each mask at points, read by ``grid_sample``."""
    x, y = (
        F.grid_sample(m.unsqueeze(1), 2 * point_coords.unsqueeze(2) - 1, align_corners=False)[:, 0, :, 0]
        for m in (pred, target)
    )
    p, bce = torch.sigmoid(x), F.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1)
    return (bce + 1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)).mean()


def skeleton_recall(pred: Tensor, target: Tensor, iterations: int = 10, tube: int = 2) -> Tensor:
    """Recall of the tubed skeleton of a binary mask, by max pooling."""

    def erode(x: Tensor) -> Tensor:
        return -torch.maximum(F.max_pool2d(-x, (3, 1), 1, (1, 0)), F.max_pool2d(-x, (1, 3), 1, (0, 1)))

    with torch.no_grad():
        x, skeleton = target, torch.zeros_like(target)
        for _ in range(iterations + 1):
            eroded = erode(x)
            skeleton = torch.maximum(skeleton, x - F.max_pool2d(eroded, 3, 1, 1))
            x = eroded
        for _ in range(tube):
            skeleton = -erode(-skeleton)
        skeleton = skeleton * target
    found = (torch.sigmoid(pred) * skeleton).flatten(1).sum(1)
    return (1 - (found + 1) / (skeleton.flatten(1).sum(1) + 1)).mean()


def ohem_binary(pred: Tensor, target: Tensor, thresh: float = 0.7, min_kept: int = 100000) -> Tensor:
    """Mean over the elements with a loss above -ln thresh, or over the hardest ones if these are fewer."""
    loss = F.binary_cross_entropy_with_logits(pred, target, reduction="none").flatten()
    ranked = loss.detach().sort(descending=True).values
    limit = min(ranked[min(min_kept, len(ranked)) - 1].item(), -math.log(thresh))
    return loss[loss.detach() >= limit].mean()


def lovasz_hinge(pred: Tensor, target: Tensor) -> Tensor:
    """The hinge over the whole batch."""
    x, g = pred.flatten(), target.flatten()
    errors, order = (1 - x * (2 * g - 1)).sort(descending=True)
    g = g[order]
    union = g.sum() + (1 - g).cumsum(0)
    jaccard = 1 - (g.sum() - g.cumsum(0)) / union
    return F.relu(errors) @ torch.cat((jaccard[:1], jaccard[1:] - jaccard[:-1]))


def attention(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of normalised attention maps."""
    ours, theirs = (F.normalize(x.pow(2).mean(1).flatten(1)) for x in (pred, target))
    return (ours - theirs).pow(2).mean()


def normalized_mse(pred: Tensor, target: Tensor) -> Tensor:
    """Squared difference of features scaled to length 1 over the channels."""
    return F.mse_loss(F.normalize(pred), F.normalize(target))


def normalized_l1(pred: Tensor, target: Tensor) -> Tensor:
    """Absolute difference of features scaled to length 1 over the channels."""
    return F.l1_loss(F.normalize(pred), F.normalize(target))


def cosine(pred: Tensor, target: Tensor) -> Tensor:
    """1 - cosine over the channels of each location."""
    return (1 - F.cosine_similarity(pred, target, dim=1)).mean()


def kl(pred: Tensor, target: Tensor, temperature: float = 4.0) -> Tensor:
    """Knowledge distillation by ``F.kl_div``."""
    return temperature**2 * F.kl_div(
        F.log_softmax(pred / temperature, 1), F.softmax(target / temperature, 1), reduction="batchmean"
    )


def jensen_shannon(pred: Tensor, target: Tensor, beta: float = 0.5) -> Tensor:
    """Generalized Jensen-Shannon divergence by ``F.kl_div``, as trainers of language models have it."""
    log_s, log_p = F.log_softmax(pred, 1), F.log_softmax(target, 1)
    mixture = torch.logsumexp(torch.stack((log_s + math.log(1 - beta), log_p + math.log(beta))), 0)
    of_teacher, of_student = (F.kl_div(mixture, log, reduction="none", log_target=True) for log in (log_p, log_s))
    return (beta * of_teacher + (1 - beta) * of_student).sum(1).mean()


def sparse_kl(pred: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    """Divergence from the most probable classes of a teacher, and the rest as one class, 1 - Σ of both."""
    ids, log_p = target
    log_s = F.log_softmax(pred, -1).gather(-1, ids)
    rests = [torch.log1p(-log.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-7)) for log in (log_p, log_s)]
    log_p, log_s = torch.cat((log_p, rests[0]), -1), torch.cat((log_s, rests[1]), -1)
    return F.kl_div(log_s, log_p, reduction="none", log_target=True).sum(-1).mean()


def binary_kl(pred: Tensor, target: Tensor) -> Tensor:
    """Divergence of each logit by two calls of torch's binary cross-entropy."""
    q = torch.sigmoid(target)
    cross, entropy = (F.binary_cross_entropy_with_logits(z, q) for z in (pred, target))
    return cross - entropy


def similarities(pred: Tensor, target: Tensor) -> Tensor:
    """Squared difference of the similarities of a batch, scaled to length 1 for each sample."""
    ours, theirs = (F.normalize(x.flatten(1) @ x.flatten(1).T) for x in (pred, target))
    return F.mse_loss(ours, theirs)


def contrast_in_batch(student: Tensor, teacher: Tensor, temperature: float = 0.07) -> Tensor:
    """InfoNCE both ways between the pairs of a batch, by ``F.cross_entropy``."""
    scores = F.normalize(student) @ F.normalize(teacher).T / temperature
    labels = torch.arange(len(student), device=student.device)
    return F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)


class QueueContrast(nn.Module):
    """InfoNCE of each pair against the batch and a queue of keys, both ways; then the batch is queued."""

    teachers: Tensor
    students: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, temperature: float = 0.07) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("teachers", F.normalize(torch.randn(size, width)))
        self.register_buffer("students", F.normalize(torch.randn(size, width)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = F.normalize(student), F.normalize(teacher)
        labels = torch.arange(len(student), device=student.device)
        against = torch.cat((teacher, self.teachers)), torch.cat((student, self.students))
        value = F.cross_entropy(student @ against[0].T / self.temperature, labels)
        value = value + F.cross_entropy(teacher @ against[1].T / self.temperature, labels)
        place = (self.pointer + labels) % len(self.teachers)
        with torch.no_grad():
            self.teachers[place], self.students[place] = teacher, student
            self.pointer.copy_((self.pointer + len(student)) % len(self.teachers))
        return value


class MaskedGeneration(nn.Module):
    """The generation of masked generative distillation: mask the locations, then two 3×3 convolutions."""

    def __init__(self, channels: int, masked: float = 0.65) -> None:
        super().__init__()
        self.masked = masked
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        keep = torch.rand(n, 1, h, w, device=x.device) >= self.masked
        generated: Tensor = self.second(torch.relu(self.first(x * keep)))
        return generated
