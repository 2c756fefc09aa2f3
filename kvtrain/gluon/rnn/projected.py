# SPDX-License-Identifier: Apache-2.0
"""LSTM whose output is projected to another width."""

from __future__ import annotations

from typing import Any

from kvtrain.gluon.rnn.cell import HybridRecurrentCell
from kvtrain.ndarray import NDArray


class LSTMPCell(HybridRecurrentCell):
    """LSTM with a projection of h (Sak et al., 2014); states r = P h, and c.

    Parameters
    ----------
    hidden_size : int
        Width of c.
    projection_size : int
        Width of r, the output.
    input_size : int
        Width of the input; 0: told by the first batch.
    """

    def __init__(
        self,
        hidden_size: int,
        projection_size: int,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        h2r_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._hidden_size = hidden_size
        self._projection_size = projection_size
        self._input_size = input_size
        wide = 4 * hidden_size
        given = (
            ("i2h_weight", (wide, input_size), i2h_weight_initializer),
            ("h2h_weight", (wide, projection_size), h2h_weight_initializer),
            ("h2r_weight", (projection_size, hidden_size), h2r_weight_initializer),
            ("i2h_bias", (wide,), i2h_bias_initializer),
            ("h2h_bias", (wide,), h2h_bias_initializer),
        )
        self._make(given)

    def _alias(self) -> str:
        return "lstmp"

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """(batch, projection) and (batch, hidden)."""
        return [
            {"shape": (batch_size, self._projection_size), "__layout__": "NC"},
            {"shape": (batch_size, self._hidden_size), "__layout__": "NC"},
        ]

    def infer_shape(self, x: NDArray, *args: Any) -> None:
        """Input width from the data."""
        self.i2h_weight.shape = (4 * self._hidden_size, x.shape[-1])

    def hybrid_forward(
        self,
        F: Any,
        inputs: Any,
        states: Any,
        i2h_weight: Any,
        h2h_weight: Any,
        h2r_weight: Any,
        i2h_bias: Any,
        h2h_bias: Any,
    ) -> Any:
        """Output and [r', c']."""
        wide = 4 * self._hidden_size
        gates = F.FullyConnected(inputs, i2h_weight, i2h_bias, num_hidden=wide)
        gates = gates + F.FullyConnected(states[0], h2h_weight, h2h_bias, num_hidden=wide)
        into, forget, candidate, out = F.split(gates, num_outputs=4, axis=1)
        next_c = F.sigmoid(forget) * states[1] + F.sigmoid(into) * F.tanh(candidate)
        hidden = F.sigmoid(out) * F.tanh(next_c)
        output = F.FullyConnected(
            hidden, h2r_weight, num_hidden=self._projection_size, no_bias=True
        )
        return output, [output, next_c]

    def __repr__(self) -> str:
        shape = self.i2h_weight.shape or (0, 0)
        projected = (self.h2r_weight.shape or (0,))[0]
        return f"LSTMPCell({shape[1] or None} -> {shape[0]} -> {projected})"
