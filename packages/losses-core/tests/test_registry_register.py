"""Losses registered by hand."""

import pytest

from losses_core import LossInfo, Registry
from losses_core.errors import DuplicateLossError, RegistryError
from losses_testkit.fake_distributions import FakeSite

from .conftest import install
from .small_losses import GapLoss, SquareLoss


def test_register(registry: Registry) -> None:
    assert registry.register(GapLoss) is GapLoss
    assert registry.register(GapLoss) is GapLoss  # again: the same object
    assert registry.register(name="Squared")(SquareLoss) is SquareLoss
    assert dict(registry) == {"GapLoss": GapLoss, "Squared": SquareLoss}
    assert registry.describe("Squared") == LossInfo("Squared", f"{SquareLoss.__module__}:SquareLoss", None, None, True)
    assert (registry.name_of(GapLoss), registry.name_of(SquareLoss)) == ("GapLoss", "Squared")
    with pytest.raises(DuplicateLossError) as caught:
        registry.register(SquareLoss, name="GapLoss")
    where = SquareLoss.__module__
    assert str(caught.value) == (
        f"'GapLoss' is taken by {where}:GapLoss. Give another name=, or replace=True to use {where}:SquareLoss instead."
    )
    assert registry["GapLoss"] is GapLoss
    registry.register(SquareLoss, name="GapLoss", replace=True)
    assert registry["GapLoss"] is SquareLoss
    registry.register(SquareLoss)
    assert registry.name_of(SquareLoss) == "SquareLoss"


def test_register_over_an_entry_point(site: FakeSite, registry: Registry) -> None:
    module = install(site, "acme-seg", "GapLoss")
    with pytest.raises(DuplicateLossError, match=f"'GapLoss' is taken by {module}:GapLoss"):
        registry.register(GapLoss)
    theirs = registry["GapLoss"]
    assert theirs is not GapLoss
    assert registry.register(theirs) is theirs  # decorated and declared: one registration
    assert registry.describe("GapLoss").distribution == "acme-seg"
    registry.register(GapLoss, replace=True)
    assert registry["GapLoss"] is GapLoss
    assert registry["acme-seg:GapLoss"] is theirs
    assert registry.name_of(theirs) == "acme-seg:GapLoss"
    assert list(registry) == ["GapLoss"]


@pytest.mark.parametrize("cls", [int, 3, "GapLoss", GapLoss()])
def test_register_refuses_what_is_no_loss(registry: Registry, cls: object) -> None:
    with pytest.raises(RegistryError, match="expected a subclass of BaseLoss, got"):
        registry.register(cls)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "a:b", " a", 3])
def test_register_refuses_names_that_could_not_be_asked_for(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="expected a name without"):
        registry.register(GapLoss, name=name)
