# SPDX-License-Identifier: Apache-2.0
"""``mx.autograd``. Loaded in two parts: the tape knows nothing of NDArray, the API does."""

from __future__ import annotations

import importlib
from typing import Any

_API = (
    "backward",
    "get_symbol",
    "grad",
    "is_recording",
    "is_training",
    "mark_variables",
    "pause",
    "predict_mode",
    "record",
    "set_recording",
    "set_training",
    "train_mode",
)
__all__ = ["Function", *_API]


def __getattr__(name: str) -> Any:
    # kvtrain.ndarray imports kvtrain.autograd.tape, so the API must not be imported with it
    if name in _API:
        value = getattr(importlib.import_module("kvtrain.autograd.api"), name)
    elif name == "Function":
        value = importlib.import_module("kvtrain.autograd.function").Function
    else:
        raise AttributeError(f"module 'kvtrain.autograd' has no attribute {name!r}")
    globals()[name] = value
    return value
