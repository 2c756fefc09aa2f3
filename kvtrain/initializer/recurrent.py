# SPDX-License-Identifier: Apache-2.0
"""Initializers of recurrent networks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from kvtrain.errors import ConfigError
from kvtrain.initializer.base import InitDesc, Initializer, create, register
from kvtrain.ndarray import NDArray


@register
class LSTMBias(Initializer):
    """Zeros, with the bias of the forget gate (second quarter) at `forget_bias`."""

    def __init__(self, forget_bias: float = 1.0) -> None:
        super().__init__(forget_bias=forget_bias)
        self.forget_bias = forget_bias

    def _init_weight(self, name: str, arr: NDArray) -> None:
        hidden = arr.shape[0] // 4
        raw = np.zeros(arr.shape, arr.dtype)
        raw[hidden : 2 * hidden] = self.forget_bias
        arr[:] = raw

    _init_default = _init_weight


@register
class FusedRNN(Initializer):
    """Fills the one vector of a fused recurrent network, part by part.

    Parameters
    ----------
    init : Initializer, JSON text or None
        For weights and biases; None: the global one.
    num_hidden, num_layers : int
    mode : {'lstm', 'gru', 'rnn_relu', 'rnn_tanh'}
    bidirectional : bool
    forget_bias : float
        For the forget gates of an LSTM.
    """

    _GATES: ClassVar[dict[str, tuple[str, ...]]] = {
        "lstm": ("_i", "_f", "_c", "_o"),
        "gru": ("_r", "_z", "_o"),
        "rnn_relu": ("",),
        "rnn_tanh": ("",),
    }

    def __init__(
        self,
        init: Any,
        num_hidden: int,
        num_layers: int,
        mode: str,
        bidirectional: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        if mode not in self._GATES:
            raise ConfigError(f"FusedRNN: mode={mode!r}; known: {', '.join(self._GATES)}")
        self._init = None if init is None else create(init)
        super().__init__(
            init=None if self._init is None else self._init.dumps(),
            num_hidden=num_hidden,
            num_layers=num_layers,
            mode=mode,
            bidirectional=bidirectional,
            forget_bias=forget_bias,
        )
        self._hidden = num_hidden
        self._layers = num_layers
        self._mode = mode
        self._sides = ("l", "r") if bidirectional else ("l",)
        self._forget_bias = forget_bias

    def _parts(self, size: int) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the parts: all weights, then all biases."""
        gates, h, b = self._GATES[self._mode], self._hidden, len(self._sides)
        inputs = size // b // h // len(gates) - (self._layers - 1) * (h + b * h + 2) - h - 2
        cells = [(side, layer) for layer in range(self._layers) for side in self._sides]
        weights = [
            (f"{side}{layer}_{way}{gate}_weight", (h, width))
            for side, layer in cells
            for way, width in (("i2h", inputs if layer == 0 else b * h), ("h2h", h))
            for gate in gates
        ]
        biases = [
            (f"{side}{layer}_{way}{gate}_bias", (h,))
            for side, layer in cells
            for way in ("i2h", "h2h")
            for gate in gates
        ]
        return [*weights, *biases]

    def _init_weight(self, name: Any, arr: NDArray) -> None:
        parts = self._parts(arr.size)
        if sum(math.prod(shape) for _, shape in parts) != arr.size:
            raise ConfigError(f"FusedRNN: {name!r} of {arr.size} elements fits no input size")
        values, low = np.empty(arr.size, arr.dtype), 0
        for part, shape in parts:
            filled = NDArray(np.zeros(shape, arr.dtype), arr.context)
            if self._mode == "lstm" and part.endswith("_f_bias"):
                filled[:] = self._forget_bias
            else:
                fill = self._init or getattr(name, "global_init", None)
                if fill is None:
                    raise ConfigError("FusedRNN(init=None) needs a global initializer")
                fill(InitDesc(part, global_init=fill), filled)
            high = low + filled.size
            values[low:high] = filled.asnumpy().reshape(-1)
            low = high
        arr[:] = values.reshape(arr.shape)
