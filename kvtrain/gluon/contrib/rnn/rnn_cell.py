# SPDX-License-Identifier: Apache-2.0
"""Variational dropout, and a loop over steps."""

from __future__ import annotations

from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError
from kvtrain.gluon.rnn import sequence
from kvtrain.gluon.rnn.container import BidirectionalCell
from kvtrain.gluon.rnn.modifier import ModifierCell
from kvtrain.ndarray import NDArray

F: Any = nd


class VariationalDropoutCell(ModifierCell):
    """Dropout with one mask for all steps of a sequence (Gal and Ghahramani, 2016).

    Parameters
    ----------
    base_cell : RecurrentCell
    drop_inputs, drop_states, drop_outputs : float
        Probabilities of 0; of the states only the first (h) is dropped.
    """

    def __init__(
        self,
        base_cell: Any,
        drop_inputs: float = 0.0,
        drop_states: float = 0.0,
        drop_outputs: float = 0.0,
    ) -> None:
        if drop_states and isinstance(base_cell, BidirectionalCell):
            raise ConfigError(
                "BidirectionalCell doesn't support variational state dropout. Please add "
                "VariationalDropoutCell to the cells underneath instead."
            )
        self.drop_inputs = drop_inputs
        self.drop_states = drop_states
        self.drop_outputs = drop_outputs
        super().__init__(base_cell)

    def _alias(self) -> str:
        return "vardrop"

    def reset(self) -> None:
        """Forget the masks too."""
        super().reset()
        self._masks: dict[str, Any] = {}

    def _mask(self, F: Any, what: str, like: Any, rate: float) -> Any:
        if what not in self._masks:
            self._masks[what] = F.Dropout(F.ones_like(like), p=rate)
        return self._masks[what]

    def hybrid_forward(self, F: Any, inputs: Any, states: Any) -> Any:
        """One step of the base cell between masks."""
        if self.drop_states:
            states = list(states)
            states[0] = states[0] * self._mask(F, "states", states[0], self.drop_states)
        if self.drop_inputs:
            inputs = inputs * self._mask(F, "inputs", inputs, self.drop_inputs)
        output, states = self.base_cell(inputs, states)
        if self.drop_outputs:
            output = output * self._mask(F, "outputs", output, self.drop_outputs)
        return output, states

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """See :meth:`RecurrentCell.unroll`; without dropout of states in one go."""
        if self.drop_states:
            return super().unroll(length, inputs, begin_state, layout, merge_outputs, valid_length)
        self.reset()
        axis = sequence.time_axis(layout)
        merged = sequence.merge_steps(inputs, layout)
        states = self._first(begin_state, merged, layout)
        if self.drop_inputs:
            merged = F.Dropout(merged, p=self.drop_inputs, axes=(axis,))
        outputs, states = self._unroll_base(length, merged, states, layout, True, valid_length)
        if self.drop_outputs:
            outputs = F.Dropout(outputs, p=self.drop_outputs, axes=(axis,))
        if valid_length is not None:
            outputs = sequence.mask(outputs, valid_length, length, layout, merge_outputs)
        else:
            outputs = sequence.format_outputs(outputs, length, layout, merge_outputs)
        return outputs, states

    def __repr__(self) -> str:
        return f"VariationalDropoutCell(p_out = {self.drop_outputs}, p_state = {self.drop_states})"


def dynamic_unroll(
    cell: Any,
    inputs: NDArray,
    begin_state: Any,
    drop_inputs: float = 0,
    drop_outputs: float = 0,
    layout: str = "TNC",
    valid_length: NDArray | None = None,
) -> tuple[NDArray, list[NDArray]]:
    """Run `cell` over all steps of `inputs`.

    Parameters
    ----------
    cell : RecurrentCell
    inputs : NDArray
        In `layout`, 'TNC' or 'NTC'.
    begin_state : list of NDArray
    drop_inputs, drop_outputs : float
        Dropout with one mask for all steps.
    valid_length : NDArray (n,), optional
        Length of each sample: outputs after it are 0, states are those at it.

    Returns
    -------
    tuple
        Merged outputs, and states after the last step.
    """
    axis = sequence.time_axis(layout)
    if drop_inputs:
        inputs = F.Dropout(inputs, p=drop_inputs, axes=(axis,))
    length = inputs.shape[axis]
    outputs, states = cell.unroll(length, inputs, begin_state, layout, True, valid_length)
    if drop_outputs:
        outputs = F.Dropout(outputs, p=drop_outputs, axes=(axis,))
    return outputs, states
