# SPDX-License-Identifier: Apache-2.0
"""Cells made of cells: one on top of another, and two in opposite directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError
from kvtrain.gluon.rnn import sequence
from kvtrain.gluon.rnn.cell import MODIFIED, HybridRecurrentCell, RecurrentCell
from kvtrain.ndarray import NDArray


class _Stacked(RecurrentCell):
    """What both sequential cells share."""

    def add(self, cell: Any) -> None:
        """Put `cell` on top."""
        self.register_child(cell)

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """States of all cells, the lowest one's first."""
        return [info for cell in self._cells() for info in cell.state_info(batch_size)]

    def begin_state(self, batch_size: int = 0, func: Any = None, **kwargs: Any) -> list[NDArray]:
        """First states of all cells."""
        if self._modified:
            raise ConfigError(MODIFIED)
        return [s for cell in self._cells() for s in cell.begin_state(batch_size, func, **kwargs)]

    def _cells(self) -> list[Any]:
        return list(self._children.values())

    def _parts(self, states: list[NDArray]) -> Iterator[tuple[Any, list[NDArray]]]:
        at = 0
        for cell in self._cells():
            count = len(cell.state_info())
            yield cell, states[at : at + count]
            at += count

    def forward(self, x: Any, *args: Any) -> Any:
        """One step through all cells."""
        self._counter += 1
        states = list(args[0]) if args else []
        new: list[NDArray] = []
        for cell, held in self._parts(states):
            if isinstance(cell, BidirectionalCell):
                raise NotImplementedError("Bidirectional cannot be stepped. Please use unroll")
            x, after = cell(x, held)
            new += after
        return x, new

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """See :meth:`RecurrentCell.unroll`; each cell runs over the whole sequence."""
        self.reset()
        states = self._first(begin_state, inputs, layout)
        new: list[NDArray] = []
        last = len(self._children) - 1
        for i, (cell, held) in enumerate(self._parts(states)):
            inputs, after = cell.unroll(
                length,
                inputs,
                held,
                layout,
                merge_outputs if i == last else None,
                valid_length,
            )
            new += after
        return inputs, new

    def __repr__(self) -> str:
        lines = "\n".join(f"({key}): {child!r}" for key, child in self._children.items())
        return f"{type(self).__name__}(\n{lines}\n)"

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, i: int) -> Any:
        return self._cells()[i]


class SequentialRNNCell(_Stacked):
    """Cells on top of each other."""


class HybridSequentialRNNCell(_Stacked, HybridRecurrentCell):
    """Hybrid cells on top of each other."""


class BidirectionalCell(HybridRecurrentCell):
    """Two cells, one forwards and one backwards in time, outputs joined; only to be unrolled.

    Parameters
    ----------
    l_cell, r_cell : RecurrentCell
        Forwards and backwards.
    """

    def __init__(self, l_cell: Any, r_cell: Any, output_prefix: str = "bi_") -> None:
        super().__init__(prefix="", params=None)
        self.register_child(l_cell, "l_cell")
        self.register_child(r_cell, "r_cell")
        self._output_prefix = output_prefix

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Cannot be stepped."""
        raise NotImplementedError("Bidirectional cannot be stepped. Please use unroll")

    def __repr__(self) -> str:
        forward, backward = self._children.values()
        return f"BidirectionalCell(forward={forward!r}, backward={backward!r})"

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """States of both cells."""
        return [i for cell in self._children.values() for i in cell.state_info(batch_size)]  # type: ignore[attr-defined]

    def begin_state(self, batch_size: int = 0, func: Any = None, **kwargs: Any) -> list[NDArray]:
        """First states of both cells."""
        if self._modified:
            raise ConfigError(MODIFIED)
        cells: Any = self._children.values()
        return [s for cell in cells for s in cell.begin_state(batch_size, func, **kwargs)]

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: NDArray | None = None,
    ) -> tuple[Any, list[NDArray]]:
        """See :meth:`RecurrentCell.unroll`; outputs are twice as wide."""
        self.reset()
        states = self._first(begin_state, inputs, layout)
        steps = sequence.split_steps(length, inputs, layout)
        left, right = self._children.values()
        count = len(left.state_info())  # type: ignore[attr-defined]
        ahead, left_states = left.unroll(  # type: ignore[attr-defined]
            length, steps, states[:count], layout, False, valid_length
        )
        back, right_states = right.unroll(  # type: ignore[attr-defined]
            length,
            sequence.reverse(steps, valid_length),
            states[count:],
            layout,
            False,
            valid_length,
        )
        back = sequence.reverse(back, valid_length)
        outputs: Any = [
            nd.concatenate([a, b], axis=a.ndim - 1) for a, b in zip(ahead, back, strict=True)
        ]
        if valid_length is not None:
            outputs = sequence.mask(outputs, valid_length, length, layout, merge_outputs)
        else:
            outputs = sequence.format_outputs(outputs, length, layout, merge_outputs)
        return outputs, left_states + right_states
