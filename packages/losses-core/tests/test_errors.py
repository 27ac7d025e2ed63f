"""The errors: what they are, what they say, and that they survive a process boundary."""

import pickle

import pytest

from losses_core import errors
from losses_core._suggest import closest, did_you_mean, shown
from losses_core.errors import (
    AmbiguousLossError,
    ConfigError,
    DuplicateLossError,
    InputError,
    LossesError,
    LossLoadError,
    LossNotInstalledError,
    RegistryError,
    UnknownLossError,
    config_error,
)


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (RegistryError, [LossesError]),
        (UnknownLossError, [RegistryError, KeyError]),
        (LossNotInstalledError, [UnknownLossError, ImportError]),
        (AmbiguousLossError, [RegistryError]),
        (DuplicateLossError, [RegistryError, ValueError]),
        (LossLoadError, [RegistryError, ImportError]),
        (ConfigError, [LossesError, ValueError]),
        (InputError, [LossesError, ValueError]),
    ],
)
def test_hierarchy(error: type[LossesError], bases: list[type[Exception]]) -> None:
    for base in bases:
        assert issubclass(error, base)
    assert str(error("what 'is' wrong")) == "what 'is' wrong"
    assert error("text").text == "text"
    assert not issubclass(AmbiguousLossError, KeyError)


def test_config_error_text() -> None:
    error = ConfigError("DiceLoss has no parameter 'smoth'.", path="loss[1].smoth", hint="Did you mean 'smooth'?")
    assert str(error) == "loss[1].smoth: DiceLoss has no parameter 'smoth'. Did you mean 'smooth'?"
    assert (error.path, error.hint) == ("loss[1].smoth", "Did you mean 'smooth'?")
    assert str(ConfigError("text")) == "text"
    assert str(ConfigError("text", hint="hint")) == "text hint"


def test_input_error_gets_its_place_later() -> None:
    error = InputError("expected target of shape (2, 3); got (3,).")
    assert str(error) == error.text
    error.where = "DiceLoss"
    assert str(error) == "DiceLoss: expected target of shape (2, 3); got (3,)."


@pytest.mark.parametrize(
    "error",
    [
        LossesError("a"),
        UnknownLossError("'a' b"),
        LossNotInstalledError("a"),
        LossLoadError("a"),
        ConfigError("a", "b", "c"),
        InputError("a", "b"),
        *(config_error("a", "b", "c", cause("d")) for cause in errors._IN_CONFIG),  # type: ignore[arg-type]
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickle(error: LossesError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("cause", list(errors._IN_CONFIG))
def test_a_wrong_name_in_a_config_is_both_errors(cause: type[Exception]) -> None:
    original = cause("text")
    error = config_error("text", "loss.type", "", original)
    assert isinstance(error, ConfigError)
    assert isinstance(error, cause)
    assert error.__cause__ is original
    assert str(error) == "loss.type: text"
    assert error.path == "loss.type"


def test_every_public_name_exists() -> None:
    assert set(errors.__all__) <= set(vars(errors))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("smoth", "smooth"),
        ("diceloss", "DiceLoss"),
        ("dice_loss", "DiceLoss"),
        ("DiceLos", "DiceLoss"),
        ("banana", None),
        ("", None),
        ("DiceLoss" * 100, None),
    ],
)
def test_closest(name: str, found: str | None) -> None:
    names = ["DiceLoss", "smooth", "FocalLoss"]
    assert closest(name, names) == found
    assert did_you_mean(name, iter(names)) == (f" Did you mean {found!r}?" if found else "")


def test_shown_is_bounded_and_never_fails() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert len(shown("x" * 10_000)) <= 100
    assert len(shown([["x" * 1000] * 100] * 100)) < 5000
    assert "Broken" in shown(Broken())
    assert shown([1, "a"]) == "[1, 'a']"
