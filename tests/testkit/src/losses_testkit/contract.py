"""The contract of every loss, as one test class over a table of cases.

A package's tests hold::

    from losses_testkit import Case, LossContract, check_complete

    CASES = [Case("MyLoss", make=…, oracle=…), …]

    class TestContract(LossContract):
        cases = CASES

    def test_every_loss_has_a_case():
        check_complete("my-losses", CASES)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from losses_core import LOSSES
from losses_testkit.case import Case
from losses_testkit.chunks import ChunkContract
from losses_testkit.distribution import DistributedContract
from losses_testkit.engine import EngineContract
from losses_testkit.modules import ModuleContract
from losses_testkit.normalizers import NormalizerContract
from losses_testkit.numerics import NumericsContract


class LossContract(
    NumericsContract, EngineContract, ModuleContract, ChunkContract, NormalizerContract, DistributedContract
):
    """Every test of the contract, run for every case of ``cases``."""

    cases: ClassVar[Sequence[Case]] = ()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=str)


def check_complete(distribution: str, cases: Sequence[Case]) -> None:
    """Fail for each loss that the distribution declares and no case runs (an alias counts as its class)."""
    covered = {LOSSES[case.loss] for case in cases}
    declared = [name for name in LOSSES if LOSSES.describe(name).distribution == distribution]
    if not declared:
        raise AssertionError(f"{distribution} declares no loss: is it installed?")
    missing = [name for name in declared if LOSSES[name] not in covered]
    if missing:
        raise AssertionError(f"no contract case for {', '.join(missing)}")
