"""Train every task, or those named: `python -m digits [TASK ...] [--output FOLDER]`."""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from losses_core import build_multi_loss, load_config
from losses_core.config import Config

from . import tasks
from .plot import save_curves
from .training import SEEDS, History, Task, fit

EXAMPLES = Path(__file__).parents[1]


def run(name: str, output: Path, console: Console) -> bool:
    """Train one task; whether it reached its goal."""
    started = time.perf_counter()
    config = EXAMPLES / f"{name}.yaml"
    console.rule(f"[bold]{name}[/], loss from {config.name}", align="left")
    task, history = train(name, load_config(config), SEEDS[0], console)
    picture = save_curves(task, history, output / f"{name}.png")
    reached = task.score() >= task.goal
    if task.baseline is not None:
        reached &= compare(name, load_config(config), task, console)
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


def compare(name: str, loss: Config, trained: Task, console: Console) -> bool:
    """Train with a loss and with the baseline from the same seeds; whether the loss is better on average.

    ``trained`` is the task as the loss has trained it from the first seed.
    """
    baseline, quiet = trained.baseline or "", Console(quiet=True)
    ours = [trained, *(train(name, loss, seed, quiet)[0] for seed in SEEDS[1:])]
    others = [train(name, baseline, seed, quiet)[0] for seed in SEEDS]
    means = []
    for label, runs in ((f"{name}.yaml", ours), (baseline, others)):
        scores = [task.score() for task in runs]
        means.append(sum(scores) / len(scores))
        listed = "  ".join(f"{score:.1%}" for score in scores)
        console.print(f"{label:<24} mean {means[-1]:.1%}, from {len(SEEDS)} seeds: {listed}", highlight=False)
    return means[0] > means[1]


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
