# SPDX-License-Identifier: Apache-2.0
"""Functions with a gradient written by the user."""

from __future__ import annotations

from typing import Any

from kvtrain.autograd.api import pause
from kvtrain.autograd.tape import Node, state
from kvtrain.errors import AutogradError
from kvtrain.ndarray.array import NDArray
from kvtrain.ops.registry import Op


class Function:
    """Subclass it and write ``forward`` and ``backward`` on NDArrays; call an instance.

    Examples
    --------
    >>> class Sigmoid(Function):
    ...     def forward(self, x):
    ...         y = 1 / (1 + nd.exp(-x))
    ...         self.save_for_backward(y)
    ...         return y
    ...     def backward(self, dy):
    ...         (y,) = self.saved_tensors
    ...         return dy * y * (1 - y)
    """

    # of the class, so that a subclass need not call __init__
    _saved: tuple[NDArray, ...] = ()
    _used = False

    @property
    def saved_tensors(self) -> tuple[NDArray, ...]:
        """What forward saved."""
        return self._saved

    def save_for_backward(self, *args: NDArray) -> None:
        """Keep arrays for backward."""
        self._saved = args

    def forward(self, *inputs: NDArray) -> Any:
        """Outputs from inputs; not recorded."""
        raise NotImplementedError

    def backward(self, *output_grads: NDArray) -> Any:
        """Gradients of the inputs from those of the outputs."""
        raise NotImplementedError

    def __call__(self, *inputs: NDArray) -> Any:
        """Run forward; recorded as one step whose gradient is backward.

        Raises
        ------
        AutogradError
            This instance was called before: what it saved belongs to that call.
        """
        if self._used:
            raise AutogradError(
                f"{type(self).__name__}: each Function instance can only be called once; create "
                "another instance"
            )
        self._used = True
        with pause():
            outputs = self.forward(*inputs)
        many = isinstance(outputs, list | tuple)
        given = tuple(outputs) if many else (outputs,)
        if not state.recording or all(a._entry is None for a in inputs):
            return outputs
        op = Op(type(self).__name__, self.forward, self._vjp(inputs), (), {}, public=False)
        raws = tuple(o._read() for o in given)
        node = Node(
            op,
            tuple(a._entry for a in inputs),
            [a._read() for a in inputs],
            raws if many else raws[0],
            {},
        )
        results = []
        for slot, output in enumerate(given):
            result = output.detach()
            result._entry = (node, slot)
            results.append(result)
        return results if many else results[0]

    def _vjp(self, inputs: tuple[NDArray, ...]) -> Any:
        ctx = inputs[0]._ctx

        def vjp(xp: Any, g: Any, out: Any, *arrays: Any) -> tuple[Any, ...]:
            grads = g if isinstance(g, tuple) else (g,)
            lifted = [a if isinstance(a, NDArray) else NDArray(a, ctx) for a in grads]
            found = self.backward(*lifted)
            found = tuple(found) if isinstance(found, list | tuple) else (found,)
            if len(found) != len(inputs):
                raise AutogradError(
                    f"{type(self).__name__}.backward returned {len(found)} gradients "
                    f"for {len(inputs)} inputs"
                )
            for i, (grad, given) in enumerate(zip(found, inputs, strict=True)):
                if grad is not None and grad.shape != given.shape:
                    raise AutogradError(
                        f"{type(self).__name__}.backward: gradient {i} has shape {grad.shape}, "
                        f"input {i} has {given.shape}"
                    )
            if any(isinstance(a, NDArray) for a in grads):
                return found
            return tuple(None if f is None else f._read() for f in found)

        return vjp
