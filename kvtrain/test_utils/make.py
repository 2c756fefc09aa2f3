# SPDX-License-Identifier: Apache-2.0
"""Making random arrays and shapes."""

from __future__ import annotations

import random as pyrandom
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.context import Context, current_context
from kvtrain.ndarray import NDArray, array
from kvtrain.test_utils.compare import assert_almost_equal, compare_ndarray_tuple

_default: list[Context] = []


def default_context() -> Context:
    """The context of tests: set_default_context's, else the current one."""
    return _default[-1] if _default else current_context()


def set_default_context(ctx: Context) -> None:
    """Choose the context of tests."""
    _default[:] = [ctx]


def default_dtype() -> Any:
    """float32."""
    return np.float32


def random_arrays(*shapes: Any) -> Any:
    """Standard normal NumPy arrays of the default dtype: one, or a list."""
    found = [np.array(np.random.randn(*shape), default_dtype()) for shape in shapes]
    return found[0] if len(found) == 1 else found


def random_uniform_arrays(
    *shapes: Any, low: float = 0.0, high: float = 1.0, dtype: Any = np.float32
) -> list[Any]:
    """Uniform NumPy arrays."""
    return [np.random.uniform(low, high, size=shape).astype(dtype) for shape in shapes]


def random_sample(population: Any, k: int) -> list[Any]:
    """`k` elements, in their order."""
    chosen = sorted(pyrandom.sample(range(len(population)), k))
    return [population[i] for i in chosen]


def rand_shape_2d(dim0: int = 10, dim1: int = 10, allow_zero_size: bool = False) -> Any:
    """A random shape of two dimensions."""
    return rand_shape_nd(2, (dim0, dim1), allow_zero_size)


def rand_shape_3d(
    dim0: int = 10, dim1: int = 10, dim2: int = 10, allow_zero_size: bool = False
) -> Any:
    """A random shape of three dimensions."""
    return rand_shape_nd(3, (dim0, dim1, dim2), allow_zero_size)


def rand_shape_nd(num_dim: int, dim: Any = 10, allow_zero_size: bool = False) -> tuple[int, ...]:
    """A random shape; `dim` bounds every size, or each its own."""
    low = 0 if allow_zero_size else 1
    bounds = [dim] * num_dim if isinstance(dim, int) else dim
    return tuple(int(np.random.randint(low, bound + 1)) for bound in bounds)


def rand_coord_2d(x_low: int, x_high: int, y_low: int, y_high: int) -> tuple[int, int]:
    """A random point."""
    return int(np.random.randint(x_low, x_high)), int(np.random.randint(y_low, y_high))


def rand_ndarray(
    shape: Any,
    stype: str = "default",
    density: float | None = None,
    dtype: Any = None,
    modifier_func: Callable[[Any], Any] | None = None,
    shuffle_csr_indices: bool = False,
    distribution: Any = None,
    ctx: Context | None = None,
) -> Any:
    """Uniform in [-1, 1); of a sparse one about the share `density` is not 0."""
    ctx = ctx or default_context()
    if stype == "default":
        return array(np.random.uniform(-1, 1, shape), ctx=ctx, dtype=dtype or default_dtype())
    return rand_sparse_ndarray(shape, stype, density, dtype, modifier_func=modifier_func, ctx=ctx)[
        0
    ]


def rand_sparse_ndarray(
    shape: Any,
    stype: str,
    density: float | None = None,
    dtype: Any = None,
    distribution: Any = None,
    data_init: float | None = None,
    rsp_indices: Any = None,
    modifier_func: Callable[[Any], Any] | None = None,
    shuffle_csr_indices: bool = False,
    ctx: Context | None = None,
) -> Any:
    """A random ``csr`` or ``row_sparse`` array, and its parts.

    Parameters
    ----------
    density : float, optional
        About the share of elements, or rows, that are not 0.
    data_init : float, optional
        Their value, instead of a random one in [-1, 1).
    rsp_indices : array, optional
        Rows of a ``row_sparse`` array, instead of random ones.
    distribution, shuffle_csr_indices
        Take no part: elements lie anywhere, in order.

    Returns
    -------
    array : CSRNDArray or RowSparseNDArray
    parts : tuple of numpy.ndarray
        (indptr, indices, data), or (data, indices).
    """
    density = np.random.rand() if density is None else density
    values = np.random.uniform(-1, 1, shape).astype(dtype or default_dtype())
    if data_init is not None:
        values[...] = data_init
    if modifier_func is not None:
        values = np.vectorize(modifier_func)(values).astype(values.dtype)
    kept = np.random.rand(*(shape[:1] if stype == "row_sparse" else shape)) < density
    if stype == "row_sparse" and rsp_indices is not None:
        kept = np.isin(np.arange(shape[0]), np.asarray(rsp_indices))
    values *= kept.reshape(kept.shape + (1,) * (values.ndim - kept.ndim))
    made: Any = array(values, ctx=ctx or default_context(), dtype=values.dtype).tostype(stype)
    if stype == "csr":
        return made, (made.indptr.asnumpy(), made.indices.asnumpy(), made.data.asnumpy())
    return made, (made.data.asnumpy(), made.indices.asnumpy())


def create_2d_tensor(rows: int, columns: int, dtype: Any = np.int64) -> NDArray:
    """Each row holds its number."""
    return array(np.arange(rows).reshape(rows, 1).repeat(columns, 1), dtype=dtype)


def create_vector(size: int, dtype: Any = np.int64) -> NDArray:
    """0, 1, ..."""
    return array(np.arange(size), dtype=dtype)


def assign_each(the_input: Any, function: Callable[..., Any] | None) -> Any:
    """``function`` of each element."""
    return np.array(the_input) if function is None else np.vectorize(function)(the_input)


def assign_each2(input1: Any, input2: Any, function: Callable[..., Any] | None) -> Any:
    """``function`` of each pair of elements."""
    return np.array(input1) if function is None else np.vectorize(function)(input1, input2)


def np_reduce(dat: Any, axis: Any, keepdims: bool, numpy_reduce_func: Callable[..., Any]) -> Any:
    """Reduce along several axes with a function that takes one."""
    axes = [axis] if isinstance(axis, int) else list(range(dat.ndim)) if axis is None else axis
    found = dat
    for one in sorted((a % dat.ndim for a in axes), reverse=True):
        found = numpy_reduce_func(found, axis=one)
    if keepdims:
        shape = tuple(
            1 if i in {a % dat.ndim for a in axes} else n for i, n in enumerate(dat.shape)
        )
        found = found.reshape(shape)
    return found


def collapse_sum_like(a: Any, shape: tuple[int, ...]) -> Any:
    """Sum away what broadcasting from `shape` to the shape of `a` added."""
    lead = a.ndim - len(shape)
    axes = tuple(i for i in range(a.ndim) if i < lead or (shape[i - lead] == 1 and a.shape[i] != 1))
    return a.sum(axis=axes, keepdims=True).reshape(shape) if axes else a


def compare_optimizer(
    opt1: Any,
    opt2: Any,
    shape: tuple[int, ...],
    dtype: Any,
    w_stype: str = "default",
    g_stype: str = "default",
    rtol: float = 1e-4,
    atol: float = 1e-5,
    compare_states: bool = True,
    ntensors: int = 1,
) -> None:
    """Assert that one update of random weights is the same with two optimizers."""
    for index in range(ntensors):
        weight = rand_ndarray(shape, w_stype, density=1, dtype=dtype)
        grad = rand_ndarray(shape, g_stype, dtype=dtype)
        both = [(opt, weight.copy(), grad.copy()) for opt in (opt1, opt2)]
        states = [opt.create_state_multi_precision(index, held) for opt, held, _ in both]
        for (opt, held, slope), state in zip(both, states, strict=True):
            opt.update_multi_precision(index, held, slope, state)
        if compare_states:
            compare_ndarray_tuple(states[0], states[1], rtol, atol)
        assert_almost_equal(both[0][1], both[1][1], rtol=rtol, atol=atol)
