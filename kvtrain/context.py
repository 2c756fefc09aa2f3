# SPDX-License-Identifier: Apache-2.0
"""Contexts: where an array is said to live.

All arithmetic runs on the host; ``cpu(0)``, ``cpu(1)``, ... are labels, which let one process
play several devices. ``gpu(i)`` can be named but holds no arrays yet.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from kvtrain.errors import OperatorError


class _Stack(threading.local):
    contexts: tuple[Context, ...] = ()


class _Class(type):
    """Gives Context its class property ``default_ctx``."""

    @property
    def default_ctx(cls) -> Context:
        """The context of the innermost ``with`` of this thread, else ``cpu(0)``; may be set."""
        return current_context()

    @default_ctx.setter
    def default_ctx(cls, ctx: Context) -> None:
        Context._stack.contexts = (*Context._stack.contexts[:-1], ctx)


class Context(metaclass=_Class):
    """A device, as ``cpu(0)``.

    Parameters
    ----------
    device_type : str or Context
        ``"cpu"``, ``"gpu"``, ``"cpu_pinned"`` or ``"cpu_shared"``; or a context to copy.
    device_id : int
        Number of the device.

    Examples
    --------
    >>> with Context("cpu", 1):
    ...     print(current_context())
    cpu(1)
    """

    devtype2str: ClassVar[dict[int, str]] = {1: "cpu", 2: "gpu", 3: "cpu_pinned", 5: "cpu_shared"}
    devstr2type: ClassVar[dict[str, int]] = {name: n for n, name in devtype2str.items()}
    _stack: ClassVar[_Stack] = _Stack()

    __slots__ = ("device_id", "device_typeid")

    def __init__(self, device_type: str | Context, device_id: int = 0) -> None:
        self.device_typeid: int
        self.device_id: int
        if isinstance(device_type, Context):
            self.device_typeid, self.device_id = device_type.device_typeid, device_type.device_id
            return
        if device_type not in self.devstr2type:
            known = ", ".join(self.devstr2type)
            raise OperatorError(f"unknown device type {device_type!r}; known: {known}")
        self.device_typeid = self.devstr2type[device_type]
        self.device_id = int(device_id)

    @property
    def device_type(self) -> str:
        """``"cpu"``, ``"gpu"``, ..."""
        return self.devtype2str[self.device_typeid]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Context)
            and self.device_typeid == other.device_typeid
            and self.device_id == other.device_id
        )

    def __hash__(self) -> int:
        return hash((self.device_typeid, self.device_id))

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def __enter__(self) -> Context:
        self._stack.contexts = (*self._stack.contexts, self)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.contexts = self._stack.contexts[:-1]

    def empty_cache(self) -> None:
        """Give cached memory back; nothing is cached on the host."""


_DEFAULT = Context("cpu", 0)


def current_context() -> Context:
    """The context of the innermost ``with``, else ``cpu(0)``."""
    held = Context._stack.contexts
    return held[-1] if held else _DEFAULT


def cpu(device_id: int = 0) -> Context:
    """The host, under the label `device_id`."""
    return Context("cpu", device_id)


def cpu_pinned(device_id: int = 0) -> Context:
    """The host; memory is not pinned."""
    return Context("cpu_pinned", device_id)


def gpu(device_id: int = 0) -> Context:
    """A GPU. It can be named, but arrays cannot be made there yet."""
    return Context("gpu", device_id)


def num_gpus() -> int:
    """Number of GPUs that can hold arrays: 0."""
    return 0


def gpu_memory_info(device_id: int = 0) -> tuple[int, int]:
    """Raises: no GPU can hold arrays."""
    raise OperatorError(f"gpu({device_id}) is not supported; this build computes on the host")


def usable(ctx: Context | None) -> Context:
    """`ctx` or the current one; raises OperatorError for a GPU."""
    if ctx is None:
        return current_context()
    if not isinstance(ctx, Context):
        raise OperatorError(f"ctx={ctx!r} is not a Context; use kvtrain.cpu()")
    if ctx.device_type == "gpu":
        raise OperatorError(
            f"{ctx!r} is not supported: this build computes on the host; use kvtrain.cpu()"
        )
    return ctx
