# SPDX-License-Identifier: Apache-2.0
"""The table that ``Block.summary`` prints."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from kvtrain.ndarray import NDArray

WIDTH = 80


def _shapes(args: Any) -> Any:
    """Shape of an array; of several, the list of them (of one in a list, its own)."""
    if isinstance(args, list | tuple):
        found = [_shapes(a) for a in args]
        return found[0] if len(found) == 1 else found
    return args.shape if isinstance(args, NDArray) else None


def _count(parameters: Any) -> int:
    return sum(math.prod(p.shape) for p in parameters)


def summarize(block: Any, inputs: tuple[Any, ...]) -> str:
    """Run `block` on `inputs`; layers, output shapes and numbers of parameters as text."""
    rows: OrderedDict[str, tuple[Any, list[Any]]] = OrderedDict()
    rows["Input"] = (_shapes(inputs), [])
    hooks: list[Any] = []

    def watch(part: Any) -> None:
        def note(b: Any, _: Any, out: Any) -> None:
            name = f"{type(b).__name__}-{len(rows)}"
            rows[name] = (_shapes(out), list(b._reg_params.values()))

        if not part._plain_stack:
            hooks.append(part.register_forward_hook(note))

    block.apply(watch)
    try:
        block(*inputs)
    finally:
        for hook in hooks:
            hook.detach()
    all_params = [p for _, params in rows.values() for p in params]
    unique = list({id(p): p for p in all_params}.values())
    total = _count(all_params)
    trainable = _count(p for p in all_params if p.grad_req != "null")
    line = "{:>20}  {:>42} {:>15}"
    lines = ["-" * WIDTH, line.format("Layer (type)", "Output Shape", "Param #"), "=" * WIDTH]
    lines += [
        line.format(name, str(shape), _count(params)) for name, (shape, params) in rows.items()
    ]
    lines += [
        "=" * WIDTH,
        "Parameters in forward computation graph, duplicate included",
        f"   Total params: {total}",
        f"   Trainable params: {trainable}",
        f"   Non-trainable params: {total - trainable}",
        f"Shared params in forward computation graph: {total - _count(unique)}",
        f"Unique parameters in model: {_count(unique)}",
        "-" * WIDTH,
    ]
    return "\n".join(lines) + "\n"
