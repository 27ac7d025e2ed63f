"""`losses doctor --device`: the report of the losses on a device."""

from __future__ import annotations

import argparse
import sys
import warnings

import torch

from losses_core._cli import _devices, doctor
from losses_core._cli._output import Output, progress
from losses_core._cli._pattern import matching
from losses_core._device_check import Checked, Deviation, check_all, dtypes_of, tolerance
from losses_core._suggest import printable

MAX_VERDICT = 160
"""Characters of a verdict in the table; torch explains some errors at length."""


def run_on_device(arguments: argparse.Namespace, out: Output) -> int:
    names = matching(arguments.pattern)
    device = _devices.find_device(arguments.device)
    found = doctor.inspect(names)
    with progress(len(names)) as step, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        checked = list(check_all(names, device, step))
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        sys.stderr.write(f"warning: {text}\n")
    failed = sum(loss.failed for loss in checked)
    status = 1 if failed or found.errors or (arguments.strict and found.warnings) else 0
    dtypes = dtypes_of(device)
    hardware = _devices.hardware_name(device)
    if arguments.json:
        limits = {_name(dtype): tolerance(dtype) for dtype in dtypes}
        about = {"device": str(device), "hardware": hardware, "tolerance": limits}
        out.json({**found._asdict(), "sound": not status, **about, "checks": list(map(_as_json, checked))})
        return status
    doctor.report(found, out)
    allowed = ", ".join(f"{tolerance(dtype):.1e} in {_name(dtype)}" for dtype in dtypes)
    out.line(f"{device}{f' ({hardware})' if hardware else ''} against the CPU in float64; allowed: {allowed}")
    out.line()
    columns = [f"{what}\n{_name(dtype)}" for dtype in dtypes for what in Deviation._fields]
    of_float64 = [column for column in columns if column.endswith("float64")]
    rows = [_row(loss, dtypes) for loss in checked]
    out.table(("loss", *columns, "verdict"), rows, optional=of_float64[::-1])
    out.line()
    skipped = sum(not loss.found and not loss.failed for loss in checked)
    counts = [f"{len(checked) - failed - skipped} ok", f"{failed} faulty", *([f"{skipped} skipped"] if skipped else [])]
    out.line(f"{len(checked)} losses: {', '.join(counts)}.")
    return status


def _row(loss: Checked, dtypes: tuple[torch.dtype, ...]) -> tuple[str, ...]:
    figures = [f"{figure:.1e}" for dtype in dtypes if dtype in loss.found for figure in loss.found[dtype]]
    first_line = loss.verdict.strip().partition("\n")[0]
    empty = [""] * (len(dtypes) * len(Deviation._fields) - len(figures))
    return (loss.name, *figures, *empty, printable(first_line, MAX_VERDICT))


def _as_json(loss: Checked) -> dict[str, object]:
    figures = {_name(dtype): deviation._asdict() for dtype, deviation in loss.found.items()}
    return {"loss": loss.name, "sound": not loss.failed, "verdict": loss.verdict, "deviations": figures}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
