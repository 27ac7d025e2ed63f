"""Real processes for distributed tests: a pool of three gloo ranks, started once for a test session."""

from __future__ import annotations

import atexit
import functools
import importlib
import multiprocessing
import tempfile
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

RANKS = 3


class Pool:
    """Ranks that each run the same job on their own arguments. ``pair`` uses the first two as a group of their own."""

    def __init__(self, answer: float = 120, collective: float = 60) -> None:
        self._answer = answer
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._connections: list[Connection] = []
        self._processes = []
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self._folder.name, theirs, collective), daemon=True)
            process.start()
            theirs.close()  # else the end of the process would not show
            self._connections.append(ours)
            self._processes.append(process)
        self._started = False

    def run(self, job: str, arguments: list[dict[str, Any]]) -> list[Any]:
        """Run the function ``module:name`` on as many ranks as there are arguments (two or three)."""
        if not self._started:
            # no job before all have met: one that is done with it, or dies of it, would leave others without a group
            self._answers("the start", RANKS)
            self._started = True
        for connection, keywords in zip(self._connections, arguments, strict=False):
            connection.send((job, len(arguments), keywords))
        results = self._answers(job, len(arguments))
        failed = [text for text in results if isinstance(text, _Failure)]
        if failed:
            raise AssertionError(f"{job} failed on a rank:\n{failed[0].text}")
        return results

    def _answers(self, job: str, ranks: int) -> list[Any]:
        """What each rank sends, in their order."""
        results: list[Any] = []
        for rank in range(ranks):
            if not self._connections[rank].poll(self._answer):
                self.close()
                raise AssertionError(f"rank {rank} gave no answer to {job} within {self._answer} s")
            try:
                results.append(self._connections[rank].recv())
            except (EOFError, ConnectionResetError):
                self.close()
                raise AssertionError(f"rank {rank} died in {job}; before it: {results}") from None
        return results

    def close(self) -> None:
        """End the ranks; the next `pool` starts new ones."""
        for connection in self._connections:
            connection.close()  # a rank that waits for a job ends by itself, with all that belongs to a proper end
        for process in self._processes:
            process.join(10)
            process.kill()
            process.join(10)
        self._folder.cleanup()
        pool.cache_clear()


class _Failure:
    def __init__(self, text: str) -> None:
        self.text = text


@functools.cache
def pool() -> Pool:
    """The pool of this session."""
    started = Pool()
    atexit.register(started.close)
    return started


def _serve(rank: int, folder: str, connection: Connection, timeout: float) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS, timeout=timedelta(seconds=timeout)
    )
    pair = dist.new_group([0, 1])
    connection.send(None)
    while True:
        try:
            job, size, keywords = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            module, name = job.split(":")
            function = getattr(importlib.import_module(module), name)
            connection.send(function(group=pair if size == 2 else None, rank=rank, **keywords))
        except Exception:  # whatever a job raises belongs to the test that asked for it
            connection.send(_Failure(traceback.format_exc()))
