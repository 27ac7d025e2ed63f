"""Processes of a run: each of them new, forked from one that has imported torch."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
ROOT = BENCHMARKS.parent
CACHE = ROOT / "build" / "bench" / "inductor"

ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    # pages once taken are kept: what is timed is the losses, not the system's work for every fresh tensor
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "TORCHINDUCTOR_CACHE_DIR": str(CACHE),
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}


@dataclass(frozen=True)
class Message:
    """What a process says: ``kind`` is ``result``, ``error`` with the traceback, ``end`` where it died, or its own."""

    job: str
    kind: str
    content: Any


def context() -> BaseContext:
    """The server of processes, with the environment of a run; started by the first process."""
    os.environ.update(ENVIRONMENT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(BENCHMARKS), os.environ.get("PYTHONPATH", ""))))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["bench.preload"])
    return server


def run(
    server: BaseContext, target: Callable[..., Any], jobs: Mapping[str, Sequence[Any]], number: int
) -> Iterator[Message]:
    """Run ``target(tell, *arguments)`` of each job in a process of its own, ``number`` at a time, in their order.

    ``tell(kind, content)`` sends a message from there. What is returned is sent as ``result``, an exception as
    ``error``, and ``end`` follows where a process ends otherwise.
    """
    waiting = list(jobs)
    running: dict[Connection, tuple[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < number:
                name = waiting.pop(0)
                here, there = server.Pipe(duplex=False)
                process = server.Process(target=_child, args=(there, target, jobs[name]), daemon=True)  # type: ignore[attr-defined]
                process.start()
                there.close()
                running[here] = name, process
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                name, process = running[connection]
                try:
                    kind, content = connection.recv()
                except EOFError:
                    process.join()
                    kind, content = "end", f"the process ended with status {process.exitcode}"
                if kind in ("result", "error", "end"):
                    process.join()
                    del running[connection]
                yield Message(name, kind, content)
    finally:
        for _, process in running.values():
            process.terminate()


def _child(connection: Connection, target: Callable[..., Any], arguments: Sequence[Any]) -> None:
    def tell(kind: str, content: Any) -> None:
        connection.send((kind, content))

    try:
        tell("result", target(tell, *arguments))
    except BaseException:  # the parent says what it was
        tell("error", traceback.format_exc())
