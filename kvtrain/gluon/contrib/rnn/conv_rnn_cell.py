# SPDX-License-Identifier: Apache-2.0
"""Recurrent cells whose maps are convolutions (Shi et al., 2015)."""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.nn.conv import LAYOUTS, dims
from kvtrain.gluon.rnn.cell import HybridRecurrentCell


class _ConvCell(HybridRecurrentCell):
    """What all convolutional cells share.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one input without the batch, as (channels, height, width).
    hidden_channels : int
        Channels of the states.
    i2h_kernel, h2h_kernel : int or tuple of int
        Windows over the input, and (odd) over the state.
    i2h_pad, i2h_dilate, h2h_dilate : int or tuple of int
    conv_layout : str
        Order of the dimensions.
    activation : str or Block
    """

    _rank = 2
    _gates = 1
    _states = 1

    def __init__(
        self,
        input_shape: tuple[int, ...],
        hidden_channels: int,
        i2h_kernel: Any,
        h2h_kernel: Any,
        i2h_pad: Any = 0,
        i2h_dilate: Any = 1,
        h2h_dilate: Any = 1,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        conv_layout: str | None = None,
        activation: Any = "tanh",
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        name, rank = type(self).__name__, self._rank
        self._layout = conv_layout or LAYOUTS[rank][0]
        if self._layout not in LAYOUTS[rank]:
            known = ", ".join(LAYOUTS[rank])
            raise ConfigError(f"{name}: conv_layout={conv_layout!r}; known: {known}")
        if len(input_shape) != rank + 1:
            raise ConfigError(f"{name}: input_shape={input_shape}; {rank + 1} sizes are needed")
        self._input_shape = tuple(input_shape)
        self._hidden_channels = hidden_channels
        self._activation = activation
        kernel = dims(i2h_kernel, rank, "i2h_kernel", name)
        pad = dims(i2h_pad, rank, "i2h_pad", name)
        dilate = dims(i2h_dilate, rank, "i2h_dilate", name)
        state_kernel = dims(h2h_kernel, rank, "h2h_kernel", name)
        state_dilate = dims(h2h_dilate, rank, "h2h_dilate", name)
        if not all(k % 2 for k in state_kernel):
            raise ConfigError(f"{name}: Only support odd number, get h2h_kernel= {h2h_kernel}")
        wide = hidden_channels * self._gates
        self._i2h = self._geometry(kernel, pad, dilate, wide)
        state_pad = tuple(d * (k - 1) // 2 for k, d in zip(state_kernel, state_dilate, strict=True))
        self._h2h = self._geometry(state_kernel, state_pad, state_dilate, wide)
        self._channel_axis = self._layout.index("C")
        channels_first = self._channel_axis == 1
        inside = input_shape[0] if channels_first else input_shape[-1]
        spatial = input_shape[1:] if channels_first else input_shape[:-1]
        sizes = tuple(
            size + 2 * p - d * (k - 1)
            for size, k, p, d in zip(spatial, kernel, pad, dilate, strict=True)
        )

        def shape(channels: int, window: tuple[int, ...]) -> tuple[int, ...]:
            return (channels, *window) if channels_first else (*window, channels)

        self._state_shape = shape(hidden_channels, sizes)
        given = (
            ("i2h_weight", (wide, *shape(inside, kernel)), i2h_weight_initializer),
            ("h2h_weight", (wide, *shape(hidden_channels, state_kernel)), h2h_weight_initializer),
            ("i2h_bias", (wide,), i2h_bias_initializer),
            ("h2h_bias", (wide,), h2h_bias_initializer),
        )
        self._make(given)

    def _geometry(self, kernel: Any, pad: Any, dilate: Any, wide: int) -> dict[str, Any]:
        return {
            "kernel": kernel,
            "stride": (1,) * self._rank,
            "pad": pad,
            "dilate": dilate,
            "num_filter": wide,
            "layout": self._layout,
        }

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """The output's shape for each state."""
        info = {"shape": (batch_size, *self._state_shape), "__layout__": self._layout}
        return [dict(info) for _ in range(self._states)]

    def _maps(self, F: Any, inputs: Any, state: Any, p: dict[str, Any]) -> tuple[Any, Any]:
        return (
            F.Convolution(inputs, p["i2h_weight"], p["i2h_bias"], **self._i2h),
            F.Convolution(state, p["h2h_weight"], p["h2h_bias"], **self._h2h),
        )

    def _act(self, F: Any, x: Any) -> Any:
        if self._activation == "leaky":
            return F.LeakyReLU(x, act_type="leaky")
        return self._get_activation(F, x, self._activation)

    def __repr__(self) -> str:
        weight = self.i2h_weight.shape
        inside = weight[self._channel_axis]
        return f"{type(self).__name__}({inside} -> {weight[0]}, {self._activation}, {self._layout})"


class _ConvRNNCell(_ConvCell):
    def _alias(self) -> str:
        return "conv_rnn"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h']."""
        i2h, h2h = self._maps(F, inputs, states[0], p)
        output = self._act(F, i2h + h2h)
        return output, [output]


class _ConvLSTMCell(_ConvCell):
    _gates = 4
    _states = 2

    def _alias(self) -> str:
        return "conv_lstm"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h', c']."""
        i2h, h2h = self._maps(F, inputs, states[0], p)
        gates = F.split(i2h + h2h, num_outputs=4, axis=self._channel_axis)
        into, forget, candidate, out = gates
        next_c = F.sigmoid(forget) * states[1] + F.sigmoid(into) * self._act(F, candidate)
        output = F.sigmoid(out) * self._act(F, next_c)
        return output, [output, next_c]


class _ConvGRUCell(_ConvCell):
    _gates = 3

    def _alias(self) -> str:
        return "conv_gru"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h']."""
        held = states[0]
        i2h, h2h = self._maps(F, inputs, held, p)
        i_reset, i_update, i_new = F.split(i2h, num_outputs=3, axis=self._channel_axis)
        h_reset, h_update, h_new = F.split(h2h, num_outputs=3, axis=self._channel_axis)
        reset = F.sigmoid(i_reset + h_reset)
        update = F.sigmoid(i_update + h_update)
        candidate = self._act(F, i_new + reset * h_new)
        output = (1.0 - update) * candidate + update * held
        return output, [output]


class Conv1DRNNCell(_ConvRNNCell):
    """Elman's cell on (n, c, width)."""

    _rank = 1


class Conv2DRNNCell(_ConvRNNCell):
    """Elman's cell on (n, c, height, width)."""

    _rank = 2


class Conv3DRNNCell(_ConvRNNCell):
    """Elman's cell on (n, c, depth, height, width)."""

    _rank = 3


class Conv1DLSTMCell(_ConvLSTMCell):
    """LSTM on (n, c, width)."""

    _rank = 1


class Conv2DLSTMCell(_ConvLSTMCell):
    """LSTM on (n, c, height, width)."""

    _rank = 2


class Conv3DLSTMCell(_ConvLSTMCell):
    """LSTM on (n, c, depth, height, width)."""

    _rank = 3


class Conv1DGRUCell(_ConvGRUCell):
    """GRU on (n, c, width)."""

    _rank = 1


class Conv2DGRUCell(_ConvGRUCell):
    """GRU on (n, c, height, width)."""

    _rank = 2


class Conv3DGRUCell(_ConvGRUCell):
    """GRU on (n, c, depth, height, width)."""

    _rank = 3
