# SPDX-License-Identifier: Apache-2.0
"""Runs an optimizer on (index, gradient, weight) and keeps the states; saves them safely."""

from __future__ import annotations

import itertools
import json
import struct
from typing import Any

from kvtrain.errors import FormatError
from kvtrain.ndarray import NDArray
from kvtrain.ndarray.serialization import dumps, load_frombuffer
from kvtrain.optimizer import bridge
from kvtrain.optimizer.base import Optimizer

_MAGIC = b"KVTSTATE"


class Updater:
    """``updater(index, grad, weight)``: the optimizer's update with states kept by index."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.states: dict[Any, Any] = {}

    def __call__(self, index: Any, grad: Any, weight: Any) -> None:
        """Update `weight` in place; lists of all three are taken too."""
        if not isinstance(index, list | tuple):
            index, grad, weight = [index], [grad], [weight]
        if weight:
            self.optimizer._set_current_context(weight[0].context.device_id)
        for i, g, w in zip(index, grad, weight, strict=True):
            if i not in self.states:
                self.states[i] = self.optimizer.create_state_multi_precision(i, w)
            self.optimizer.update_multi_precision(i, w, g, self.states[i])

    def rename(self, names: dict[Any, Any]) -> None:
        """Give the states and counts of some indices other indices."""
        self.states = {names.get(index, index): state for index, state in self.states.items()}
        for counts in self.optimizer._all_index_update_counts.values():
            renamed = {names.get(index, index): count for index, count in counts.items()}
            counts.clear()
            counts.update(renamed)

    def sync_state_context(self, state: Any, context: Any) -> Any:
        """A state with its arrays in `context`."""
        arrays = [array.as_in_context(context) for array in bridge.flat(state)]
        return bridge.rebuild(bridge.nesting_of(state), iter(arrays))

    def get_states(self, dump_optimizer: bool = False) -> bytes:
        """States (and the optimizer's config and counters) as bytes; never a pickle."""
        arrays: dict[str, NDArray] = {}
        layout = []
        for index, state in self.states.items():
            layout.append([index, bridge.to_plain(bridge.nesting_of(state))])
            for n, part in enumerate(bridge.flat(state)):
                arrays[f"{len(layout) - 1}/{n}"] = part
        head: dict[str, Any] = {"layout": layout}
        if dump_optimizer:
            head["optimizer"] = self.optimizer.to_config()
        head["num_update"] = self.optimizer.num_update
        counts = self.optimizer._all_index_update_counts
        head["counts"] = [[device, list(held.items())] for device, held in counts.items()]
        text = json.dumps(head).encode()
        return _MAGIC + struct.pack("<Q", len(text)) + text + dumps(arrays)

    def set_states(self, states: bytes) -> None:
        """Take over what :meth:`get_states` gave.

        Raises
        ------
        FormatError
            The bytes are something else, or damaged.
        """
        try:
            if not states.startswith(_MAGIC):
                raise FormatError("optimizer states: the file was not written by save_states")
            (size,) = struct.unpack_from("<Q", states, len(_MAGIC))
            start = len(_MAGIC) + 8
            head = json.loads(states[start : start + size])
            arrays = load_frombuffer(states[start + size :], "optimizer states") or {}
            found: dict[Any, Any] = {}
            for place, (index, plain) in enumerate(head["layout"]):
                parts = (arrays[f"{place}/{n}"] for n in itertools.count())
                found[index] = bridge.rebuild(bridge.from_plain(plain), parts)
            counts = {d: {k: n for k, n in items} for d, items in head["counts"]}
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"optimizer states: damaged ({error})") from None
        if "optimizer" in head:
            held = self.optimizer.param_dict
            self.optimizer = Optimizer.from_config(*head["optimizer"])
            self.optimizer.param_dict = held
        self.states = found
        self.optimizer.num_update = head["num_update"]
        self.optimizer._all_index_update_counts = counts
        self.optimizer._set_current_context(0)


def get_updater(optimizer: Optimizer) -> Updater:
    """An :class:`Updater` of `optimizer`."""
    return Updater(optimizer)
