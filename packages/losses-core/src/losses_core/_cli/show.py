"""Show a loss: its parameters with their defaults, and its documentation."""

from __future__ import annotations

import argparse
import inspect
import re

from losses_core._cli._output import Output
from losses_core._signature import constructor_parameters
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="as in a config: DiceLoss, or distribution:DiceLoss")


def run(arguments: argparse.Namespace, out: Output) -> int:
    cls = LOSSES[arguments.name]
    loss = LOSSES.describe(arguments.name)
    source = f"{loss.distribution} {loss.version}" if loss.distribution else "registered in this process"
    out.line(f"{loss.name} ({source}, {loss.target})")
    out.line()
    rows = []
    for name, parameter in constructor_parameters(cls).items():
        untyped, required = parameter.annotation is parameter.empty, parameter.default is parameter.empty
        # without the modules: Sequence[float], not collections.abc.Sequence[float]
        annotation = "" if untyped else re.sub(r"\b(?:\w+\.)+", "", inspect.formatannotation(parameter.annotation))
        rows.append((name, annotation.strip("'"), "required" if required else repr(parameter.default)))
    out.table(("parameter", "type", "default"), rows)
    keywords = ["pred", "target", "weight", "avg_factor", "reduction_override", *sorted(cls.call_keywords())]
    out.line()
    out.line(f"Called with: {', '.join(keywords)}.")
    out.line()
    out.line(inspect.getdoc(cls) or "(no documentation)")
    return 0
