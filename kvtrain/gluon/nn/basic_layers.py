# SPDX-License-Identifier: Apache-2.0
"""Containers, dense layers, dropout, embedding and small helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.gluon.block import Block, HybridBlock
from kvtrain.gluon.nn.activations import Activation
from kvtrain.ndarray import NDArray


class _Stack:
    """What Sequential and HybridSequential share."""

    _children: Any
    _plain_stack = True

    def add(self, *blocks: Any) -> None:
        """Append blocks."""
        for block in blocks:
            self.register_child(block)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, key: int | slice) -> Any:
        layers = list(self._children.values())[key]
        if not isinstance(layers, list):
            return layers
        net = type(self)(prefix=self._prefix)  # type: ignore[call-arg, attr-defined]
        net.add(*layers)
        return net

    def __iter__(self) -> Iterator[Any]:
        return iter(self._children.values())


class Sequential(_Stack, Block):
    """Blocks one after another."""

    def forward(self, x: Any, *args: Any) -> Any:
        """Each block's output is the next one's input."""
        for block in self._children.values():
            x = block(x, *args)
            args = ()
            if isinstance(x, tuple | list):
                x, args = x[0], tuple(x[1:])
        return (x, *args) if args else x


class HybridSequential(_Stack, HybridBlock):
    """HybridBlocks one after another."""

    def forward(self, x: Any, *args: Any) -> Any:
        """Each block's output is the next one's input."""
        for block in self._children.values():
            x = block(x, *args)
            args = ()
            if isinstance(x, tuple | list):
                x, args = x[0], tuple(x[1:])
        return (x, *args) if args else x


class Dense(HybridBlock):
    """``activation(x . weight^T + bias)``.

    Parameters
    ----------
    units : int
        Width of the output.
    activation : str, optional
    use_bias : bool
    flatten : bool
        Merge all but the first dimension of the input first.
    in_units : int
        Width of the input; 0: told by the first batch.
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        flatten: bool = True,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_units: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._units = units
        self._in_units = in_units
        self._flatten = flatten
        with self.name_scope():
            self.weight = self.params.get(
                "weight",
                shape=(units, in_units),
                init=weight_initializer,
                dtype=dtype,
                allow_deferred_init=True,
            )
            self.bias = (
                self.params.get(
                    "bias",
                    shape=(units,),
                    init=bias_initializer,
                    dtype=dtype,
                    allow_deferred_init=True,
                )
                if use_bias
                else None
            )
            self.act = Activation(activation, prefix=activation + "_") if activation else None

    def infer_shape(self, x: NDArray, *args: NDArray) -> None:
        """Input width from the data."""
        width = int(np.prod(x.shape[1:])) if self._flatten else x.shape[-1]
        self.weight.shape = (self._units, width)

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        """See the class."""
        given = (x, weight) if bias is None else (x, weight, bias)
        out = F.FullyConnected(
            *given, no_bias=bias is None, num_hidden=self._units, flatten=self._flatten
        )
        return out if self.act is None else self.act(out)

    def __repr__(self) -> str:
        shape = self.weight.shape or (0, 0)
        act = "linear" if self.act is None else repr(self.act)
        return f"Dense({shape[1] or None} -> {shape[0]}, {act})"


class Dropout(HybridBlock):
    """Elements set to 0 with probability `rate` in training, the others scaled up."""

    def __init__(self, rate: float, axes: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        self._axes = axes

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return F.Dropout(x, p=self._rate, axes=self._axes) if self._rate > 0 else F.identity(x)

    def __repr__(self) -> str:
        return f"Dropout(p = {self._rate}, axes={self._axes})"


class Embedding(HybridBlock):
    """Rows of a table, looked up by integers.

    Parameters
    ----------
    input_dim : int
        Number of rows.
    output_dim : int
        Width of a row.
    sparse_grad : bool
        The gradient of the table holds only the rows that were looked up (row_sparse).
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        sparse_grad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._input_dim = input_dim
        self._output_dim = output_dim
        self._sparse_grad = sparse_grad
        self.weight = self.params.get(
            "weight",
            shape=(input_dim, output_dim),
            init=weight_initializer,
            dtype=dtype,
            allow_deferred_init=True,
            grad_stype="row_sparse" if sparse_grad else "default",
        )

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:
        """See the class."""
        return F.Embedding(
            x,
            weight,
            input_dim=self._input_dim,
            output_dim=self._output_dim,
            sparse_grad=self._sparse_grad,
        )

    def __repr__(self) -> str:
        return f"Embedding({self._input_dim} -> {self._output_dim}, {self.weight.dtype})"


class Flatten(HybridBlock):
    """(n, ...) to (n, product of the rest)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return F.flatten(x)

    def __repr__(self) -> str:
        return "Flatten"


class Identity(HybridBlock):
    """Its input."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return x


def _function(function: str | Callable[..., Any], block: Block) -> tuple[Any, str]:
    if isinstance(function, str):
        found = getattr(nd, function, None)
        if found is None:
            raise ValueError(f"{type(block).__name__}: kvtrain.nd has no function {function!r}")
        return None, function
    if not callable(function):
        raise ValueError(f"{type(block).__name__}: {function!r} is neither a name nor a function")
    return function, getattr(function, "__name__", "lambda")


class Lambda(Block):
    """A function, or the name of one in ``nd``, as a block."""

    def __init__(self, function: str | Callable[..., Any], prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        given, self._func_name = _function(function, self)
        self._func_impl = given or getattr(nd, self._func_name)

    def forward(self, *args: Any) -> Any:
        """Call the function."""
        return self._func_impl(*args)

    def __repr__(self) -> str:
        return f"Lambda({self._func_name})"


class HybridLambda(HybridBlock):
    """A function ``f(F, x, ...)``, or the name of one in `F`, as a block."""

    def __init__(self, function: str | Callable[..., Any], prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        given, self._func_name = _function(function, self)
        self._func = given or (lambda F, *args: getattr(F, self._func_name)(*args))

    def hybrid_forward(self, F: Any, x: Any, *args: Any) -> Any:
        """Call the function."""
        return self._func(F, x, *args)

    def __repr__(self) -> str:
        return f"HybridLambda({self._func_name})"
