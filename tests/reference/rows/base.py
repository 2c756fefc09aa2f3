# SPDX-License-Identifier: Apache-2.0
"""What a row is, and how it is run: the same for the real MXNet and for us."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Row:
    #: name under ``nd`` (``linalg.gemm``), or ``.method`` of the first array, or a label
    name: str
    inputs: list[Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    #: which inputs get a gradient
    grads: tuple[int, ...] = ()
    train: bool = True
    #: outputs whose gradient flows; None: all
    heads: tuple[int, ...] | None = None
    #: inputs whose values are looked at when all is done
    after: tuple[int, ...] = ()
    rtol: float = 1e-4
    atol: float = 1e-5
    #: what to run instead of `name`: ``call(mx, *arrays)``
    call: Any = None


def r(*shape: int, seed: int = 1, dtype: str = "float32") -> Any:
    """Normal numbers."""
    return np.random.RandomState(seed).standard_normal(shape).astype(dtype)


def u(
    *shape: int, low: float = 0.1, high: float = 2.0, seed: int = 1, dtype: Any = "float32"
) -> Any:
    """Uniform numbers."""
    return np.random.RandomState(seed).uniform(low, high, shape).astype("float32")


def i(*shape: int, low: int = 0, high: int = 5, seed: int = 1, dtype: Any = "float32") -> Any:
    """Integers, in whatever dtype."""
    return np.random.RandomState(seed).randint(low, high, shape).astype(dtype)


def head(shape: tuple[int, ...], k: int, dtype: Any) -> Any:
    """The head gradient of output `k`."""
    size = int(np.prod(shape))
    return np.cos(np.arange(size) * (0.7 + 0.1 * k) + k).reshape(shape).astype(dtype)


def _target(mx: Any, row: Row, arrays: list[Any]) -> Any:
    if row.call is not None:
        return row.call(mx, *arrays)
    if row.name.startswith("."):
        return getattr(arrays[0], row.name[1:])(*arrays[1:], **row.attrs)
    function = mx.nd
    for part in row.name.split("."):
        function = getattr(function, part)
    return function(*arrays, **row.attrs)


def run(mx: Any, row: Row) -> dict[str, Any]:
    """Outputs and gradients by name; ``{"raises": ...}`` where the call raises."""
    arrays = [mx.nd.array(a, dtype=a.dtype) if isinstance(a, np.ndarray) else a for a in row.inputs]
    found: dict[str, Any] = {}
    for k in row.grads:
        arrays[k].attach_grad()
    try:
        with mx.autograd.record(row.train) if row.grads else mx.autograd.pause(row.train):
            out = _target(mx, row, arrays)
        outs = list(out) if isinstance(out, (list, tuple)) else [out]
        for k, o in enumerate(outs):
            found[f"out{k}"] = o.asnumpy() if hasattr(o, "asnumpy") else np.asarray(o)
        if row.grads:
            chosen = range(len(outs)) if row.heads is None else row.heads
            raws = [head(outs[k].shape, k, outs[k].dtype) for k in chosen]
            heads = [mx.nd.array(raw, dtype=raw.dtype) for raw in raws]
            mx.autograd.backward([outs[k] for k in chosen], heads, train_mode=row.train)
            for k in row.grads:
                found[f"grad{k}"] = arrays[k].grad.asnumpy()
        for k in row.after:
            found[f"after{k}"] = arrays[k].asnumpy()
    except Exception as error:
        return {"raises": np.array(str(error).strip().splitlines()[-1][:200])}
    return found


def pack(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers as two flat arrays, so that a file of a thousand small arrays loads fast."""
    index, parts, at = [], [], 0
    for answer in answers:
        entry = {}
        for name, value in answer.items():
            if name == "raises":
                entry[name] = str(value)
                continue
            raw = np.ascontiguousarray(value).tobytes()
            entry[name] = [str(value.dtype), list(value.shape), at, len(raw)]
            parts.append(raw)
            at += len(raw)
        index.append(entry)
    text = zlib.compress(json.dumps(index).encode())
    return {
        "index": np.frombuffer(text, np.uint8),
        "values": np.frombuffer(b"".join(parts), np.uint8),
    }


def unpack(held: Any) -> list[dict[str, Any]]:
    """The other way."""
    index = json.loads(zlib.decompress(held["index"].tobytes()))
    values = held["values"].tobytes()
    found = []
    for entry in index:
        answer: dict[str, Any] = {}
        for name, at in entry.items():
            if name == "raises":
                answer[name] = at
            else:
                dtype, shape, start, size = at
                raw = values[start : start + size]
                answer[name] = np.frombuffer(raw, dtype).reshape(shape)
        found.append(answer)
    return found
