"""The errors of the library: every one is a `LossesError`, and a built-in error of the kind Python users expect."""

from __future__ import annotations

from losses_core._suggest import did_you_mean, printable

__all__ = [
    "AmbiguousLossError",
    "ConfigError",
    "DuplicateLossError",
    "InputError",
    "LossLoadError",
    "LossNotInstalledError",
    "LossesError",
    "RegistryError",
    "UnknownLossError",
    "did_you_mean",
]


MAX_TEXT = 4000
MAX_PATH = 400
"""Characters of a text, and of the path in a config: what is quoted from a file may be of any length."""


class LossesError(Exception):
    """The base of every error that this library raises on purpose.

    Args:
        text: What was expected, what was received, and what to do. A long text is shortened, and control characters are
            escaped.

    Example:
        >>> try:
        ...     raise InputError("expected a float pred", where="DiceLoss")
        ... except LossesError as error:
        ...     print(error)
        DiceLoss: expected a float pred
    """

    def __init__(self, text: str = "") -> None:
        text = printable(text, MAX_TEXT)
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        # Ahead of KeyError's and ImportError's own: KeyError would print the text in quotes.
        return self.text


class RegistryError(LossesError):
    """A name has no loss class, or a class has no name."""


class UnknownLossError(RegistryError, KeyError):
    """No installed package and no `register` call knows the name."""


class LossNotInstalledError(UnknownLossError, ImportError):
    """The name belongs to a package that is not installed; the text says which."""


class AmbiguousLossError(RegistryError):
    """Two distributions declare the name; the text lists the qualified forms, which always work."""


class DuplicateLossError(RegistryError, ValueError):
    """A loss was registered under a name that another loss has."""


class LossLoadError(RegistryError, ImportError):
    """A package declares the name, but its entry point cannot be imported, or is not a loss."""


class ConfigError(LossesError, ValueError):
    """A config is invalid.

    Args:
        text: What is wrong.
        path: Where in the config, as `loss[1].smoth`.
        hint: What to do about it, as a sentence.

    Example:
        >>> print(ConfigError("DiceLoss has no parameter 'smoth'.", "loss[1].smoth", "Did you mean 'smooth'?"))
        loss[1].smoth: DiceLoss has no parameter 'smoth'. Did you mean 'smooth'?
    """

    def __init__(self, text: str = "", path: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.path = printable(path, MAX_PATH)
        self.hint = printable(hint, MAX_TEXT)

    def __str__(self) -> str:
        start = f"{self.path}: {self.text}" if self.path else self.text
        return f"{start} {self.hint}" if self.hint else start


class InputError(LossesError, ValueError):
    """A tensor or an option given to a call has a wrong shape, type or range.

    Args:
        text: What was expected and what was received.
        where: The name of the loss or function; may be set later by a caller who knows it.

    Example:
        >>> error = InputError("expected pred of shape (N, 4), got (3,)")
        >>> error.where = "CIoULoss"
        >>> print(error)
        CIoULoss: expected pred of shape (N, 4), got (3,)
    """

    def __init__(self, text: str = "", where: str | None = None) -> None:
        super().__init__(text)
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class _UnknownLoss(ConfigError, UnknownLossError):
    """A wrong name in a config is a fault of the config, and still the error of the registry."""


class _LossNotInstalled(ConfigError, LossNotInstalledError):  # type: ignore[misc]  # ImportError's path may be None
    pass


class _AmbiguousLoss(ConfigError, AmbiguousLossError):
    pass


class _LossLoad(ConfigError, LossLoadError):  # type: ignore[misc]  # as above
    pass


_IN_CONFIG: dict[type, type[ConfigError]] = {
    UnknownLossError: _UnknownLoss,
    LossNotInstalledError: _LossNotInstalled,
    AmbiguousLossError: _AmbiguousLoss,
    LossLoadError: _LossLoad,
}


def config_error(text: str, path: str, hint: str, cause: Exception | None) -> ConfigError:
    """A `ConfigError` with its cause; where that is a registry error, it is an instance of the same class too."""
    error = _IN_CONFIG.get(type(cause), ConfigError)(text, path, hint)
    error.__cause__ = cause
    return error
