"""The table at the end of the demo, and the one of the documentation."""

import datetime
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).parents[2] / "guide" / "demo.md"
BLOCK = re.compile(r"(<!-- table: .*? -->\n).*?(<!-- end of table -->\n)", re.DOTALL)


@dataclass
class Comparison:
    """The scores of one task: for each loss one per seed, the baseline first."""

    name: str
    config: Path
    scores: dict[str, list[float]]
    metric: str = ""
    reached: bool = False

    def rows(self) -> list[tuple[str, str, str, float]]:
        """Loss, score, difference to the baseline in points; and that as a number, 0 where it may be chance.

        A difference counts if it is more than twice its standard deviation; of a single run, if it is over a point.
        """
        found = []
        baseline = next(iter(self.scores.values()))
        for label, scores in self.scores.items():
            gains = [100 * (score - base) for score, base in zip(scores, baseline, strict=True)]
            gain = statistics.fmean(gains)
            text = "baseline" if scores is baseline else f"{gain:+.1f}"
            if len(gains) > 1 and scores is not baseline:
                text += f" ± {statistics.stdev(gains):.1f}"
            sure = abs(gain) > (2 * statistics.stdev(gains) if len(gains) > 1 else 1.0)
            found.append((label, spread(scores), text, gain if sure else 0.0))
        return found


def spread(scores: list[float]) -> str:
    """The mean in percent, with the standard deviation over the seeds."""
    mean = f"{100 * statistics.fmean(scores):.1f}"
    return f"{mean} ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else mean


def print_table(found: list[Comparison], console: Console) -> None:
    """One table of all tasks; a gain is green, a loss red, what may be chance has no colour."""
    table = Table("task", "loss", box=None, pad_edge=False)
    table.add_column("%", justify="right")
    table.add_column("gain", justify="right")
    for comparison in found:
        for number, (label, score, text, gain) in enumerate(comparison.rows()):
            colour = "green" if gain > 0 else "red" if gain < 0 else ""
            first = (comparison.name, f"[dim]{comparison.metric}[/]", *[""] * 9)[number]
            table.add_row(first, label, score, f"[{colour}]{text}[/]" if colour else text)
        table.add_section()
        table.add_row()
    console.print(table, highlight=False)
    runs = len(next(iter(found[0].scores.values())))
    console.print(
        "gain: points over the baseline, same seed, data and number of steps.\n"
        + (
            "One run each: differences of a point or two may be chance; see --seeds 3.\n"
            if runs == 1
            else f"Mean ± standard deviation of {runs} runs; a gain below twice its ± may be chance.\n"
        ),
        highlight=False,
    )


def markdown(found: list[Comparison], seeds: int) -> str:
    """The table for the documentation."""
    today, version = datetime.datetime.now(datetime.UTC), torch.__version__.partition("+")[0]
    lines = [
        f"{today:%Y-%m-%d}, PyTorch {version}, {seeds} seeds.",
        "",
        "| task | loss | score, % | against the baseline, points |",
        "| --- | --- | --: | --: |",
    ]
    for comparison in found:
        for number, (label, score, text, gain) in enumerate(comparison.rows()):
            first = f"`{comparison.name}`, {comparison.metric}" if not number else ""
            lines.append(f"| {first} | {label} | {score} | {f'**{text}**' if gain else text} |")
    return "\n".join(lines) + "\n"


def write_page(found: list[Comparison], seeds: int) -> None:
    """Replace the table of the page about the demo."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda match: f"{match[1]}{markdown(found, seeds)}{match[2]}", text), encoding="utf-8")
