# SPDX-License-Identifier: Apache-2.0
"""Processes that load batches: started fresh, never forked from a process with threads."""

from __future__ import annotations

import ast
import multiprocessing
import sys
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from kvtrain.errors import DeadlineExceeded, KVTrainError
from kvtrain.gluon.data import packing, worker


class Unsendable(Exception):
    """Why a dataset cannot be given to another process."""


def payload_of(*values: Any) -> tuple[bytes, bool]:
    """`values` as bytes, and whether they need the main script's own classes.

    Raises
    ------
    Unsendable
        They hold something that another process cannot be given.
    """
    try:
        payload = bytes(ForkingPickler.dumps(values))
    except Exception as error:  # pickling raises whatever the objects raise
        raise Unsendable(str(error)) from error
    needs_main = b"__main__" in payload
    if needs_main and not _guarded():
        raise Unsendable(
            "it uses what the main script defines, and the script has no "
            '`if __name__ == "__main__":` that would let another process import it'
        )
    return payload, needs_main


def _guarded() -> bool:
    """Whether the main script can be imported without running its program."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not path or not Path(path).is_file():
        return False
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
    return any(
        isinstance(node, ast.If)
        and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))
        for node in tree.body
    )


@contextmanager
def _without_main() -> Iterator[None]:
    """A new process imports the main script, guarded or not, unless there seems to be none."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _stop(processes: list[Any], conns: list[Any]) -> None:
    for conn in conns:
        try:
            conn.send(None)
        except (OSError, ValueError):
            continue
    for conn in conns:
        conn.close()
    for process in processes:
        process.join(1)
        if process.is_alive():
            process.terminate()
            process.join()
        process.close()


class WorkerPool:
    """Loading processes of one DataLoader.

    Parameters
    ----------
    count : int
        Processes.
    payload : bytes
        Dataset and batchify function, from :func:`payload_of`.
    needs_main : bool
        Import the main script in the processes.
    """

    def __init__(self, count: int, payload: bytes, needs_main: bool) -> None:
        context = multiprocessing.get_context("spawn")
        # told by the caller's seed, without a draw: the order of samples stays the same
        state: Any = np.random.get_state()
        seed = (int(state[1][0]) + int(state[2])) % (1 << 31)
        self._processes: list[Any] = []
        self._conns: list[Any] = []
        self._load: list[int] = [0] * count
        self._done: dict[Any, Any] = {}
        #: process that loads each batch that is still wanted
        self._where: dict[Any, int] = {}
        for i in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=worker.run,
                args=(theirs, payload, (seed + i) % (1 << 31)),
                name=f"kvtrain-loader-{i}",
                daemon=True,
            )
            self._conns.append(ours)
            self._processes.append(process)
            if needs_main:
                process.start()
            else:
                with _without_main():
                    process.start()
            theirs.close()
        self.close = weakref.finalize(self, _stop, self._processes, self._conns)

    def submit(self, tag: Any, indices: Any) -> None:
        """Ask for a batch; the least busy process loads it."""
        alive = [i for i, conn in enumerate(self._conns) if not conn.closed]
        chosen = min(alive, key=self._load.__getitem__, default=0)
        self._where[tag] = chosen
        self._load[chosen] += 1
        try:
            self._conns[chosen].send((tag, indices))
        except OSError:
            self._conns[chosen].close()

    def forget(self, tag: Any) -> None:
        """The batch is not wanted any more."""
        self._where.pop(tag, None)
        self._done.pop(tag, None)

    def result(self, tag: Any, timeout: float) -> Any:
        """The batch asked for as `tag`.

        Raises
        ------
        DeadlineExceeded
            It did not come within `timeout` seconds.
        KVTrainError
            A loading process died.
        """
        while tag not in self._done:
            if self._conns[self._where[tag]].closed:
                self._lost(self._where[tag])
            ready = connection.wait([c for c in self._conns if not c.closed], timeout)
            if not ready:
                raise DeadlineExceeded(
                    f"DataLoader: no batch for {timeout} s; a bug in the dataset, or a larger "
                    "timeout= is needed"
                )
            for conn in ready:
                self._receive(self._conns.index(conn))
        del self._where[tag]
        value = self._done.pop(tag)
        if isinstance(value, worker.Failure):
            if value.error is None:
                raise KVTrainError(f"DataLoader: a loading process failed:\n{value.text}")
            value.error.add_note(f"in a loading process of a DataLoader:\n{value.text}")
            raise value.error
        return value

    def _receive(self, number: int) -> None:
        conn = self._conns[number]
        try:
            tag, value = packing.receive(conn)
        except (EOFError, OSError):
            conn.close()  # fails whoever waits for what it was to load
            return
        self._load[number] -= 1
        if tag in self._where:
            self._done[tag] = value

    def _lost(self, number: int) -> None:
        process = self._processes[number]
        process.join(1)
        code = process.exitcode
        self.close()
        raise KVTrainError(
            f"DataLoader: loading process {number} died (exit code {code}); a crash in the "
            "dataset, or out of memory: try num_workers=0 to see it, or fewer workers"
        )
