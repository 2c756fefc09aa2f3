# SPDX-License-Identifier: Apache-2.0
"""Parameters of a block to a file and back, named by the structure of the network."""

from __future__ import annotations

from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import KVTrainError
from kvtrain.ndarray import NDArray


def save(block: Any, filename: str, deduplicate: bool) -> None:
    """Write the values; `deduplicate`: those of shared parameters once, by the last name."""
    named = block._collect_params_with_prefix()
    if deduplicate:
        last = {id(parameter): name for name, parameter in named.items()}
        named = {name: named[name] for name in last.values()}
    arrays: dict[str, NDArray] = {name: p._reduce() for name, p in named.items()}
    nd.save(filename, arrays)


def load(
    block: Any,
    filename: str,
    ctx: Any,
    allow_missing: bool,
    ignore_extra: bool,
    cast_dtype: bool,
    dtype_source: str,
) -> None:
    """Read values into the parameters of `block`."""
    loaded = nd.load(filename)
    wanted = block._collect_params_with_prefix()
    if not loaded and not wanted:
        return
    if not isinstance(loaded, dict):
        raise KVTrainError(f"{filename}: holds arrays without names")
    if not any("." in name for name in loaded) and not wanted.keys() & loaded.keys():
        # a file of ParameterDict.save, with or without the prefix
        params = block.collect_params()
        prefix = "" if params.keys() & loaded.keys() else block.prefix
        params.load(filename, ctx, allow_missing, ignore_extra, prefix, cast_dtype, dtype_source)
        return
    if not allow_missing:
        shared: dict[int, list[str]] = {}
        for name, parameter in wanted.items():
            shared.setdefault(id(parameter), []).append(name)
        for names in shared.values():
            if not any(name in loaded for name in names):
                raise KVTrainError(
                    f"Parameter '{names[0]}' is missing in file '{filename}', which contains "
                    f"parameters: {_few(loaded)}. Set allow_missing=True to ignore missing "
                    "parameters."
                )
    for name, value in loaded.items():
        if name in wanted:
            wanted[name]._load_init(value, ctx, cast_dtype, dtype_source)
        elif not ignore_extra:
            raise KVTrainError(
                f"Parameter '{name}' loaded from file '{filename}' is not present in this "
                f"Block, which contains parameters {_few(wanted)}. Set ignore_extra=True to "
                "ignore."
            )


def structure(block: Any) -> dict[str, Any]:
    """Names of a block and of all blocks in it."""
    held: dict[str, Any] = {
        "orig_name": block.name,
        "hybridized": bool(getattr(block, "_active", False)),
        "children": {child.name: key for key, child in block._children.items()},
    }
    for child in block._children.values():
        held[child.name] = structure(child)
    return held


def _few(names: Any) -> str:
    shown = [repr(name) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "")
