"""Train every task, or those named: `python -m digits [TASK ...] [--seeds N] [--output FOLDER]`."""

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from losses_core import build_multi_loss, load_config

from . import tasks
from .plot import save_curves
from .results import PAGE, Comparison, print_table, write_page
from .training import History, Task, fit

EXAMPLES = Path(__file__).parents[1]
OUTPUT = EXAMPLES.parents[1] / "build" / "demo"


def run(name: str, arguments: argparse.Namespace, console: Console) -> Comparison:
    """Train one task with each loss of its file, from the same seeds."""
    config = EXAMPLES / f"{name}.yaml"
    console.rule(f"[bold]{name}[/], losses from {config.name}", align="left")
    shown = load_config(config, key="title")
    losses = load_config(config, key="beside") | {shown: load_config(config)}
    trained: dict[str, Task] = {}
    histories: dict[str, History] = {}
    found = Comparison(name, config, {label: [] for label in losses})
    for label, loss in losses.items():
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            task = tasks.build(name)
            if not found.metric:
                found.metric = task.metric
                console.print(task.title, highlight=False)
            criterion = build_multi_loss(loss)
            torch.manual_seed(seed)  # the order of the batches, whatever the parameters of the loss have drawn
            detail = label == shown and not seed
            named = f"{label}, {seed}" if arguments.seeds > 1 else label
            history = fit(task, criterion, console, named, detail, arguments.epochs or task.epochs)
            found.scores[label].append(history.score[-1])
            if not seed:
                trained[label], histories[label] = task, history
                found.reached = history.score[-1] >= task.goal
    picture = save_curves(trained, histories, arguments.output / f"{name}.png")
    console.print(f"picture: {picture}\n", soft_wrap=True, highlight=False)
    return found


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def main() -> int:
    started = time.perf_counter()
    parser = argparse.ArgumentParser(prog="digits", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"one of {', '.join(tasks.names())}; default: all")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the pictures (default: build/demo)")
    parser.add_argument("--seeds", type=positive, default=1, help="runs of each loss (default: 1)")
    parser.add_argument("--epochs", type=positive, help="train shorter or longer than each task asks for")
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - set(tasks.names()):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(tasks.names())}")
    torch.set_num_threads(1)  # the tensors are small: more threads would only wait for each other
    console = Console()
    arguments.output = arguments.output.resolve()
    found = [run(name, arguments, console) for name in arguments.tasks or tasks.names()]
    print_table(found, console)
    if arguments.seeds >= 3 and not arguments.tasks and not arguments.epochs:
        write_page(found, arguments.seeds)
        console.print(f"written: {PAGE}", soft_wrap=True, highlight=False)
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    console.print(f"{minutes} min {seconds} s. Next: edit docs/examples/{found[0].config.name} and run it again:")
    console.print(f"  nox -R -s demo -- {found[0].name}", highlight=False)
    missed = [comparison.name for comparison in found if not comparison.reached]
    if missed and not arguments.epochs:
        console.print(f"[red]below the expected score: {', '.join(missed)}[/]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
