# SPDX-License-Identifier: Apache-2.0
"""Recurrent cells: one step of a recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError
from kvtrain.gluon.block import Block, HybridBlock
from kvtrain.gluon.rnn import sequence
from kvtrain.ndarray import NDArray

MODIFIED = (
    "After applying modifier cells (e.g. ZoneoutCell) the base cell cannot be called directly. "
    "Call the modifier cell instead."
)


class RecurrentCell(Block):
    """Base of recurrent cells: ``output, new_states = cell(inputs, states)``.

    A cell of one's own defines :meth:`state_info` and ``forward``.
    """

    def __init__(self, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        #: a modifier cell holds this one
        self._modified = False
        self.reset()

    def reset(self) -> None:
        """Forget what belongs to the last sequence; call it before a new one."""
        self._init_counter = -1
        self._counter = -1
        for cell in self._children.values():
            if isinstance(cell, RecurrentCell):
                cell.reset()

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Shape and layout of each state."""
        raise NotImplementedError(f"{type(self).__name__} must define state_info")

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., NDArray] | None = None, **kwargs: Any
    ) -> list[NDArray]:
        """First states, zeros by default.

        Parameters
        ----------
        batch_size : int
        func : callable, optional
            ``func(shape=..., **kwargs)`` makes each; default ``nd.zeros``.
        kwargs
            Passed to `func`, as ``ctx`` and ``dtype``.
        """
        if self._modified:
            raise ConfigError(MODIFIED)
        make = nd.zeros if func is None else func
        states = []
        for info in self.state_info(batch_size):
            self._init_counter += 1
            wanted = {k: v for k, v in (info or {}).items() if k != "__layout__"} | kwargs
            states.append(make(**wanted))
        return states

    def _first(self, begin_state: Any, inputs: Any, layout: str) -> list[NDArray]:
        if begin_state is not None:
            return [begin_state] if isinstance(begin_state, NDArray) else list(begin_state)
        batch, array = sequence.batch_of(inputs, layout)
        return self.begin_state(batch, ctx=array.context, dtype=array.dtype)

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """Run over a whole sequence.

        Parameters
        ----------
        length : int
            Number of steps.
        inputs : NDArray or list of NDArray
            One array in `layout`, or one (n, c) per step.
        begin_state : list of NDArray, optional
            Zeros by default.
        layout : {'NTC', 'TNC'}
            Of merged inputs and outputs.
        merge_outputs : bool, optional
            One array in return, or a list; None: what is at hand.
        valid_length : NDArray (n,), optional
            Length of each sample: outputs after it are 0, states are those at it.

        Returns
        -------
        tuple
            Outputs, and the states after the last step.
        """
        self.reset()
        states = self._first(begin_state, inputs, layout)
        steps = sequence.split_steps(length, inputs, layout)
        outputs, all_states = [], []
        for step in steps:
            output, states = self(step, states)
            outputs.append(output)
            if valid_length is not None:
                all_states.append(states)
        if valid_length is None:
            return sequence.format_outputs(outputs, length, layout, merge_outputs), states
        states = sequence.last_states(all_states, valid_length)
        return sequence.mask(outputs, valid_length, length, layout, merge_outputs), states

    def _get_activation(self, F: Any, inputs: Any, activation: Any, **kwargs: Any) -> Any:
        """An activation by its name, or by a block or function."""
        if activation == "tanh":
            return F.tanh(inputs)
        if activation == "relu":
            return F.relu(inputs)
        if activation == "sigmoid":
            return F.sigmoid(inputs)
        if activation == "softsign":
            return F.softsign(inputs)
        if isinstance(activation, str):
            return F.Activation(inputs, act_type=activation, **kwargs)
        return activation(inputs, **kwargs)


class HybridRecurrentCell(RecurrentCell, HybridBlock):
    """Base of recurrent cells that define ``hybrid_forward(F, inputs, states, ...)``."""

    i2h_weight: Any
    h2r_weight: Any

    def _make(self, given: Iterable[tuple[str, tuple[int, ...], Any]]) -> None:
        """Parameters from names, shapes and initializers, as attributes."""
        for name, shape, init in given:
            parameter = self.params.get(name, shape=shape, init=init, allow_deferred_init=True)
            setattr(self, name, parameter)

    def forward(self, x: Any, *args: Any) -> Any:
        """One step: inputs and states to output and new states."""
        self._counter += 1
        if args and isinstance(args[0], list | tuple) and len(args[0]) != len(self.state_info()):
            raise ConfigError(
                f"{type(self).__name__}: {len(args[0])} states given, "
                f"{len(self.state_info())} are needed"
            )
        return HybridBlock.forward(self, x, *args)


class _GatedCell(HybridRecurrentCell):
    """Cells with dense maps of the input (i2h) and the state (h2h)."""

    #: how many times the width of the state the maps give
    _gates = 1
    _states = 1

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: Any,
        h2h_weight_initializer: Any,
        i2h_bias_initializer: Any,
        h2h_bias_initializer: Any,
        input_size: int,
        prefix: str | None,
        params: Any,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._hidden_size = hidden_size
        self._input_size = input_size
        width = self._gates * hidden_size
        given = (
            ("i2h_weight", (width, input_size), i2h_weight_initializer),
            ("h2h_weight", (width, hidden_size), h2h_weight_initializer),
            ("i2h_bias", (width,), i2h_bias_initializer),
            ("h2h_bias", (width,), h2h_bias_initializer),
        )
        self._make(given)

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """(batch, hidden) for each state."""
        info = {"shape": (batch_size, self._hidden_size), "__layout__": "NC"}
        return [dict(info) for _ in range(self._states)]

    def infer_shape(self, x: NDArray, *args: Any) -> None:
        """Input width from the data."""
        self.i2h_weight.shape = (self._gates * self._hidden_size, x.shape[-1])

    def _maps(self, F: Any, inputs: Any, state: Any, p: dict[str, Any]) -> tuple[Any, Any]:
        width = self._gates * self._hidden_size
        return (
            F.FullyConnected(inputs, p["i2h_weight"], p["i2h_bias"], num_hidden=width),
            F.FullyConnected(state, p["h2h_weight"], p["h2h_bias"], num_hidden=width),
        )

    def __repr__(self) -> str:
        shape = self.i2h_weight.shape
        return f"{type(self).__name__}({shape[1] or None} -> {shape[0]})"


class RNNCell(_GatedCell):
    """``h' = activation(W x + b + U h + c)`` (Elman, 1990).

    Parameters
    ----------
    hidden_size : int
        Width of the state.
    activation : str or Block
    input_size : int
        Width of the input; 0: told by the first batch.
    """

    def __init__(
        self,
        hidden_size: int,
        activation: Any = "tanh",
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )
        self._activation = activation

    def _alias(self) -> str:
        return "rnn"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h']."""
        i2h, h2h = self._maps(F, inputs, states[0], p)
        output = self._get_activation(F, i2h + h2h, self._activation)
        return output, [output]

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self._activation})"


class LSTMCell(_GatedCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); states h and c.

    Gates in the order in, forget, candidate, out.

    Parameters
    ----------
    hidden_size : int
        Width of the states.
    input_size : int
        Width of the input; 0: told by the first batch.
    activation, recurrent_activation : str or Block
        Of candidate and output, and of the gates.
    """

    _gates = 4
    _states = 2

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
    ) -> None:
        super().__init__(
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )
        self._activation = activation
        self._recurrent_activation = recurrent_activation

    def _alias(self) -> str:
        return "lstm"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h', c']."""
        i2h, h2h = self._maps(F, inputs, states[0], p)
        into, forget, candidate, out = F.split(i2h + h2h, num_outputs=4, axis=1)

        def gate(x: Any) -> Any:
            return self._get_activation(F, x, self._recurrent_activation)

        def squash(x: Any) -> Any:
            return self._get_activation(F, x, self._activation)

        next_c = gate(forget) * states[1] + gate(into) * squash(candidate)
        next_h = gate(out) * squash(next_c)
        return next_h, [next_h, next_c]


class GRUCell(_GatedCell):
    """Gated recurrent unit (Cho et al., 2014), the reset gate after the map of the state.

    Gates in the order reset, update, candidate.

    Parameters
    ----------
    hidden_size : int
        Width of the state.
    input_size : int
        Width of the input; 0: told by the first batch.
    """

    _gates = 3

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )

    def _alias(self) -> str:
        return "gru"

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **p: Any) -> Any:
        """Output and [h']."""
        held = states[0]
        i2h, h2h = self._maps(F, inputs, held, p)
        i_reset, i_update, i_new = F.split(i2h, num_outputs=3, axis=1)
        h_reset, h_update, h_new = F.split(h2h, num_outputs=3, axis=1)
        reset = F.sigmoid(i_reset + h_reset)
        update = F.sigmoid(i_update + h_update)
        candidate = F.tanh(i_new + reset * h_new)
        output = (1.0 - update) * candidate + update * held
        return output, [output]
