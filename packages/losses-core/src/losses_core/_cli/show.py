"""Show a loss: its parameters with their defaults, and its documentation as plain text."""

from __future__ import annotations

import argparse
import inspect
import re

from losses_core._cli._completion import completed_by, losses
from losses_core._cli._output import Output
from losses_core._cli._plain import plain
from losses_core._signature import constructor_parameters
from losses_core.registry import LOSSES


def configure(parser: argparse.ArgumentParser) -> None:
    completed_by(losses, parser.add_argument("name", help="as in a config: DiceLoss, or distribution:DiceLoss"))
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object; parameters as JSON Schema, the documentation in reStructuredText",
    )


def run(arguments: argparse.Namespace, out: Output) -> int:
    cls = LOSSES[arguments.name]
    loss = LOSSES.describe(arguments.name)
    keywords = ["pred", "target", "weight", "avg_factor", "reduction_override", *sorted(cls.call_keywords())]
    documentation = inspect.getdoc(cls) or "(no documentation)"
    if arguments.json:
        from losses_core.schema import parameter_schemas

        parameters = parameter_schemas(cls)
        out.json({**loss._asdict(), "parameters": parameters, "call": keywords, "documentation": documentation})
        return 0
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
    out.line()
    out.line(f"Called with: {', '.join(keywords)}.")
    out.line()
    out.line(plain(documentation))
    return 0
