# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers: a whole sequence through one or more layers of cells in one call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError
from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.parameter import Parameter
from kvtrain.gluon.rnn.cell import GRUCell, LSTMCell, RNNCell
from kvtrain.gluon.rnn.container import BidirectionalCell, HybridSequentialRNNCell
from kvtrain.gluon.rnn.modifier import DropoutCell
from kvtrain.gluon.rnn.projected import LSTMPCell
from kvtrain.ndarray import NDArray

_OWN = re.compile(r"(l|r)(\d+)_(i2h|h2h|h2r)_(weight|bias)\Z")


class _RNNLayer(HybridBlock):
    """What all recurrent layers share.

    Parameters
    ----------
    hidden_size : int
        Width of the states.
    num_layers : int
        Layers on top of each other.
    layout : {'TNC', 'NTC'}
        Order of the dimensions of inputs and outputs; states are (layers, n, width).
    dropout : float
        Probability of 0 between layers, in training.
    bidirectional : bool
        Each layer runs in both directions; outputs are twice as wide.
    input_size : int
        Width of the input; 0: told by the first batch.
    use_sequence_length : bool
        Calls take ``sequence_length`` (n,): how much of each sequence counts.
    """

    _gates = 1
    _states = 1

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        layout: str,
        dropout: float,
        bidirectional: bool,
        input_size: int,
        i2h_weight_initializer: Any,
        h2h_weight_initializer: Any,
        i2h_bias_initializer: Any,
        h2h_bias_initializer: Any,
        mode: str,
        projection_size: int | None = None,
        h2r_weight_initializer: Any = None,
        dtype: Any = "float32",
        clip: dict[str, Any] | None = None,
        use_sequence_length: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._use_sequence_length = use_sequence_length
        if layout not in ("TNC", "NTC"):
            raise ConfigError(f"Invalid layout {layout}; must be one of ['TNC' or 'NTC']")
        self._hidden_size = hidden_size
        self._num_layers = num_layers
        self._mode = mode
        self._layout = layout
        self._dropout = dropout
        self._dir = 2 if bidirectional else 1
        self._input_size = input_size
        self._projection_size = projection_size
        self._dtype = dtype
        self._clip = clip or {}
        out = projection_size or hidden_size
        wide = self._gates * hidden_size
        inside = input_size
        for i in range(num_layers):
            for side in "lr"[: self._dir]:
                given = [
                    ("i2h_weight", (wide, inside), i2h_weight_initializer),
                    ("h2h_weight", (wide, out), h2h_weight_initializer),
                    ("i2h_bias", (wide,), i2h_bias_initializer),
                    ("h2h_bias", (wide,), h2h_bias_initializer),
                ]
                if projection_size:
                    given.append(("h2r_weight", (out, hidden_size), h2r_weight_initializer))
                for name, shape, init in given:
                    full = f"{side}{i}_{name}"
                    parameter = self.params.get(
                        full, shape=shape, init=init, allow_deferred_init=True, dtype=dtype
                    )
                    setattr(self, full, parameter)
            inside = out * self._dir

    def __repr__(self) -> str:
        shape = self._reg_params["l0_i2h_weight"].shape or (0, 0)
        text = f"{shape[1] or None} -> {shape[0] // self._gates}, {self._layout}"
        if self._num_layers != 1:
            text += f", num_layers={self._num_layers}"
        if self._dropout:
            text += f", dropout={self._dropout}"
        if self._dir == 2:
            text += ", bidirectional"
        return f"{type(self).__name__}({text})"

    def _collect_params_with_prefix(self, prefix: str = "") -> dict[str, Parameter]:
        """Parameters by the names that MXNet's files use, as ``_unfused.0.i2h_weight``."""
        start = prefix + "." if prefix else ""
        found = {}
        for name, parameter in self._reg_params.items():
            place = _OWN.match(name)
            if place is None:
                found[start + name] = parameter
                continue
            side, layer, group, kind = place.groups()
            cell = f".{side}_cell" if self._dir == 2 else ""
            found[f"{start}_unfused.{layer}{cell}.{group}_{kind}"] = parameter
        for name, child in self._children.items():
            found.update(child._collect_params_with_prefix(start + name))
        return found

    # ---- states ---------------------------------------------------------------------------

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """(layers * directions, batch, width) for each state."""
        layers = self._num_layers * self._dir
        widths = [self._projection_size or self._hidden_size, self._hidden_size]
        return [
            {"shape": (layers, batch_size, w), "__layout__": "LNC", "dtype": self._dtype}
            for w in widths[: self._states]
        ]

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., NDArray] | None = None, **kwargs: Any
    ) -> list[NDArray]:
        """First states, zeros by default; ``func(shape=..., **kwargs)`` makes each."""
        make = nd.zeros if func is None else func
        return [
            make(**({k: v for k, v in info.items() if k != "__layout__"} | kwargs))
            for info in self.state_info(batch_size)
        ]

    def cast(self, dtype: Any) -> None:
        """Another dtype for parameters and first states."""
        super().cast(dtype)
        self._dtype = dtype

    # ---- calls ----------------------------------------------------------------------------

    def infer_shape(self, x: NDArray, *args: Any) -> None:
        """Input width from the data."""
        if x.ndim != 3:
            raise ConfigError(
                f"{type(self).__name__}: inputs of shape {x.shape}; {self._layout} is needed"
            )
        for side in "lr"[: self._dir]:
            weight = self._reg_params[f"{side}0_i2h_weight"]
            weight.shape = (self._gates * self._hidden_size, x.shape[2])

    def __call__(
        self, inputs: NDArray, states: Any = None, sequence_length: Any = None, **kwargs: Any
    ) -> Any:
        """Outputs; with `states` given, outputs and the states after the last step.

        Parameters
        ----------
        inputs : NDArray
            In the layer's layout.
        states : NDArray or list of NDArray, optional
            As :meth:`begin_state` makes them.
        sequence_length : NDArray, optional
            (n,): lengths, for a layer with ``use_sequence_length=True``.
        """
        if self._use_sequence_length and sequence_length is None:
            raise ConfigError(f"{type(self).__name__}: sequence_length is missing")
        more = (sequence_length,) if self._use_sequence_length else ()
        if states is None:
            batch = inputs.shape[self._layout.index("N")]
            held = self.begin_state(batch, ctx=inputs.context, dtype=inputs.dtype)
            return super().__call__(inputs, held, *more, **kwargs)[0]
        held = [states] if isinstance(states, NDArray) else list(states)
        return super().__call__(inputs, held, *more, **kwargs)

    def hybrid_forward(
        self, F: Any, inputs: Any, states: Any, sequence_length: Any = None, **params: Any
    ) -> Any:
        """Outputs and states."""
        batch = inputs.shape[self._layout.index("N")]
        infos = self.state_info(batch)
        if len(states) != len(infos):
            raise ConfigError(
                f"{type(self).__name__}: {len(states)} states given, {len(infos)} are needed"
            )
        for info, state in zip(infos, states, strict=True):
            if state.shape != info["shape"]:
                raise ValueError(
                    f"Invalid recurrent state shape. Expecting {info['shape']}, got {state.shape}."
                )
        if self._layout == "NTC":
            inputs = F.swapaxes(inputs, 0, 1)
        out, *after = F.RNN(
            inputs,
            self._flat(F, params),
            *states,
            **({} if sequence_length is None else {"sequence_length": sequence_length}),
            use_sequence_length=self._use_sequence_length,
            state_size=self._hidden_size,
            num_layers=self._num_layers,
            bidirectional=self._dir == 2,
            mode=self._mode,
            p=self._dropout,
            state_outputs=True,
            projection_size=self._projection_size,
            **self._clip,
        )
        return F.swapaxes(out, 0, 1) if self._layout == "NTC" else out, after

    def _flat(self, F: Any, params: dict[str, Any]) -> Any:
        """All parameters in one: the weights of each layer and direction, then the biases."""
        groups = ["i2h_weight", "h2h_weight", *["h2r_weight"] * bool(self._projection_size)]
        places = [f"{s}{i}_" for i in range(self._num_layers) for s in "lr"[: self._dir]]
        names = [p + g for p in places for g in groups]
        names += [p + g for p in places for g in ("i2h_bias", "h2h_bias")]
        return F.concat(*(F.reshape(params[n], shape=(-1,)) for n in names), dim=0)

    def _cell(self, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _unfuse(self) -> HybridSequentialRNNCell:
        """The same network as cells, with the same parameters."""
        stack = HybridSequentialRNNCell(prefix=self.prefix, params=self.params)
        out = self._projection_size or self._hidden_size
        inside = self._input_size
        with stack.name_scope():
            for i in range(self._num_layers):
                made = [
                    self._cell(prefix=f"{side}{i}_", input_size=inside)
                    for side in "lr"[: self._dir]
                ]
                stack.add(BidirectionalCell(*made) if self._dir == 2 else made[0])
                if self._dropout and i < self._num_layers - 1:
                    stack.add(DropoutCell(self._dropout))
                inside = out * self._dir
        return stack


class RNN(_RNNLayer):
    """Elman's recurrent network.

    Parameters
    ----------
    hidden_size, num_layers, layout, dropout, bidirectional, input_size
        See the other layers: widths, depth, ``'TNC'`` or ``'NTC'``, dropout between layers,
        both directions.
    activation : {'relu', 'tanh'}
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        activation: str = "relu",
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        if activation not in ("relu", "tanh"):
            raise ConfigError(f"RNN: activation={activation!r}; known: relu, tanh")
        self._activation = activation
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "rnn_" + activation,
            dtype=dtype,
            **kwargs,
        )

    def _alias(self) -> str:
        return "rnn"

    def _cell(self, **kwargs: Any) -> Any:
        return RNNCell(self._hidden_size, activation=self._activation, **kwargs)


class LSTM(_RNNLayer):
    """Long short-term memory; states h and c.

    Parameters
    ----------
    hidden_size, num_layers, layout, dropout, bidirectional, input_size
        Widths, depth, ``'TNC'`` or ``'NTC'``, dropout between layers, both directions.
    projection_size : int, optional
        Width that h is projected to (Sak et al., 2014).
    state_clip_min, state_clip_max : float, optional
        Bounds of c after each step.
    state_clip_nan : bool
        Accepted: NaN stays NaN.
    """

    _gates = 4
    _states = 2

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        projection_size: int | None = None,
        h2r_weight_initializer: Any = None,
        state_clip_min: float | None = None,
        state_clip_max: float | None = None,
        state_clip_nan: bool = False,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        clip = {
            "lstm_state_clip_min": state_clip_min,
            "lstm_state_clip_max": state_clip_max,
            "lstm_state_clip_nan": state_clip_nan,
        }
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "lstm",
            projection_size,
            h2r_weight_initializer,
            dtype,
            clip,
            **kwargs,
        )

    def _alias(self) -> str:
        return "lstm"

    def _cell(self, **kwargs: Any) -> Any:
        if self._projection_size:
            return LSTMPCell(self._hidden_size, self._projection_size, **kwargs)
        return LSTMCell(self._hidden_size, **kwargs)


class GRU(_RNNLayer):
    """Gated recurrent unit, the reset gate after the map of the state.

    Parameters
    ----------
    hidden_size, num_layers, layout, dropout, bidirectional, input_size
        Widths, depth, ``'TNC'`` or ``'NTC'``, dropout between layers, both directions.
    """

    _gates = 3

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "gru",
            dtype=dtype,
            **kwargs,
        )

    def _alias(self) -> str:
        return "gru"

    def _cell(self, **kwargs: Any) -> Any:
        return GRUCell(self._hidden_size, **kwargs)
