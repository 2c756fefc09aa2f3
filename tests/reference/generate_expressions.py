# SPDX-License-Identifier: Apache-2.0
"""Asks the real MXNet 1.9.1 for the answers to all expressions; see generate.py.

OMP_NUM_THREADS=1 peer/bin/python -m tests.reference.generate_expressions [kind ...]
"""

import json
import multiprocessing
import sys
import warnings
from typing import Any

import mxnet as mx
import mxnet.contrib.text
import mxnet.gluon.contrib

from tests.reference.expressions import FOLDER, World, kinds, lines


def _serve(pipe: Any, asked: list[str]) -> None:
    warnings.simplefilter("ignore")
    world = World(mx)
    for line in asked:
        pipe.send(world.answer(line))


def answers(asked: list[str]) -> list[Any]:
    """The peer's answers; where it dies, "crashes"."""
    found: list[Any] = []
    while len(found) < len(asked):
        ours, theirs = multiprocessing.Pipe(False)
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, asked[len(found) :])
        )
        process.start()
        theirs.close()
        try:
            while len(found) < len(asked):
                found.append(ours.recv())
        except EOFError:
            found.append({"raises": "crash", "text": ""})
        process.join()
    return found


if __name__ == "__main__":
    for kind in sys.argv[1:] or kinds():
        asked = list(lines(kind))
        kept = dict(zip(asked, answers(asked), strict=True))
        for answer in kept.values():
            if isinstance(answer, dict) and "text" in answer:
                answer["text"] = ""
        text = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in kept.items())
        (FOLDER / f"{kind}.json").write_text("{\n" + text + "\n}\n")
        sys.stdout.write(f"{kind}: {len(kept)}\n")
