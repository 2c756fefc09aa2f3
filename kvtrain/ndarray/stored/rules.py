# SPDX-License-Identifier: Apache-2.0
"""Operators on sparse inputs: a rule per operator and combination of storages.

A rule is ``rule(xp, *raws, **attrs)``, raw values dense or stored, and gives the raw result or
NotImplemented: then the inputs are made dense, as MXNet does where it has no sparse kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvtrain.kernels.stored import dense
from kvtrain.ops.registry import Op, find

Forward = Callable[..., Any]
_RULES: dict[Op, tuple[Forward, Op]] = {}


def rule(*names: str, vjp: Callable[..., Any] | None = None) -> Callable[[Forward], Forward]:
    """Register the decorated function as the sparse form of operators.

    Without a `vjp` of its own, the gradient is the operator's on dense copies.
    """

    def add(forward: Forward) -> Forward:
        for name in names:
            op = find(name)
            _RULES[op] = (forward, _recorded(op, vjp))
        return forward

    return add


def _recorded(op: Op, vjp: Callable[..., Any] | None) -> Op:
    """The operator as the tape keeps it for sparse inputs."""
    if vjp is None and op.vjp is not None:
        slope = op.vjp

        def vjp(xp: Any, g: Any, out: Any, *raws: Any, **attrs: Any) -> tuple[Any, ...]:
            return slope(xp, g, dense(out), *(dense(raw) for raw in raws), **attrs)

    return replace(op, vjp=vjp)


def find_rule(op: Op) -> tuple[Forward, Op] | None:
    """The rule of `op`, and the operator to record for it."""
    return _RULES.get(op)
