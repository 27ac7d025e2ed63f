"""The classification losses give the numbers of the libraries that have them, where those are right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losses_cls import functional as ours
from losses_core import Unreduced

from .peers import Peers, compare

SINGLE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}  # for peers that compute in float32


def mean_of(loss: Callable[..., Unreduced], **options: Any) -> Callable[..., Tensor]:
    return lambda *pair: loss(*pair, **options).value.mean()


def of(loss: Callable[..., Unreduced], **options: Any) -> Callable[..., Tensor]:
    return lambda *pair: loss(*pair, **options).value


@pytest.fixture
def pixels() -> tuple[Tensor, Tensor]:
    """Logits (N,C,H,W) and labels, some of them ignored."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (3, 5, 4), generator=generator)
    labels[0, 0] = -100
    return 2 * torch.randn(3, 7, 5, 4, generator=generator, dtype=torch.float64), labels


@pytest.fixture
def dense() -> tuple[Tensor, Tensor]:
    """Logits (N,C) and 0 or 1 for each."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(30, 6, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(30, 6, generator=generator) > 0.6).double()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(peer: Peers, pixels: tuple[Tensor, Tensor], smoothing: float, weighted: bool) -> None:
    weight = torch.linspace(0.5, 2, 7, dtype=torch.float64) if weighted else None
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
    theirs = peer("torch.nn.functional:cross_entropy", *pixels, **options)
    compare(of(ours.cross_entropy, class_weight=weight, label_smoothing=smoothing), theirs, *pixels)
    if not weighted and smoothing:
        compare(of(ours.label_smooth_loss, smoothing=smoothing), theirs, *pixels)


def test_soft_cross_entropy(peer: Peers, dense: tuple[Tensor, Tensor]) -> None:
    logits, soft = dense[0], dense[1].add(0.1).softmax(1)
    theirs = peer("torch.nn.functional:cross_entropy", logits, soft, reduction="none")
    compare(of(ours.soft_cross_entropy), theirs, logits, soft)
    theirs = peer("timm.loss.cross_entropy:SoftTargetCrossEntropy", logits, soft)
    compare(mean_of(ours.soft_cross_entropy), theirs, logits, soft)


def test_label_smooth(peer: Peers, dense: tuple[Tensor, Tensor]) -> None:
    logits, labels = dense[0], torch.arange(30) % 6
    theirs = peer("timm.loss.cross_entropy:LabelSmoothingCrossEntropy", logits, labels, smoothing=0.2)
    compare(mean_of(ours.label_smooth_loss, smoothing=0.2), theirs, logits, labels)


def test_binary_cross_entropy(peer: Peers, dense: tuple[Tensor, Tensor]) -> None:
    weight = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    loss = "torch.nn.functional:binary_cross_entropy_with_logits"
    theirs = peer(loss, *dense, pos_weight=weight, reduction="none")
    compare(of(ours.binary_cross_entropy, pos_weight=weight), theirs, *dense)
    probability = dense[0].sigmoid(), dense[1]
    theirs = peer("torch.nn.functional:binary_cross_entropy", *probability, reduction="none")
    compare(of(ours.binary_cross_entropy, with_logits=False), theirs, *probability)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5)])
@pytest.mark.parametrize(
    ("loss", "tolerance"),
    [
        ("fvcore.nn.focal_loss:sigmoid_focal_loss", SINGLE),
        ("torchvision.ops.focal_loss:sigmoid_focal_loss", {}),
        ("kornia.losses.focal:binary_focal_loss_with_logits", {}),
    ],
)
def test_binary_focal(
    peer: Peers, dense: tuple[Tensor, Tensor], loss: str, tolerance: Any, alpha: float, gamma: float
) -> None:
    options = {"alpha": alpha, "gamma": gamma}
    compare(of(ours.binary_focal_loss, **options), peer(loss, *dense, reduction="none", **options), *dense, **tolerance)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_softmax_focal(peer: Peers, pixels: tuple[Tensor, Tensor], gamma: float) -> None:
    """kornia gives a map with one slice per class, all of them 0 but that of the label."""
    value, gradient = peer("kornia.losses.focal:focal_loss", *pixels, alpha=None, gamma=gamma)
    compare(of(ours.softmax_focal_loss, alpha=None, gamma=gamma), (value.sum(1), gradient), *pixels)


@pytest.mark.parametrize("detached", [True, False])
def test_asymmetric(peer: Peers, dense: tuple[Tensor, Tensor], detached: bool) -> None:
    loss = "timm.loss.asymmetric_loss:AsymmetricLossMultiLabel"
    theirs = peer(loss, *dense, reduction="none", disable_torch_grad_focal_loss=detached)
    compare(of(ours.asymmetric_loss, disable_torch_grad_focal=detached), theirs, *dense, **SINGLE)


@pytest.mark.parametrize("epsilon", [2.0, -1.0])
def test_poly(peer: Peers, dense: tuple[Tensor, Tensor], epsilon: float) -> None:
    logits, labels = dense[0], torch.arange(30) % 6
    loss = "timm.loss.poly_loss:PolyCrossEntropy"
    theirs = peer(loss, logits, labels, epsilon=epsilon, smoothing=0.1, reduction="none")
    compare(of(ours.poly_cross_entropy_loss, epsilon=epsilon, label_smoothing=0.1), theirs, logits, labels, **SINGLE)
    soft = dense[1].add(0.1).softmax(1)
    theirs = peer(loss, logits, soft, epsilon=epsilon, reduction="none")
    compare(of(ours.poly_cross_entropy_loss, epsilon=epsilon), theirs, logits, soft, **SINGLE)
    options = {"epsilon": epsilon, "gamma": 1.5, "alpha": 0.3}
    theirs = peer("timm.loss.poly_loss:PolyBinaryCrossEntropy", *dense, reduction="none", **options)
    compare(of(ours.poly_focal_loss, **options), theirs, *dense, **SINGLE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_jensen_shannon(peer: Peers, dense: tuple[Tensor, Tensor], smoothing: float) -> None:
    logits, labels = dense[0], torch.arange(10) % 6
    loss = "timm.loss.jsd:JsdCrossEntropy"
    theirs = peer(loss, logits, labels, num_splits=3, alpha=5, smoothing=smoothing)
    compare(mean_of(ours.jsd_cross_entropy_loss, alpha=5, smoothing=smoothing), theirs, logits, labels)


@pytest.mark.parametrize(("gamma_pos", "gamma_neg", "smoothing"), [(0, 4, 0.1), (1, 2, 0.2), (2, 4, 0.0)])
def test_asymmetric_single_label(
    peer: Peers, dense: tuple[Tensor, Tensor], gamma_pos: float, gamma_neg: float, smoothing: float
) -> None:
    logits, labels, options = dense[0], torch.arange(30) % 6, {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg}
    loss = "timm.loss.asymmetric_loss:AsymmetricLossSingleLabel"
    theirs = peer(loss, logits, labels, eps=smoothing, reduction="none", **options)
    compare(of(ours.asymmetric_loss_single_label, smoothing=smoothing, **options), theirs, logits, labels)


def test_zlpr(peer: Peers, dense: tuple[Tensor, Tensor]) -> None:
    compare(mean_of(ours.zlpr_loss), peer("timm.loss.zlpr_loss:ZlprLoss", *dense), *dense, **SINGLE)


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (1.5, 0.0), (0.0, 1.0)])
def test_seesaw(peer: Peers, dense: tuple[Tensor, Tensor], p: float, q: float) -> None:
    logits, labels, counts = dense[0], torch.arange(30) % 6, torch.tensor([500, 100, 20, 5, 1, 0])
    loss = "mmdet.models.losses.seesaw_loss:seesaw_ce_loss"
    theirs = peer(loss, logits, labels, None, counts.double(), 6, p, q, 0.01, reduction="none")
    compare(of(ours.seesaw_loss, counts=counts, p=p, q=q), theirs, logits, labels)


@pytest.mark.parametrize(("temperature_pos", "temperature_neg"), [(4.0, 1.0), (1.0, 2.0)])
def test_two_way(peer: Peers, dense: tuple[Tensor, Tensor], temperature_pos: float, temperature_neg: float) -> None:
    theirs = peer("timm.loss.two_way_loss:TwoWayLoss", *dense, tp=temperature_pos, tn=temperature_neg)
    options = {"temperature_pos": temperature_pos, "temperature_neg": temperature_neg}
    compare(lambda *pair: torch.as_tensor(ours.two_way_loss(*pair, **options)), theirs, *dense, **SINGLE)
