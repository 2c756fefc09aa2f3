# SPDX-License-Identifier: Apache-2.0
"""``mx.util``: shapes as NumPy's, the environment, GPUs."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from kvtrain.config import getenv, setenv
from kvtrain.context import gpu_memory_info, num_gpus


class _Flags(threading.local):
    def __init__(self) -> None:
        self.np_shape = False


_flags = _Flags()


def is_np_shape() -> bool:
    """Whether np_shape is on. Shapes with zeros and without dimensions work either way."""
    return _flags.np_shape


def set_np_shape(active: bool) -> bool:
    """Switch np_shape, and return what it was."""
    before, _flags.np_shape = _flags.np_shape, bool(active)
    return before


class _NumpyShapeScope:
    def __init__(self, active: bool) -> None:
        self._active = active
        self._outer: list[bool] = []

    def __enter__(self) -> _NumpyShapeScope:
        self._outer.append(set_np_shape(self._active))
        return self

    def __exit__(self, *exc: Any) -> None:
        set_np_shape(self._outer.pop())


def np_shape(active: bool = True) -> _NumpyShapeScope:
    """``with mx.util.np_shape():`` np_shape on for the block."""
    return _NumpyShapeScope(active)


def use_np_shape(func: Any) -> Any:
    """Decorator of a function, or of all methods of a class: runs with np_shape on."""
    if inspect.isclass(func):
        for name, method in vars(func).copy().items():
            if inspect.isfunction(method):
                setattr(func, name, use_np_shape(method))
        return func

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with np_shape(True):
            return func(*args, **kwargs)

    return wrapped


def is_np_array() -> bool:
    """False: NumPy-style arrays are for a later release."""
    return False


def set_module(module: str) -> Callable[[Any], Any]:
    """Decorator that says in which module a function is found."""

    def decorate(func: Any) -> Any:
        func.__module__ = module
        return func

    return decorate


def get_gpu_count() -> int:
    """Number of GPUs that can hold arrays."""
    return num_gpus()


def get_gpu_memory(gpu_dev_id: int) -> tuple[int, int]:
    """Free and total bytes of a GPU."""
    return gpu_memory_info(gpu_dev_id)


def get_cuda_compute_capability(ctx: Any) -> int:
    """Raises: there are no CUDA devices."""
    raise ValueError(f"Expecting a gpu context to get cuda compute capability, while got {ctx!r}")


__all__ = [
    "get_cuda_compute_capability",
    "get_gpu_count",
    "get_gpu_memory",
    "getenv",
    "is_np_array",
    "is_np_shape",
    "np_shape",
    "set_module",
    "set_np_shape",
    "setenv",
    "use_np_shape",
]
