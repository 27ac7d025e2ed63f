"""Train every task, or those named: `python -m digits [TASK ...] [--output FOLDER]`."""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from losses_core import build_multi_loss, load_config

from . import tasks
from .plot import save_curves
from .training import fit

EXAMPLES = Path(__file__).parents[1]


def run(name: str, output: Path, console: Console) -> bool:
    """Train one task; whether it reached its goal."""
    started = time.perf_counter()
    torch.manual_seed(0)
    config = EXAMPLES / f"{name}.yaml"
    criterion = build_multi_loss(load_config(config))
    task = tasks.build(name)
    console.rule(f"[bold]{name}[/], loss from {config.name}", align="left")
    history = fit(task, criterion, console)
    picture = save_curves(task, history, output / f"{name}.png")
    reached = task.score() >= task.goal
    mark = "[green]reached[/]" if reached else "[red]missed[/]"
    console.print(
        f"{task.metric} on unseen digits [bold]{task.score():.1%}[/], goal {task.goal:.0%} {mark}, "
        f"{time.perf_counter() - started:.0f} s"
    )
    console.print(f"curves: {picture}\n", soft_wrap=True)
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(prog="digits", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"one of {', '.join(tasks.names())}; default: all")
    parser.add_argument("--output", type=Path, default=EXAMPLES / "output", help="folder for the pictures")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - set(tasks.names()):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(tasks.names())}")
    torch.set_num_threads(1)  # the tensors are small: more threads would only wait for each other
    console = Console()
    reached = [run(name, arguments.output.resolve(), console) for name in arguments.tasks or tasks.names()]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
