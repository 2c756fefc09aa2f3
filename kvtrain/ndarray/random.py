# SPDX-License-Identifier: Apache-2.0
"""``nd.random``: arrays drawn from distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain import generators
from kvtrain.context import Context, usable
from kvtrain.errors import OperatorError
from kvtrain.generators import seed as seed
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.registry import find

Array = np.ndarray[Any, Any]


def _size(shape: Any) -> tuple[int, ...]:
    if shape is None:
        return (1,)
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)


def _made(values: Array, shape: Any, dtype: Any, ctx: Context, out: Any) -> NDArray:
    kind = np.dtype("float32" if dtype in (None, "None") else dtype)
    if out is not None and dtype in (None, "None"):
        kind = np.dtype(out.dtype)
    if kind == np.float16:  # MXNet rounds to single precision on the way
        values = values.astype(np.float32)
    raw = values.reshape(_size(shape) if out is None else out.shape).astype(kind, copy=False)
    made = NDArray(raw, ctx)
    return made if out is None else made.copyto(out)


def _count(shape: Any, out: Any) -> int:
    return int(np.prod(_size(shape) if out is None else out.shape, dtype=np.int64))


def _precision(dtype: Any, out: Any) -> str:
    """In which precision MXNet draws: single for float32, else double."""
    wanted = dtype if dtype not in (None, "None") else None if out is None else out.dtype
    return "float32" if wanted is None or np.dtype(wanted) == np.float32 else "float64"


def _spread(parameters: tuple[Any, ...], shape: Any) -> tuple[list[Array], tuple[int, ...]]:
    """Parameters given as arrays: `shape` values are drawn for each element."""
    raws = [p._read() if isinstance(p, NDArray) else np.asarray(p) for p in parameters]
    base = np.broadcast_shapes(*(r.shape for r in raws))
    tail = () if shape is None else _size(shape)
    return [np.broadcast_to(r, base).reshape(base + (1,) * len(tail)) for r in raws], base + tail


def uniform(
    low: Any = 0,
    high: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: Any = None,
    **kwargs: Any,
) -> NDArray:
    """Uniform in ``[low, high)``. MXNet's bits."""
    if isinstance(low, NDArray) or isinstance(high, NDArray):
        ctx = usable(ctx or (low if isinstance(low, NDArray) else high)._ctx)
        (a, b), full = _spread((low, high), shape)
        unit = generators.unit(int(np.prod(full))).reshape(full)
        return _made(a + (b - a) * unit, full, dtype, ctx, out)
    ctx = usable(ctx if out is None else out._ctx)
    unit = generators.unit(_count(shape, out), _precision(dtype, out))
    a, b = (unit.dtype.type(np.float32(bound)) for bound in (low, high))
    return _made(unit * (b - a) + a, shape, dtype, ctx, out)


def normal(
    loc: Any = 0,
    scale: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: Any = None,
    **kwargs: Any,
) -> NDArray:
    """Normal with mean `loc` and standard deviation `scale`. MXNet's bits."""
    if isinstance(loc, NDArray) or isinstance(scale, NDArray):
        ctx = usable(ctx or (loc if isinstance(loc, NDArray) else scale)._ctx)
        (a, b), full = _spread((loc, scale), shape)
        unit = generators.standard_normal(int(np.prod(full))).reshape(full)
        return _made(a + b * unit, full, dtype, ctx, out)
    ctx = usable(ctx if out is None else out._ctx)
    unit = generators.standard_normal(_count(shape, out), _precision(dtype, out))
    a, b = (unit.dtype.type(np.float32(value)) for value in (loc, scale))
    return _made(unit * b + a, shape, dtype, ctx, out)


def randn(*shape: int, **kwargs: Any) -> NDArray:
    """Normal, with the shape as arguments."""
    return normal(kwargs.pop("loc", 0), kwargs.pop("scale", 1), shape or None, **kwargs)


def randint(
    low: int,
    high: int,
    shape: Any = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: Any = None,
    **kwargs: Any,
) -> NDArray:
    """Integers in ``[low, high)``, int32 by default."""
    if not low < high:
        raise OperatorError(f"randint: low={low} must be below high={high}")
    ctx = usable(ctx)
    values = generators.generator().integers(low, high, _count(shape, out))
    return _made(values, shape, dtype or "int32", ctx, out)


def _plain(
    draw: Any, parameters: tuple[Any, ...], shape: Any, dtype: Any, ctx: Any, out: Any
) -> Any:
    arrays = [p for p in parameters if isinstance(p, NDArray)]
    ctx = usable(ctx or (arrays[0]._ctx if arrays else None))
    if arrays:
        raws, full = _spread(parameters, shape)
    else:
        raws = [np.asarray(p) for p in parameters]
        full = _size(shape) if out is None else out.shape
    values = np.asarray(draw(generators.generator(), raws, full))
    return _made(values, full, dtype, ctx, out)


def exponential(
    scale: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Exponential with mean `scale`. MXNet's bits."""
    if not isinstance(scale, NDArray):
        ctx = usable(ctx if out is None else out._ctx)
        unit = generators.standard_exponential(_count(shape, out), _precision(dtype, out))
        return _made(unit * unit.dtype.type(scale), shape, dtype, ctx, out)
    return _plain(lambda g, p, s: g.exponential(p[0], s), (scale,), shape, dtype, ctx, out)  # type: ignore[no-any-return]


def gamma(
    alpha: Any = 1,
    beta: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Gamma with shape `alpha` and scale `beta`."""
    return _plain(lambda g, p, s: g.gamma(p[0], p[1], s), (alpha, beta), shape, dtype, ctx, out)  # type: ignore[no-any-return]


def poisson(
    lam: Any = 1, shape: Any = None, dtype: Any = None, ctx: Any = None, out: Any = None, **kw: Any
) -> NDArray:
    """Poisson with mean `lam`."""
    return _plain(lambda g, p, s: g.poisson(p[0], s), (lam,), shape, dtype, ctx, out)  # type: ignore[no-any-return]


def negative_binomial(
    k: Any = 1,
    p: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Failures before the `k`-th success of probability `p`."""
    return _plain(
        lambda g, q, s: g.negative_binomial(q[0], q[1], s), (k, p), shape, dtype, ctx, out
    )  # type: ignore[no-any-return]


def generalized_negative_binomial(
    mu: Any = 1,
    alpha: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Negative binomial with mean `mu` and dispersion `alpha`."""

    def draw(g: Any, p: Any, size: Any) -> Any:
        mean, spread = p
        return g.poisson(g.gamma(1 / spread, mean * spread, size))

    return _plain(draw, (mu, alpha), shape, dtype, ctx, out)  # type: ignore[no-any-return]


def bernoulli(
    prob: Any = 0.5,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """1 with probability `prob`, else 0."""
    return _plain(lambda g, p, s: g.random(s) < p[0], (prob,), shape, dtype, ctx, out)  # type: ignore[no-any-return]


def multinomial(
    data: NDArray, shape: Any = 1, get_prob: bool = False, dtype: Any = "int32", **kw: Any
) -> Any:
    """Indices drawn with the probabilities in the last dimension of `data`."""
    probabilities = data._read()
    tail = () if shape in (1, (), None) else _size(shape)
    count = int(np.prod(tail, dtype=np.int64)) if tail else 1
    rows = np.cumsum(probabilities.reshape(-1, probabilities.shape[-1]), axis=1)
    draws = generators.unit(len(rows) * count).reshape(len(rows), count)
    picked = np.array(
        [np.searchsorted(c, u * c[-1], "right") for c, u in zip(rows, draws, strict=True)]
    )
    picked = np.minimum(picked, probabilities.shape[-1] - 1)
    full = probabilities.shape[:-1] + tail or (1,)
    out = NDArray(picked.reshape(full).astype(dtype), data._ctx)
    if not get_prob:
        return out
    flat = probabilities.reshape(-1, probabilities.shape[-1])
    logs = np.log(np.take_along_axis(flat, picked.astype(np.int64), 1)).reshape(full)
    return [out, NDArray(logs.astype(np.float32), data._ctx)]


def shuffle(data: NDArray, out: NDArray | None = None, **kw: Any) -> NDArray:
    """The same elements in random order along the first dimension."""
    order = generators.generator().permutation(len(data))
    made = NDArray(data._read()[order], data._ctx)
    return made if out is None else made.copyto(out)


def mask_of(shape: tuple[int, ...], p: float, dtype: Any) -> Array:
    """Zero with probability `p`, else ``1 / (1 - p)``."""
    unit = generators.unit(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    keep = np.float32(1.0 - p)
    return ((unit < keep) * (1 / keep)).astype(dtype)


def masked(data: NDArray, p: float, axes: tuple[int, ...]) -> NDArray:
    """Dropout as it is in training; one value of the mask along each of `axes`."""
    shape = tuple(1 if i in axes else n for i, n in enumerate(data.shape))
    mask = mask_of(shape, p, data.dtype)
    result: NDArray = invoke(find("_mask"), [data], {"mask": mask})
    return result
