"""The devices that torch sees."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from losses_core._cli._output import UsageError

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps", "xpu")


def device_name(text: str) -> str:
    """The type of an argument: a device, with or without a number."""
    if not re.fullmatch(rf"({'|'.join(KINDS)})(:[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"expected {', '.join(KINDS)}, or one with a number, as cuda:1; got {text!r}")
    return text


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: torch does not see it.
    """
    import torch

    kind, _, index = name.partition(":")
    if int(index or 0) < count(kind):
        return torch.device(name)
    numbered = {"cuda", "xpu"}
    seen = [f"{kind}:{i}" if kind in numbered else kind for kind in KINDS for i in range(count(kind))]
    is_built = {"cuda": torch.backends.cuda.is_built, "mps": torch.backends.mps.is_built}.get(kind, lambda: True)
    reason = "" if is_built() else f" This build of torch has no support for {kind}."
    raise UsageError(f"--device {name}: not available. torch {torch.__version__} sees {', '.join(seen)}.{reason}")


def count(kind: str) -> int:
    """How many devices of a type torch sees."""
    import torch

    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    backend = getattr(torch, kind)
    return int(backend.device_count()) if backend.is_available() else 0


def hardware_name(device: torch.device) -> str:
    """The name of the hardware, where torch knows it."""
    import torch

    return str(getattr(torch, device.type).get_device_name(device)) if device.type in ("cuda", "xpu") else ""
