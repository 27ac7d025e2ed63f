"""Train every task, or those named: `python -m digits [TASK ...] [--output FOLDER]`."""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from losses_core import build_multi_loss, load_config
from losses_core.config import Config

from . import tasks
from .plot import save_curves
from .training import SEEDS, History, Task, fit

EXAMPLES = Path(__file__).parents[1]


def run(name: str, output: Path, console: Console, seeds: int = SEEDS) -> bool:
    """Train one task; whether it reached its goal."""
    started = time.perf_counter()
    config = EXAMPLES / f"{name}.yaml"
    console.rule(f"[bold]{name}[/], loss from {config.name}", align="left")
    loss = load_config(config)
    task, history = train(name, loss, 0, console)
    picture = save_curves(task, history, output / f"{name}.png")
    reached = task.score() >= task.goal
    others = task.others(loss)
    if others:
        reached &= compare(name, {config.name: loss, **others}, task, seeds, console)
    mark = "[green]reached[/]" if reached else "[red]missed[/]"
    console.print(
        f"{task.metric} on unseen digits [bold]{task.score():.1%}[/], goal {task.goal:.0%} {mark}, "
        f"{time.perf_counter() - started:.0f} s"
    )
    console.print(f"curves: {picture}\n", soft_wrap=True)
    return reached


def train(name: str, loss: Config, seed: int, console: Console) -> tuple[Task, History]:
    """Train a task from a seed."""
    torch.manual_seed(seed)
    criterion, task = build_multi_loss(loss), tasks.build(name)
    return task, fit(task, criterion, console)


def compare(name: str, losses: dict[str, Config], trained: Task, seeds: int, console: Console) -> bool:
    """Train with each loss from the same seeds; whether the first is better on average, where it has to be.

    ``trained`` is the task as the first loss has trained it from the first seed.
    """
    table, quiet = Table("loss", "mean", "by seed", box=None), Console(quiet=True)
    means = []
    for label, loss in losses.items():
        known = [] if means else [trained]
        runs = [*known, *(train(name, loss, seed, quiet)[0] for seed in range(len(known), seeds))]
        scores = [task.score() for task in runs]
        means.append(sum(scores) / seeds)
        table.add_row(label, f"{means[-1]:.1%}", "  ".join(f"{score:.1%}" for score in scores))
    console.print(table, highlight=False)
    return not trained.has_to_win or means[0] > max(means[1:])


def main() -> int:
    parser = argparse.ArgumentParser(prog="digits", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"one of {', '.join(tasks.names())}; default: all")
    parser.add_argument("--output", type=Path, default=EXAMPLES / "output", help="folder for the pictures")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of what is compared (default: {SEEDS})")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - set(tasks.names()):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(tasks.names())}")
    torch.set_num_threads(1)  # the tensors are small: more threads would only wait for each other
    console = Console()
    output, seeds = arguments.output.resolve(), max(1, arguments.seeds)
    reached = [run(name, output, console, seeds) for name in arguments.tasks or tasks.names()]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
