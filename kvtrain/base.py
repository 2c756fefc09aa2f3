# SPDX-License-Identifier: Apache-2.0
"""``mx.base``: small names that modules written for MXNet take from there.

What speaks to MXNet's C library (handles, ``check_call``) has no meaning here and is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kvtrain._version import __version__ as __version__
from kvtrain.config import cache_directory
from kvtrain.errors import ConfigError, KVTrainError, MXNetError, NotSupportedForSparseNDArray

string_types = (str,)
numeric_types = (float, int, np.generic)
integer_types = (int, np.int32, np.int64)
mx_real_t = np.float32
mx_uint = int
mx_float = float


class NotImplementedForSymbol(KVTrainError, NotImplementedError):
    """A function of arrays was called for a symbol."""

    fields = ("message",)


class classproperty(property):
    """A property of a class, read through the class: ``@classproperty def current(cls)``."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        assert self.fget is not None
        return self.fget(owner)


def py_str(x: bytes | str) -> str:
    """Text of UTF-8 bytes."""
    return x.decode("utf-8") if isinstance(x, bytes) else x


def c_str(string: str) -> bytes:
    """UTF-8 bytes of a text."""
    return string.encode("utf-8")


def _as_list(obj: Any) -> list[Any]:
    """A list or tuple as it is, anything else as a list of one."""
    return obj if isinstance(obj, list | tuple) else [obj]  # type: ignore[return-value]


def data_dir() -> str:
    """Directory for downloaded data: MXNET_HOME, else ``~/.mxnet``."""
    return str(cache_directory())


def data_dir_default() -> str:
    """``~/.mxnet``."""
    return str(Path.home() / ".mxnet")


def build_param_doc(
    arg_names: list[str], arg_types: list[str], arg_descs: list[str], remove_dup: bool = True
) -> str:
    """The section Parameters of a docstring."""
    lines = ["Parameters", "----------"]
    seen: set[str] = set()
    for name, kind, text in zip(arg_names, arg_types, arg_descs, strict=True):
        if (name in seen and remove_dup) or name == "num_args":
            continue
        seen.add(name)
        lines.append(f"{name} : {kind}")
        if text:
            lines.append(f"    {text}")
    return "\n".join(lines) + "\n"


def with_metaclass(meta: type, *bases: type) -> Any:
    """A base class with a metaclass, for code that also ran under Python 2."""
    return meta("temporary", bases, {})


def register_error(name_or_cls: Any = None, cls: Any = None) -> Any:
    """``@register_error``: take an exception class as it is; the names live in Python here."""
    if isinstance(name_or_cls, str) and cls is None:
        return lambda klass: klass
    found = cls if isinstance(name_or_cls, str) else name_or_cls
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise ConfigError(f"register_error: {found!r} is no exception class")
    return found


def add_fileline_to_docstring(module: Any, incursive: bool = True) -> None:
    """Nothing: help() shows where a function is written."""


__all__ = [
    "MXNetError",
    "NotImplementedForSymbol",
    "NotSupportedForSparseNDArray",
    "add_fileline_to_docstring",
    "build_param_doc",
    "c_str",
    "classproperty",
    "data_dir",
    "data_dir_default",
    "integer_types",
    "mx_float",
    "mx_real_t",
    "mx_uint",
    "numeric_types",
    "py_str",
    "register_error",
    "string_types",
    "with_metaclass",
]
