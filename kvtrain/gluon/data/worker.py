# SPDX-License-Identifier: Apache-2.0
"""What a loading process runs: indices in, batches out."""

from __future__ import annotations

import random
import signal
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from kvtrain import generators
from kvtrain.gluon.data import packing


class Failure:
    """An exception on its way to the process that asked."""

    def __init__(self, error: BaseException) -> None:
        self.text = "".join(traceback.format_exception(error))
        self.error: BaseException | None = error
        try:
            ForkingPickler.dumps(error)
        except Exception:  # whatever cannot be sent is told as text
            self.error = None


def run(conn: Any, payload: bytes, seed: int) -> None:
    """Serve until the other side closes.

    Parameters
    ----------
    conn : Connection
        Gets ``(tag, indices)``, gives ``(tag, batch)`` or ``(tag, Failure)``.
    payload : bytes
        Dataset and batchify function.
    seed : int
        Of this process's random streams.
    """
    # the loading process ends by its pipe: an interrupt is the parent's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    random.seed(seed)
    np.random.seed(seed)
    generators.seed(seed)
    try:
        dataset, batchify = ForkingPickler.loads(payload)
    except Exception as error:  # told to the parent, with the first batch that it asks for
        dataset, batchify = None, Failure(error)
    while True:
        try:
            task = conn.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        tag, indices = task
        try:
            if isinstance(batchify, Failure):
                packing.send(conn, tag, batchify)
                continue
            batch = batchify([dataset[i] for i in indices])
            packing.send(conn, tag, batch)
        except BrokenPipeError:
            return
        except Exception as error:
            packing.send(conn, tag, Failure(error))
