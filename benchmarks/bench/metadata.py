"""Where and with what a run was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import peers


def collect(**more: Any) -> dict[str, Any]:
    """Date, versions, processor and command."""
    ours = sorted(
        d.name for d in importlib.metadata.distributions() if d.name == "losses" or d.name.startswith("losses-")
    )
    names = ["torch", "numpy", *(name for name in dict.fromkeys(ours) if name != "losses-testkit")]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", __package__, *sys.argv[1:]]),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "peers": peers.versions(),
        "processor": processor(),
        "machine": platform.machine().replace("_", "-"),
        "system": platform.system(),
        "cores": os.cpu_count(),
        **more,
    }


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor, as Linux gives it."""
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def of_versions(versions: Mapping[str, str]) -> str:
    """``a 1.0, b 2.1``."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
