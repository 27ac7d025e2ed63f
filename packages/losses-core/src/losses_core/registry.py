"""The registry: every loss by name, without importing the packages that hold them.

A package declares each of its losses as an entry point in the group `losses_core.losses`, so names, distribution and
version are known from metadata alone. A class is imported when it is first asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from losses_core._catalogue import CATALOGUE
from losses_core._foreign import loss_hint
from losses_core._installing import how_to_install
from losses_core._scan import Declared, LossInfo, Scan, normalized, scan
from losses_core._suggest import did_you_mean, shown, text_of
from losses_core.errors import (
    AmbiguousLossError,
    DuplicateLossError,
    LossLoadError,
    LossNotInstalledError,
    RegistryError,
    UnknownLossError,
)

if TYPE_CHECKING:
    from losses_core.base_loss import BaseLoss

    LossT = TypeVar("LossT", bound=type[BaseLoss])

__all__ = ["LOSSES", "LossInfo", "Registry"]


def _base_loss() -> type:
    from losses_core.base_loss import BaseLoss

    return BaseLoss


class Registry(Mapping[str, "type[BaseLoss]"]):
    """A read-only mapping of names to loss classes, filled by entry points and `register`.

    `registry[name]` imports the class; `in`, `iter`, `len` and `describe` import nothing. Where two distributions
    declare one name, iteration gives their qualified names, `distribution:Name`, which always work.

    Args:
        name: What the registry is called in its `repr`.
        group: The entry-point group to read.
        catalogue: Name → distribution of losses that may not be installed, for the hint in the error.
        base: Gives the class that every loss must derive from; called when the first loss is loaded.

    Example:
        >>> from losses_core import BaseLoss
        >>> registry = Registry("examples", group="examples.losses")
        >>> @registry.register
        ... class GapLoss(BaseLoss):
        ...     def _forward(self, pred, target):
        ...         return (pred - target).abs()
        >>> "GapLoss" in registry, registry["GapLoss"] is GapLoss
        (True, True)
        >>> registry["GapLos"]
        Traceback (most recent call last):
        losses_core.errors.UnknownLossError: 'GapLos' is not a registered loss. Did you mean 'GapLoss'? ...
    """

    def __init__(
        self,
        name: str,
        *,
        group: str,
        catalogue: Mapping[str, str] | None = None,
        base: Callable[[], type] = _base_loss,
    ) -> None:
        self._name = name
        self._group = group
        self._catalogue = {} if catalogue is None else catalogue
        self._base = base
        self._scan: Scan | None = None
        self._registered: dict[str, type[BaseLoss]] = {}
        self._loaded: dict[Declared, type[BaseLoss]] = {}
        # Never held while a package is imported: the package may call `register`, and another thread may be importing
        # it, so the two locks would wait for each other.
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> type[BaseLoss]:
        found = self._find(name)
        return self._load(found) if isinstance(found, Declared) else found

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self._registered or bool(self._candidates(name))

    def __iter__(self) -> Iterator[str]:
        names = set(self._registered)
        for name, entries in self.scan().declared.items():
            if name not in names:
                names.update([name] if len(entries) == 1 else [entry.qualified for entry in entries])
        return iter(sorted(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # Mapping compares contents, which would import every package.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Registry({self._name!r}, {len(self)} losses)"

    @overload
    def register(self, cls: LossT, *, name: str | None = None, replace: bool = False) -> LossT: ...
    @overload
    def register(
        self, cls: None = None, *, name: str | None = None, replace: bool = False
    ) -> Callable[[LossT], LossT]: ...
    def register(self, cls: Any = None, *, name: str | None = None, replace: bool = False) -> Any:
        """Register a loss of your own, as a decorator or by a call.

        Args:
            cls: The class; without it, a decorator is returned.
            name: The name, by default that of the class.
            replace: Whether to take a name that another loss has.

        Returns:
            The class.

        Raises:
            DuplicateLossError: The name is taken by another loss.
            RegistryError: `cls` is no subclass of `BaseLoss`, or the name cannot be used.
        """
        if cls is None:
            return lambda cls: self.register(cls, name=name, replace=replace)
        if not self._is_loss(cls):
            raise RegistryError(f"register: expected a subclass of {self._base().__name__}, got {shown(cls)}.")
        name = cls.__name__ if name is None else name
        if not isinstance(name, str) or not name or ":" in name or name != name.strip():
            raise RegistryError(f"register: expected a name without ':' and spaces around it, got {shown(name)}.")
        with self._lock:
            known, declared = self._registered.get(name), self._candidates(name)
            if known is None and any(entry.target == _where(cls) for entry in declared):
                return cls  # its entry point has registered it
            if known is not cls and not replace and (known or declared):
                taken = _where(known) if known else declared[0].target
                raise DuplicateLossError(
                    f"{name!r} is taken by {taken}. Give another name=, or replace=True to use {_where(cls)} instead."
                )
            self._registered[name] = cls
        return cls

    def describe(self, name: str) -> LossInfo:
        """Describe a loss without importing it.

        Args:
            name: A name, plain or qualified.

        Raises:
            UnknownLossError: The name is not known.
            AmbiguousLossError: Several distributions declare the name.
        """
        found = self._find(name)
        if not isinstance(found, Declared):
            return LossInfo(name, _where(found), None, None, True)
        return LossInfo(name, found.target, found.distribution, found.version, found in self._loaded)

    def refresh(self) -> None:
        """Read the metadata again, after an install or an uninstall in a running process."""
        import importlib

        importlib.invalidate_caches()
        with self._lock:
            self._scan = None
            self._loaded.clear()

    def scan(self) -> Scan:
        """Everything that the installed distributions declare, read once; for tools such as `doctor`."""
        found = self._scan
        if found is None:
            with self._lock:
                found = self._scan = self._scan or scan(self._group)
        return found

    def load_all(self, names: Iterable[str] | None = None) -> dict[str, LossLoadError]:
        """Import every loss, or those of these names.

        Returns:
            The error of each name that could not be loaded: empty when all is well.
        """
        errors = {}
        for name in self if names is None else names:
            try:
                self[name]
            except LossLoadError as error:
                errors[name] = error
        return errors

    def name_of(self, cls: type) -> str:
        """The name from which `registry[name]` gives `cls`, for a config.

        Args:
            cls: A loss class.

        Returns:
            The name it was registered under, or that of its entry point; of several, the one that equals the class's
            own name. Qualified where the plain one would give another class.

        Raises:
            RegistryError: The class has no name here.
        """
        registered = [name for name, known in dict(self._registered).items() if known is cls]
        if registered:
            return cls.__name__ if cls.__name__ in registered else registered[0]
        package = cls.__module__.partition(".")[0]
        entries = [entry for entries in self.scan().declared.values() for entry in entries]
        related = [entry for entry in entries if entry.target.startswith((f"{package}.", f"{package}:"))]
        # The most likely first, so that usually one module is imported: the one that `cls` came from.
        for entry in sorted(related, key=lambda e: (e.target != _where(cls), e.name != cls.__name__, e.name)):
            try:
                found = self._load(entry)
            except LossLoadError:
                continue
            if found is cls:
                return entry.name if self._is_plain(entry) else entry.qualified
        raise RegistryError(
            f"{_where(cls)} is not registered, so a config cannot name it. Register it: @LOSSES.register."
        )

    def _candidates(self, name: str) -> list[Declared]:
        """The entries that a name, plain or qualified, stands for."""
        distribution, colon, short = name.rpartition(":")
        entries = self.scan().declared.get(short, ())
        return [entry for entry in entries if not colon or entry.distribution == normalized(distribution)]

    def _find(self, name: str) -> type[BaseLoss] | Declared:
        if not isinstance(name, str):
            raise UnknownLossError(f"expected the name of a loss, a string; got {shown(name)}.")
        if name in self._registered:
            return self._registered[name]
        found = self._candidates(name)
        if not found:
            raise self._unknown(name)
        if len(found) > 1:
            declared = " and ".join(f"{entry.source} ({entry.target})" for entry in found)
            qualified = " or ".join(repr(entry.qualified) for entry in found)
            raise AmbiguousLossError(f"{name!r} is declared by {declared}. Say which one is meant: {qualified}.")
        return found[0]

    def _unknown(self, name: str) -> UnknownLossError:
        distribution, colon, short = name.rpartition(":")
        installed = self.scan().distributions
        provider = self._catalogue.get(short)
        if provider is not None and (not colon or normalized(distribution) == provider):
            if provider not in installed:
                return LossNotInstalledError(
                    f"{name!r} is provided by {provider}, which is not installed: {how_to_install(provider)}"
                )
            return UnknownLossError(
                f"{name!r} is provided by {provider}, but not by version {installed[provider]}, which is installed: "
                f"{how_to_install(provider, upgrade=True)}"
            )
        names = [entry.qualified for entries in self.scan().declared.values() for entry in entries]
        hint = did_you_mean(name, names) if colon else loss_hint(name, [*self, *self._catalogue])
        listed = ", ".join(f"{distribution} {version}" for distribution, version in installed.items())
        return UnknownLossError(
            f"{shown(name)} is not a registered loss.{hint} Installed: {listed or 'no package with losses'}."
        )

    def _load(self, entry: Declared) -> type[BaseLoss]:
        known = self._loaded.get(entry)  # once: another thread may refresh in between
        if known is not None:
            return known
        start = f"{entry.name!r} is declared by {entry.source} as {entry.target} but"
        try:
            found: Any = entry.load()
            is_loss = self._is_loss(found)
        except KeyboardInterrupt:
            raise
        # Also SystemExit and whatever else a package raises: a script in its place must not end the program.
        except BaseException as error:
            raise LossLoadError(f"{start} could not be imported: {type(error).__name__}: {text_of(error)}") from error
        if not is_loss:
            raise LossLoadError(f"{start} is not a subclass of {self._base().__name__}: it is {shown(found)}.")
        loss: type[BaseLoss] = found
        self._loaded[entry] = loss
        return loss

    def _is_loss(self, found: object) -> bool:
        return isinstance(found, type) and issubclass(found, self._base())

    def _is_plain(self, entry: Declared) -> bool:
        return entry.name not in self._registered and self.scan().declared[entry.name] == (entry,)


def _where(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


LOSSES = Registry("losses", group="losses_core.losses", catalogue=CATALOGUE)
"""The losses of all installed packages, and those registered by hand."""
