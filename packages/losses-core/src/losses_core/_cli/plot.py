"""Draw losses: value and gradient against what they depend on.

What is varied is what the class declares as its example: a logit, the shift of a box or of a disc, an error. Losses
that depend on the same may share a picture; a parameter of --vary goes to those that have it.

  losses plot FocalLoss --vary gamma=0,1,2,5
  losses plot GIoULoss DIoULoss CIoULoss
  losses plot CIoULoss -o ciou.svg --theme dark
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from losses_core._cli._completion import completed_by, losses
from losses_core._cli._output import Output, progress
from losses_core.errors import LossesError

THEMES = {
    "light": {"page": "#ffffff", "text": "#24292f", "grid": "#d8dee4"},
    "dark": {"page": "#0d1117", "text": "#d1d7e0", "grid": "#3d444d"},
}
COLOURS = {
    "light": ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#57606a", "#bf3989"),
    "dark": ("#6cb6ff", "#f69d50", "#6bc46d", "#dcbdfb", "#b1bac4", "#fc8dc7"),
}
STYLES = ("-", "--", ":", "-.")


def configure(parser: argparse.ArgumentParser) -> None:
    names = parser.add_argument(
        "names", nargs="+", metavar="NAME", help="as in a config: DiceLoss, or distribution:DiceLoss"
    )
    completed_by(losses, names)
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        type=_vary,
        metavar="PARAMETER=VALUES",
        help="a line for each value, as gamma=0,1,2,5; a parameter may also be given a single value; may be repeated",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="a .png, .svg or .pdf file (default: the names, .png)")
    parser.add_argument("--theme", choices=tuple(THEMES), default="light", help="(default: light)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead, without matplotlib")


def run(arguments: argparse.Namespace, out: Output) -> int:
    from losses_core._curves import common_path, curves, variants

    names = list(dict.fromkeys(arguments.names))
    losses = variants(names, dict(arguments.vary))
    most = len(COLOURS["light"])
    if len(losses) > most:
        of_parameters = "--vary: " if arguments.vary else ""
        raise LossesError(
            f"{of_parameters}expected at most {most} combinations, which can be told apart; got {len(losses)}."
        )
    path = common_path(losses)
    if not arguments.json:
        figure = _figure()
    with progress(len(losses) * len(path.lines)) as step:
        drawn = list(curves(losses, step))
    if arguments.json:
        lines = [{**line._asdict(), "loss": line.loss or names[0]} for line in drawn]
        out.json({"losses": names, "x": path.x, "gradient_by": path.per, "lines": lines})
        return 0
    titles = [name.rpartition(":")[2] for name in names]
    _draw(figure, ", ".join(titles), path, drawn, arguments.theme)
    target = arguments.output or f"{'-'.join(titles)}.png"
    kinds = figure.canvas.get_supported_filetypes()
    if target.rpartition(".")[2].lower() not in kinds:
        raise LossesError(f"{target}: expected a file that ends in {', '.join(f'.{kind}' for kind in sorted(kinds))}.")
    try:
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise LossesError(f"{target}: cannot be written: {error.strerror}") from error
    out.line(f"{target}: written")
    return 0


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise LossesError("drawing needs matplotlib: pip install matplotlib (--json gives the numbers)") from error
    return Figure(figsize=(9, 3.8), layout="constrained")


def _draw(figure: Any, name: str, path: Any, drawn: list[Any], theme: str) -> None:
    page, text, grid = THEMES[theme].values()
    figure.set_facecolor(page)
    figure.suptitle(name, color=text, x=0.01, ha="left", fontsize=12, weight="bold")
    colours = dict(zip(dict.fromkeys(curve.variant for curve in drawn), COLOURS[theme], strict=False))
    styles = dict(zip(dict.fromkeys(curve.line for curve in drawn), STYLES, strict=False))
    widths = {name: 1.5 + 0.4 * index for index, name in enumerate(reversed(colours))}  # the last one hides no other
    by_line = dict(zip(styles, COLOURS[theme], strict=False))  # of one variant the colours tell its lines apart
    for axes, column, title in zip(
        figure.subplots(1, 2),
        ("value", "gradient"),
        ("loss", f"d loss / d {path.per.removeprefix('the ')}"),
        strict=True,
    ):
        axes.set_facecolor(page)
        for curve in drawn:
            colour = colours[curve.variant] if len(colours) > 1 else by_line[curve.line]
            width = widths[curve.variant]
            axes.plot(curve.x, getattr(curve, column), styles[curve.line], color=colour, linewidth=width)
        axes.set_xlabel(path.x, color=text)
        axes.set_ylabel(title, color=text)
        axes.tick_params(colors=text, labelcolor=text)
        axes.grid(color=grid, linewidth=0.6)
        axes.set_axisbelow(True)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(grid)
    if len(drawn) > 1:
        _legend(figure, colours, styles, by_line, text)


def _legend(figure: Any, colours: dict[str, str], styles: dict[str, str], by_line: dict[str, str], text: str) -> None:
    """An entry for each colour, and one for each style: of 6 losses along 3 lines 9 entries, not 18."""
    from matplotlib.lines import Line2D

    entries = [(label, "-", colour) for label, colour in colours.items()] if len(colours) > 1 else []
    if len(styles) > 1:
        entries += [(label, style, text if entries else by_line[label]) for label, style in styles.items()]
    handles = [Line2D([], [], color=colour, linewidth=1.8) for _, _, colour in entries]
    for handle, (_, style, _) in zip(handles, entries, strict=True):
        handle.set(linestyle=style)
    labels = [label for label, _, _ in entries]
    columns = 3 if len(entries) > 4 else len(entries)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, labelcolor=text)


def _vary(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise argparse.ArgumentTypeError(f"expected a parameter and its values, as gamma=0,1,2,5; got {text!r}")
    try:  # lists too, as class_weight=[1,1],[1,4]
        return name, list(json.loads(f"[{values}]"))
    except ValueError:
        return name, [_scalar(value.strip()) for value in values.split(",")]


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
