# SPDX-License-Identifier: Apache-2.0
"""Cells that change what another cell does: dropout, zoneout, residual connections."""

from __future__ import annotations

from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.gluon.parameter import ParameterDict
from kvtrain.gluon.rnn import sequence
from kvtrain.gluon.rnn.cell import HybridRecurrentCell, RecurrentCell
from kvtrain.gluon.rnn.container import BidirectionalCell, SequentialRNNCell
from kvtrain.ndarray import NDArray


class DropoutCell(HybridRecurrentCell):
    """Dropout as a cell without states.

    Parameters
    ----------
    rate : float
        Probability of 0.
    axes : tuple of int
        Dimensions that share a mask.
    """

    def __init__(
        self, rate: float, axes: Any = (), prefix: str | None = None, params: Any = None
    ) -> None:
        super().__init__(prefix, params)
        if not isinstance(rate, int | float):
            raise ConfigError(f"DropoutCell: rate={rate!r} must be a number")
        self._rate = rate
        self._axes = axes

    def _alias(self) -> str:
        return "dropout"

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """None."""
        return []

    def hybrid_forward(self, F: Any, inputs: Any, states: Any) -> Any:
        """Dropped inputs, and the states as they are."""
        if self._rate > 0:
            inputs = F.Dropout(inputs, p=self._rate, axes=self._axes)
        return inputs, states

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """See :meth:`RecurrentCell.unroll`; merged inputs are dropped in one go."""
        self.reset()
        if not isinstance(inputs, NDArray):
            outputs, states = super().unroll(length, inputs, begin_state, layout, None, None)
        else:
            states = self._first(begin_state, inputs, layout)
            outputs, states = self(inputs, states)
        return sequence.format_outputs(outputs, length, layout, merge_outputs), states

    def __repr__(self) -> str:
        return f"DropoutCell(rate={self._rate}, axes={self._axes})"


class ModifierCell(HybridRecurrentCell):
    """Base of cells that hold another; its parameters stay the other's.

    Parameters
    ----------
    base_cell : RecurrentCell
    """

    def __init__(self, base_cell: Any) -> None:
        if not isinstance(base_cell, RecurrentCell):
            raise TypeError(
                f"{type(self).__name__}: {type(base_cell).__name__} is no recurrent cell"
            )
        if base_cell._modified:
            raise ConfigError(
                f"Cell {base_cell.name} is already modified. One cell cannot be modified twice"
            )
        base_cell._modified = True
        super().__init__(prefix=base_cell.prefix + self._alias(), params=None)
        self.base_cell = base_cell

    @property
    def params(self) -> ParameterDict:
        """The base cell's."""
        return self.base_cell.params

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """The base cell's."""
        return self.base_cell.state_info(batch_size)

    def begin_state(self, batch_size: int = 0, func: Any = None, **kwargs: Any) -> list[NDArray]:
        """The base cell's."""
        if self._modified:
            return super().begin_state(batch_size, func, **kwargs)
        self.base_cell._modified = False
        try:
            return self.base_cell.begin_state(batch_size, func, **kwargs)
        finally:
            self.base_cell._modified = True

    def _unroll_base(self, *args: Any) -> tuple[Any, list[NDArray]]:
        self.base_cell._modified = False
        try:
            return self.base_cell.unroll(*args)
        finally:
            self.base_cell._modified = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_cell!r})"


class ZoneoutCell(ModifierCell):
    """Outputs and states keep their old value with a probability (Krueger et al., 2016).

    Parameters
    ----------
    base_cell : RecurrentCell
    zoneout_outputs, zoneout_states : float
        Probability of the old value in training.
    """

    def __init__(
        self, base_cell: Any, zoneout_outputs: float = 0.0, zoneout_states: float = 0.0
    ) -> None:
        if isinstance(base_cell, BidirectionalCell):
            raise ConfigError(
                "BidirectionalCell doesn't support zoneout since it doesn't support step. "
                "Please add ZoneoutCell to the cells underneath instead."
            )
        if isinstance(base_cell, SequentialRNNCell) and any(
            isinstance(cell, BidirectionalCell) for cell in base_cell._cells()
        ):
            raise ConfigError("ZoneoutCell: a BidirectionalCell inside cannot be stepped")
        self.zoneout_outputs = zoneout_outputs
        self.zoneout_states = zoneout_states
        super().__init__(base_cell)

    def _alias(self) -> str:
        return "zoneout"

    def reset(self) -> None:
        """Forget the last output too."""
        super().reset()
        self._prev_output: Any = None

    def hybrid_forward(self, F: Any, inputs: Any, states: Any) -> Any:
        """Output and states, some of them the old ones."""

        def mixed(rate: float, new: Any, old: Any) -> Any:
            return F.where(F.Dropout(F.ones_like(new), p=rate), new, old)

        output, after = self.base_cell(inputs, states)
        held = F.zeros_like(output) if self._prev_output is None else self._prev_output
        if self.zoneout_outputs:
            output = mixed(self.zoneout_outputs, output, held)
        if self.zoneout_states:
            after = [
                mixed(self.zoneout_states, new, old) for new, old in zip(after, states, strict=True)
            ]
        self._prev_output = output
        return output, after

    def __repr__(self) -> str:
        return (
            f"ZoneoutCell(p_out={self.zoneout_outputs}, p_state={self.zoneout_states}, "
            f"{self.base_cell!r})"
        )


class ResidualCell(ModifierCell):
    """The cell's output plus its input (Wu et al., 2016)."""

    def hybrid_forward(self, F: Any, inputs: Any, states: Any) -> Any:
        """Sum, and the states."""
        output, states = self.base_cell(inputs, states)
        return output + inputs, states

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """See :meth:`RecurrentCell.unroll`."""
        self.reset()
        outputs, states = self._unroll_base(
            length, inputs, begin_state, layout, merge_outputs, valid_length
        )
        merged = isinstance(outputs, NDArray)
        given: Any = sequence.format_outputs(inputs, length, layout, merged)
        if valid_length is not None:
            given = sequence.mask(given, valid_length, length, layout, merged)
        if merged:
            return outputs + given, states
        return [a + b for a, b in zip(outputs, given, strict=True)], states
