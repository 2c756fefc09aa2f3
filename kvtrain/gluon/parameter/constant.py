# SPDX-License-Identifier: Apache-2.0
"""Parameters that training does not change."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kvtrain import initializer as init_module
from kvtrain.context import cpu
from kvtrain.gluon.parameter.single import Parameter
from kvtrain.ndarray import NDArray


class Constant(Parameter):
    """A parameter that training does not change.

    Parameters
    ----------
    name : str
    value : NDArray or array-like
    """

    def __init__(self, name: str, value: Any) -> None:
        raw = value.asnumpy() if isinstance(value, NDArray) else np.asarray(value, np.float32)
        self.value = NDArray(raw, cpu())
        super().__init__(
            name,
            grad_req="null",
            shape=raw.shape,
            dtype=raw.dtype.type,
            init=init_module.Constant(raw),
        )

    @property
    def grad_req(self) -> str:
        """'null'."""
        return "null"

    @grad_req.setter
    def grad_req(self, req: str) -> None:
        if req != "null":
            warnings.warn(
                f'Constant parameter "{self.name}" does not support grad_req other than "null", '
                f'and new value "{req}" is ignored.',
                stacklevel=2,
            )
        self._grad_req = "null"
