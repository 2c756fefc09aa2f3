# SPDX-License-Identifier: Apache-2.0
"""Expressions that give the same in MXNet 1.9.1 and here; the answers are kept beside them.

One expression per line of a ``.txt`` file, evaluated with the names of `World`. Only what is the
same belongs here: differences that are meant are listed in docs/compatibility.toml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.reference.expressions.helpers import helpers
from tests.reference.expressions.training import training

FOLDER = Path(__file__).parent


def kinds() -> list[str]:
    """The files of expressions."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def lines(kind: str) -> Iterator[str]:
    """The expressions of one file."""
    for line in (FOLDER / f"{kind}.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


def plain(value: Any) -> Any:
    """A result as JSON holds it."""
    if isinstance(value, dict):
        return [[str(name), plain(held)] for name, held in value.items()]
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    if isinstance(value, float):
        return float(value)  # NumPy's double too
    if isinstance(value, np.ndarray | np.generic):
        raw = np.asarray(value)
        numbers = raw.astype(np.float64) if raw.dtype.kind == "f" else raw
        kept = [float(f"{v:.9g}") if isinstance(v, float) else v for v in numbers.ravel().tolist()]
        return {"dtype": raw.dtype.name, "shape": list(raw.shape), "values": kept}
    if isinstance(value, type):
        return value.__name__
    return value if isinstance(value, bool | int | float | str | None) else str(value)


class World:
    """The names that expressions use, over the module `mx` (the peer or this project)."""

    def __init__(self, mx: Any) -> None:
        nd = mx.nd
        self.names: dict[str, Any] = {
            "mx": mx,
            "np": np,
            "nd": nd,
            "autograd": mx.autograd,
            "gluon": mx.gluon,
            "nn": mx.gluon.nn,
            "rnn": mx.gluon.rnn,
            "do": self.do,
            "grad1": self.grad1,
            "grad2": self.grad2,
            "train": self.train,
            **helpers(mx),
            **training(mx, self.do),
        }
        self.mx = mx

    def fresh(self) -> dict[str, Any]:
        """The names with arrays that nobody has changed yet."""
        nd = self.mx.nd
        arrays = {
            "X": nd.array([[1, 2], [3, 4]]),
            "Y": nd.arange(24).reshape((2, 3, 4)),
            "Z4": nd.arange(50).reshape((1, 2, 5, 5)) / 10,
            "I": nd.array([1, 0], dtype="int32"),
            "R5": nd.arange(5),
            "S3": nd.array([[1.0, 2, 3], [4, 5, 6]]),
        }
        return {**self.names, **arrays}

    def answer(self, line: str) -> Any:
        """What an expression gives: plain data, or ``{"raises": class}``."""
        np.random.seed(1)
        self.mx.random.seed(1)
        try:
            return plain(eval(line, self.fresh()))
        except Exception as error:
            ours = isinstance(error, self.mx.MXNetError)
            return {"raises": "MXNetError" if ours else type(error).__name__, "text": str(error)}

    def do(self, code: str) -> Any:
        """The variable `r` after statements."""
        names = self.fresh()
        exec(code, names)
        return names["r"]

    def train(self, function: Any) -> Any:
        """`function()` in training mode."""
        with self.mx.autograd.train_mode():
            return function()

    def grad1(self, function: Any, *arrays: Any) -> list[Any]:
        """The result of `function` and its gradients by all arrays."""
        arrays = tuple(array.copy() for array in arrays)
        for array in arrays:
            array.attach_grad()
        with self.mx.autograd.record():
            result = function(*arrays)
        (result[0] if isinstance(result, list | tuple) else result).backward()
        return [result, *(array.grad for array in arrays)]

    def grad2(self, function: Any, array: Any) -> list[Any]:
        """First derivative of `function`, and the derivative of its sum."""
        array = array.copy()
        array.attach_grad()
        with self.mx.autograd.record():
            result = function(array)
            first = self.mx.autograd.grad(result, array, create_graph=True, retain_graph=True)[0]
        first.backward()
        return [first, array.grad]


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or ours.get("dtype") != theirs["dtype"]:
            return False
        loose = 3e-3 if theirs["dtype"] == "float16" else 2e-5
        return ours["shape"] == theirs["shape"] and np.allclose(
            np.array(ours["values"], "f8"),
            np.array(theirs["values"], "f8"),
            loose,
            1e-5,
            equal_nan=True,
        )
    if isinstance(theirs, list):
        return (
            isinstance(ours, list)
            and len(ours) == len(theirs)
            and all(_close(a, b) for a, b in zip(ours, theirs, strict=True))
        )
    if isinstance(theirs, float) or isinstance(ours, float):
        both = isinstance(ours, float | int) and isinstance(theirs, float | int)
        return both and bool(np.isclose(ours, theirs, 1e-5, equal_nan=True))
    return bool(ours == theirs) and type(ours) is type(theirs)


def difference(ours: Any, theirs: Any) -> str | None:
    """How an answer differs from the peer's; None: not at all.

    Where the peer raises, an error of ours or one of the same class must be raised.
    """
    raised = ours.get("raises") if isinstance(ours, dict) else None
    wanted = theirs.get("raises") if isinstance(theirs, dict) else None
    if wanted is None and raised is None:
        return None if _close(ours, theirs) else f"{_short(ours)} instead of {_short(theirs)}"
    if wanted is None or raised is None:
        return f"{_short(ours)} instead of {_short(theirs)}"
    if raised in ("MXNetError", wanted):
        return None
    return f"raises {raised}: {ours['text']}"


def _short(answer: Any) -> str:
    return json.dumps(answer)[:300]
