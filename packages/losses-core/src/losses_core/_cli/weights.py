"""Count the classes of a data set, and print the class weights that follow.

SOURCE is a .npy file, a .csv file, a COCO .json file, a PNG mask, or a folder of masks with its subfolders. It is read
in parts, so it may be larger than memory.

  losses weights labels.npy --method effective_num
  losses weights train.csv --column species --out stats.json
  losses weights masks/ --num-classes 19 --ignore-index 255 --out stats.json

A config takes its class weights from the counts that --out writes:

  loss: {type: CrossEntropyLoss, class_weight: {from: stats.json, method: effective_num}}
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from losses_core._cli._output import Output, progress, write
from losses_core._suggest import printable
from losses_core._weight_methods import WEIGHT_METHODS
from losses_core.errors import LossesError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a .npy, .csv, .json (COCO) or .png file, or a folder of .png files")
    parser.add_argument("--num-classes", type=int, metavar="C", help="default: the largest label + 1")
    parser.add_argument("--ignore-index", type=int, metavar="LABEL", help="label that is not counted")
    parser.add_argument("--column", metavar="NAME", help="of a .csv file (default: label)")
    parser.add_argument(
        "--method", choices=WEIGHT_METHODS, default=WEIGHT_METHODS[0], help=f"(default: {WEIGHT_METHODS[0]})"
    )
    parser.add_argument("--out", metavar="FILE", help="write the counts there, for the class_weight of a config")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace, out: Output) -> int:
    from losses_core.class_statistics import count_classes

    if arguments.out is not None:
        _check_out(Path(arguments.out), Path(arguments.source))
    statistics = count_classes(
        arguments.source,
        num_classes=arguments.num_classes,
        ignore_index=arguments.ignore_index,
        column=arguments.column,
        progress=progress,
    )
    if arguments.num_classes is None and len(statistics.counts) == 256 and not statistics.counts[254]:
        sys.stderr.write("warning: 255 is counted as a class. If it marks what is ignored, give --ignore-index 255.\n")
    if arguments.out is not None:
        with write(arguments.out) as stream:
            stream.write(statistics.to_json())
    weights, total = statistics.weights(arguments.method).tolist(), sum(statistics.counts)
    names: Sequence[str | None] = statistics.names or [None] * statistics.num_classes
    shares = [count / total for count in statistics.counts]
    columns = (range(statistics.num_classes), names, statistics.counts, statistics.images, shares, weights)
    rows = list(zip(*columns, strict=True))
    if arguments.json:
        keys = ("class", "name", "count", "images", "share", "weight")
        listed = [dict(zip(keys, row, strict=True)) for row in rows]
        text = json.dumps({"source": statistics.source, "method": arguments.method, "classes": listed}, indent=2)
        out.line(text)  # ASCII, as a name may hold what cannot be printed
        return 0
    cells = [
        (str(index), "-" if name is None else printable(name, 80), str(count), f"{share:.2%}", f"{weight:.4g}")
        for index, name, count, _, share, weight in rows
    ]
    out.table(("class", "name", "count", "share", "weight"), cells)
    if arguments.out is not None:
        out.line(f"{arguments.out}: written")
    return 0


def _check_out(out: Path, source: Path) -> None:
    """Say before hours of counting what would be wrong after them."""
    if not out.parent.is_dir():
        raise LossesError(f"{out}: cannot be written: no folder {out.parent}.")
    if out.is_file() and source.is_file() and out.samefile(source):
        raise LossesError(f"{out}: cannot be written: it is the source.")
