"""The distillation losses give the numbers of the libraries that have them, where those are right."""

import pytest
import torch
from torch import Tensor

from losses_distill import CWDLoss, KnowledgeDistillationLoss, PKDLoss

from .peers import Peers, compare


@pytest.fixture
def features() -> tuple[Tensor, Tensor]:
    """Features of a student and of a teacher, (N,C,H,W)."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 7, 6, generator=generator, dtype=torch.float64) + 1
    return student, teacher


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_channel_wise(peer: Peers, features: tuple[Tensor, Tensor], temperature: float) -> None:
    theirs = peer("mmrazor.models.losses.cwd:ChannelWiseDivergence", *features, tau=temperature)
    compare(CWDLoss(temperature), theirs, *features)


def test_correlation(peer: Peers, features: tuple[Tensor, Tensor]) -> None:
    """It adds 1e-6 to the deviation."""
    theirs = peer("mmrazor.models.losses.pkd_loss:PKDLoss", *features)
    compare(PKDLoss(), theirs, *features, rtol=1e-5, atol=2e-6)


def test_knowledge_distillation(peer: Peers) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 10, generator=generator, dtype=torch.float64)
    theirs = peer("mmrazor.models.losses.kl_divergence:KLDivergence", student, teacher, tau=4.0)
    compare(KnowledgeDistillationLoss(4.0), theirs, student, teacher)
