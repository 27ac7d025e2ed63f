"""Run losses once, on random inputs or a batch of yours: the share of each in the gradient, its time, its memory.

SOURCE is a config file, or names of losses, which are combined. Each term is called with inputs of the kind that its
class declares, and differentiated with respect to its own pred. The share is that of the norm of this gradient in the
sum of the norms. A term dominates if its norm is more than twice the mean of the others. Time is that of one forward
and backward on the CPU, the median of up to 25 after a warm-up; memory is the most that tensors took, beside the
inputs.

  losses probe loss.yaml --pred 2x19x64x64 --target 2x64x64
  losses probe loss.yaml --pred cls=512x80 --pred box=512x4
  losses probe loss.yaml --batch batch.pt
  losses probe CrossEntropyLoss DiceLoss

With --batch, the tensors are those of a file that torch.save wrote: a mapping with "pred", "target" and the keywords of
the losses, or with what the `inputs` of the config name. Labels outside the classes are an error, and probabilities
where logits are expected a warning.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losses_core._cli import _config
from losses_core._cli._completion import SUFFIXES, completed_by, losses_and_configs
from losses_core._cli._output import Output, progress
from losses_core.errors import ConfigError, InputError, UnknownLossError

if TYPE_CHECKING:
    from losses_core._probe import Measured, Verdict

DTYPES = ("float32", "float64", "float16", "bfloat16")


def configure(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument(
        "source", nargs="+", help=f"a config file ({', '.join(SUFFIXES)}), or the names of one or more losses"
    )
    completed_by(losses_and_configs, source)
    _config.add_key(parser)
    for name in ("pred", "target"):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            type=_shape,
            metavar="[TERM=]SHAPE",
            help=f"shape of {name}, as 2x19x64x64, of every term or of one; may be given several times",
        )
    parser.add_argument("--batch", type=Path, metavar="FILE", help="a batch written by torch.save, instead of shapes")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the inputs (default: float32)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs and of learnable parts (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, in seconds and bytes")


def run(arguments: argparse.Namespace, out: Output) -> int:
    import torch

    from losses_core._probe import Shapes, batch_inputs, inputs_of, measure, terms_of, verdict
    from losses_core._wrappers import Wrapper
    from losses_core.builder import build_loss

    content, faults = _config_of(arguments)
    if faults:
        _config.report(faults)
        return 1
    torch.manual_seed(arguments.seed)
    loss = build_loss(content)
    if isinstance(loss, Wrapper):
        name = type(loss).__name__
        raise InputError(f"{name} takes a head or several layers, which probe does not make up: probe the loss in it.")
    terms = terms_of(loss)
    if arguments.batch is None:
        shapes = Shapes(dict(arguments.pred), dict(arguments.target))
        inputs = inputs_of(terms, shapes, getattr(torch, arguments.dtype), arguments.seed)
    else:
        inputs = batch_inputs(terms, _read_batch(arguments.batch))
    rows, notes = [], list[str]()
    with progress(len(terms)) as step, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for term, given in zip(terms, inputs, strict=True):
            step(term.label)
            rows.append(measure(term, given))
            notes += dict.fromkeys(f"term {term.label!r}: {warning.message}" for warning in caught)
            caught.clear()
    if getattr(loss, "weighting", None) is not None:
        notes.append(f"{type(loss.weighting).__name__} is not applied: the weights are those of loss_weight alone.")
    for note in notes:
        sys.stderr.write(f"warning: {note}\n")
    _print(rows, verdict(rows), arguments, out)
    return 0


def _config_of(arguments: argparse.Namespace) -> tuple[Any, list[ConfigError]]:
    """The config of the file or of the names, and its faults."""
    first, *more = arguments.source
    if first.lower().endswith(SUFFIXES) and not more:
        arguments.file = first
        return _config.read(arguments)
    from losses_core.examples import example_config

    try:
        configs = [example_config(name) for name in arguments.source]
    except UnknownLossError as error:
        expected = f"Expected the name of a loss, or one file that ends in {', '.join(SUFFIXES)}."
        raise UnknownLossError(f"{error.text} {expected}") from error
    return configs if more else configs[0], []


def _print(rows: list[Measured], found: Verdict, arguments: argparse.Namespace, out: Output) -> None:
    whole = sum(row.gradient for row in rows) or 1.0
    total = sum(row.value for row in rows)
    if arguments.json:
        figures = [{**row._asdict(), "share": row.gradient / whole} for row in rows]
        out.json({"terms": figures, "total": total, "verdict": found._asdict()})
        return
    header = ("term", "value", "gradient", "share", "dtype", "time", "memory")
    cells = [
        (
            row.label,
            f"{row.value:.4g}",
            f"{row.gradient:.3g}",
            f"{row.gradient / whole:.1%}",
            row.dtype,
            f"{row.seconds * 1e3:.3g} ms",
            _size(row.peak_bytes),
        )
        for row in rows
    ]
    out.table(header, [*cells, ("total", f"{total:.4g}", "", "", "", "", "")])
    out.line()
    out.line(found.text)
    if len(rows) > 1 and arguments.batch is None:
        out.line("The inputs are random: --batch takes a batch of yours.")


def _read_batch(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        batch = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises: no such file, no such format, objects that are no tensors
        raise InputError(f"cannot read the batch: {type(error).__name__}: {error}", str(path)) from error
    if not isinstance(batch, Mapping):
        raise InputError(f"expected a mapping with 'pred' and 'target'; got {type(batch).__name__}.", str(path))
    return batch


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    label, _, shape = text.rpartition("=")
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", shape):
        raise argparse.ArgumentTypeError(f"expected a shape such as 2x19x64x64, or term=2x19x64x64; got {text!r}")
    return label, tuple(map(int, shape.split("x")))
