"""Reading a config from a file: YAML, JSON or TOML, each without code execution and with bounded work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from losses_core._class_weight import anchor
from losses_core._suggest import did_you_mean, printable, shown, text_of
from losses_core.errors import ConfigError

if TYPE_CHECKING:
    from losses_core.base_loss import BaseLoss
    from losses_core.combined import CombinedLoss

__all__ = ["Config", "load_config"]

Config: TypeAlias = "str | Mapping[str, Any] | Sequence[Any] | BaseLoss | CombinedLoss"
"""What `build_loss` takes: a loss's name, a mapping with "type", a list of configs, or a mapping label → config."""

MAX_BYTES = 2 << 20
"""Size of a file: reading YAML takes seconds for a MiB."""


def load_config(path: str | PathLike[str], key: str | None = "loss") -> Any:
    """Read the config of a loss from a file.

    Args:
        path: A `.yaml` or `.yml` file (needs PyYAML: the extra `losses-core[yaml]`), a `.json` or a `.toml` file.
        key: Where in the file the config is; dots lead into nested mappings, as `train.loss`. None: the whole file.

    Returns:
        The value of the key, for `build_loss`. The `from` of a `class_weight`, which is relative to the file, is
        an absolute path in it.

    Raises:
        ConfigError: The file cannot be read, is too large, malformed or nested too deeply, repeats a key or lacks the
            key.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "train.toml")
        ...     _ = file.write_text('[loss]\\ntype = "DiceLoss"\\nsmooth = 1e-6\\n')
        ...     load_config(file)
        {'type': 'DiceLoss', 'smooth': 1e-06}
    """
    return read_config(path, key, whole_file="key=None")


def read_config(path: str | PathLike[str], key: str | None, *, whole_file: str) -> Any:
    """`load_config`, with the words for "no key" in a hint: those of Python, or of the command line."""
    file = Path(path)
    parse = _PARSERS.get(file.suffix.lower())
    if parse is None:
        raise ConfigError(f"{file}: expected a file that ends in {', '.join(_PARSERS)}.")
    try:
        content = parse(_text(file))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.text}", hint=error.hint) from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply.") from error
    # A parser given arbitrary text fails in many ways (PyYAML with KeyError, AttributeError, …): one error for all.
    except Exception as error:
        raise ConfigError(f"{file}: cannot be read: {text_of(error)}") from error
    content = content if key is None else _at(content, key, file, f"{whole_file} takes the whole file.")
    anchor(content, file.parent.absolute())
    return content


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES >> 20} MiB, which no config of a loss is.")
    return content.decode("utf-8-sig")


def _at(content: Any, key: str, file: Path, hint: str) -> Any:
    if isinstance(content, Mapping) and key in content:  # a key that itself holds dots
        return content[key]
    for part in key.split("."):
        if not isinstance(content, Mapping):
            raise ConfigError(f"{file}: expected a mapping with the key {part!r}, got {shown(content)}.", hint=hint)
        if part not in content:
            names = [name if isinstance(name, str) else shown(name) for name in content]
            listed = ", ".join(printable(name, 80) for name in names[:20])
            raise ConfigError(
                f"{file}: no key {part!r}.{did_you_mean(part, names)}",
                hint=f"It has: {listed or 'nothing'}. {hint}",
            )
        content = content[part]
    return content


def _parse_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ConfigError(f"the key {shown(name)} stands twice in one mapping.")
            found[name] = value
        return found

    return json.loads(text, object_pairs_hook=unique)


_LONG_KEY = re.compile(r"""(?<![\w"'.-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")


def _parse_toml(text: str) -> Any:
    import tomllib  # most programs read no TOML

    if _LONG_KEY.search(text):  # a time that grows with the square of the parts
        raise ConfigError("a key of more than 64 parts: nested too deeply.")
    return tomllib.loads(text)


def _parse_yaml(text: str) -> Any:
    try:
        from losses_core._yaml import parse
    except ModuleNotFoundError as error:
        raise ConfigError("reading YAML needs PyYAML: pip install PyYAML") from error
    return parse(text)


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
    ".toml": _parse_toml,
}
