# SPDX-License-Identifier: Apache-2.0
"""The tape: which operator made which array, and the walk back over it.

Works on whatever arrays it is given. Nodes are numbered as they are made, so walking the ones
that a head depends on in falling order is a topological order, found without recursion.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kvtrain.errors import AutogradError
from kvtrain.kernels.stored import dense
from kvtrain.ops.registry import Op


class State(threading.local):
    """Flags of this thread."""

    recording: bool = False
    training: bool = False


state = State()
_order = itertools.count()


class Leaf:
    """A variable: where gradients end. `array` is opaque here."""

    __slots__ = ("array", "ready", "req")

    def __init__(self, array: Any, req: str) -> None:
        self.array = array
        self.req = req
        #: called with the number of elements of the heads when a backward that keeps no graph
        #: has delivered the gradient and has no further use of the variable
        self.ready: Callable[[int], None] | None = None


class Node:
    """One recorded call."""

    __slots__ = ("attrs", "inputs", "op", "order", "out", "parents")

    def __init__(
        self, op: Op, parents: tuple[Entry, ...], inputs: Sequence[Any], out: Any, attrs: Any
    ) -> None:
        self.op: Op | None = op
        self.parents = parents
        self.inputs: Any = inputs
        self.out: Any = out
        self.attrs = attrs
        self.order = next(_order)

    def free(self) -> None:
        """Drop what was kept for the gradient."""
        self.op = None
        self.parents = ()
        self.inputs = self.out = self.attrs = None


#: where an array came from: a variable, output `slot` of a node, or nowhere
Entry = Leaf | tuple[Node, int] | None


def _reachable(heads: Iterable[Entry]) -> list[Node]:
    """All nodes that `heads` depend on, latest first."""
    stack = [entry[0] for entry in heads if isinstance(entry, tuple)]
    seen = set(stack)
    while stack:
        for entry in stack.pop().parents:
            if isinstance(entry, tuple) and entry[0] not in seen:
                seen.add(entry[0])
                stack.append(entry[0])
    return sorted(seen, key=lambda node: node.order, reverse=True)


class Walk:
    """Gradients gathered on the way back.

    Parameters
    ----------
    xp : namespace
        What vjps compute with.
    lift : callable
        ``lift(raw, entry)`` turns a kept raw array into what `xp` works on; None: as it is.
    """

    def __init__(self, xp: Any, lift: Callable[[Any, Entry], Any] | None = None) -> None:
        self.xp = xp
        self.lift = lift
        #: gradients; None: the heads depend on the variable, but nowhere with a slope
        self.leaves: dict[Leaf, Any] = {}
        self._grads: dict[tuple[Node, int], Any] = {}

    def _add(self, entry: Entry, grad: Any) -> None:
        if isinstance(entry, Leaf):
            held = self.leaves.get(entry)
            self.leaves[entry] = grad if held is None else held + grad
        elif entry is not None:
            grad = dense(grad)  # only variables get sparse gradients
            held = self._grads.get(entry)
            self._grads[entry] = grad if held is None else held + grad

    def run(
        self,
        heads: Sequence[tuple[Entry, Any]],
        wanted: Iterable[Entry] = (),
        retain_graph: bool = False,
        done: Callable[[Leaf, Any], None] | None = None,
    ) -> dict[Any, Any]:
        """Walk back from `heads` (entry, gradient); returns gradients of the `wanted` nodes.

        `done` is given a variable and its gradient as soon as the walk needs neither any more:
        after the last operator that used the variable.
        """
        uses: Counter[Leaf] = Counter()
        kept = {entry for entry in wanted if isinstance(entry, tuple)}
        found: dict[Any, Any] = {}
        nodes = _reachable(entry for entry, _ in heads)
        for node in nodes:
            if node.op is None:
                raise AutogradError(
                    "the graph of this array was freed by an earlier backward(); "
                    "pass retain_graph=True there to use it again"
                )
            for entry in node.parents:
                if isinstance(entry, Leaf):
                    self.leaves[entry] = None
                    uses[entry] += 1
        for entry, grad in heads:
            if isinstance(entry, Leaf):
                uses[entry] += 1  # for its own sake: it is never done early
            self._add(entry, grad)
        for node in nodes:
            grads = []
            for slot in range(len(node.out) if isinstance(node.out, tuple) else 1):
                grads.append(self._grads.pop((node, slot), None))
                if (node, slot) in kept:
                    found[node, slot] = grads[-1]
            if any(g is not None for g in grads):
                self._back(node, grads)
            if done is not None:
                parents = node.parents
                if any([isinstance(entry, Leaf) and entry.ready is not None for entry in parents]):
                    node.free()  # who waits for a variable may want its memory to itself
                for entry in parents:
                    if isinstance(entry, Leaf):
                        uses[entry] -= 1
                        if not uses[entry]:
                            done(entry, self.leaves.pop(entry))
        if not retain_graph:
            for node in nodes:
                node.free()
        return found

    def _back(self, node: Node, grads: list[Any]) -> None:
        op, lift = node.op, self.lift
        assert op is not None
        inputs, out = node.inputs, node.out
        if lift is not None:
            inputs = [lift(raw, entry) for raw, entry in zip(inputs, node.parents, strict=True)]
            if isinstance(out, tuple):
                out = tuple(lift(raw, (node, slot)) for slot, raw in enumerate(out))
            else:
                out = lift(out, (node, 0))
        if isinstance(out, tuple):
            g: Any = tuple(
                self.xp.zeros_like(o) if grad is None else grad
                for grad, o in zip(grads, out, strict=True)
            )
        else:
            g = grads[0]
        if op.vjp is None:
            raise AutogradError(f"the gradient of {op.name.strip('_')} has no gradient of its own")
        for entry, part in zip(
            node.parents, op.vjp(self.xp, g, out, *inputs, **node.attrs), strict=True
        ):
            if entry is None or part is None:
                continue
            self._add(entry, part() if callable(part) else part)
