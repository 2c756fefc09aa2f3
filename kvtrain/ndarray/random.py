# SPDX-License-Identifier: Apache-2.0
"""``nd.random``: arrays drawn from distributions, with MXNet's CPU bits where docs/random.md says.

Parameters are numbers, or NDArrays of one shape: then `shape` values are drawn for each
element, and the result has the parameters' shape followed by `shape`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain import generators
from kvtrain.context import Context, usable
from kvtrain.context import current_context as current_context
from kvtrain.errors import OperatorError
from kvtrain.generators import seed as seed
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.invoke import invoke
from kvtrain.ops.attribute import read_number, read_shape
from kvtrain.ops.registry import find

Array = np.ndarray[Any, Any]
#: parameters of one number or one per value, how many values, double precision -> values
Draw = Callable[[list[Any], int, bool], Array]


def _size(shape: Any) -> tuple[int, ...]:
    if shape is None:
        return (1,)
    shape = read_shape("random", "shape", shape)
    sizes = (shape,) if isinstance(shape, int | np.integer) else shape
    _check(all(n >= 0 for n in sizes), f"shape={shape}: no dimension can be negative")
    return tuple(int(n) for n in sizes)


def _kind(name: str, dtype: Any, out: Any) -> np.dtype[Any]:
    if dtype in (None, "None"):
        return np.dtype("float32" if out is None else out.dtype)
    kind = np.dtype(dtype)
    if kind.kind != "f":
        raise OperatorError(f"{name}: dtype={kind.name}; float16, float32 or float64 is needed")
    return kind


def _sample(
    name: str,
    draw: Draw,
    parameters: dict[str, Any],
    shape: Any,
    dtype: Any,
    ctx: Any,
    out: Any,
) -> NDArray:
    """Values from `draw` in the shape, dtype and context asked for."""
    kind = _kind(name, dtype, out)
    arrays = [p for p in parameters.values() if isinstance(p, NDArray)]
    if arrays:
        if len(arrays) != len(parameters):
            raise OperatorError(
                f"{name}: {', '.join(parameters)} must all be numbers or all be NDArrays"
            )
        raws = [a._read() for a in arrays]
        if any(r.shape != raws[0].shape for r in raws):
            shapes = ", ".join(str(r.shape) for r in raws)
            raise OperatorError(f"{name}: parameters of shapes {shapes} differ")
        tail = () if shape is None else _size(shape)
        each = int(np.prod(tail, dtype=np.int64))
        full = raws[0].shape + tail
        given: list[Any] = [np.repeat(r.reshape(-1), each) for r in raws]
        ctx = usable(ctx or arrays[0]._ctx)
    else:
        for key, value in parameters.items():
            if not isinstance(value, int | float | np.number):
                raise OperatorError(f"{name}: {key}={value!r} is neither a number nor an NDArray")
        full = _size(shape) if out is None or shape is not None else out.shape
        given = [np.float32(p) for p in parameters.values()]
        ctx = usable(ctx if out is None else out._ctx)
    count = int(np.prod(full, dtype=np.int64))
    # MXNet draws half precision from doubles and rounds it to single on the way
    values = draw(given, count, kind != np.float32)
    if kind == np.float16:
        values = values.astype(np.float32)
    made = NDArray(values.astype(kind, copy=False).reshape(full), ctx)
    return made if out is None else made.copyto(out)


def _precision(double: bool) -> str:
    return "float64" if double else "float32"


def _check(good: bool, text: str) -> None:
    if not good:
        raise OperatorError(text)


def uniform(
    low: Any = 0,
    high: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: Any = None,
    **kwargs: Any,
) -> NDArray:
    """Uniform in ``[low, high)``."""

    def draw(p: list[Any], count: int, double: bool) -> Array:
        unit = generators.unit(count, _precision(double))
        a, b = (np.asarray(x).astype(unit.dtype) for x in p)
        return unit * (b - a) + a

    return _sample("uniform", draw, {"low": low, "high": high}, shape, dtype, ctx, out)


def normal(
    loc: Any = 0,
    scale: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Context | None = None,
    out: Any = None,
    **kwargs: Any,
) -> NDArray:
    """Normal with mean `loc` and standard deviation `scale`."""
    if not isinstance(scale, NDArray):
        _check(scale > 0, f"normal: scale={scale} must be positive")

    def draw(p: list[Any], count: int, double: bool) -> Array:
        unit = generators.standard_normal(count, _precision(double))
        a, b = (np.asarray(x).astype(unit.dtype) for x in p)
        return unit * b + a

    return _sample("normal", draw, {"loc": loc, "scale": scale}, shape, dtype, ctx, out)


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
    """Integers in ``[low, high)``; int32 (default) or int64."""
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, int | np.integer):
            raise ValueError(f"randint: {name}={value!r} is not an integer")
    if not low < high:
        raise OperatorError(f"randint: low={low} must be below high={high}")
    kind = np.dtype("int32" if dtype in (None, "None") else dtype)
    if kind not in (np.int32, np.int64):
        raise OperatorError(f"randint: dtype={kind.name}; int32 or int64 is needed")
    full = _size(shape) if out is None or shape is not None else out.shape
    drawn = generators.integers(int(np.prod(full, dtype=np.int64)), int(low), int(high))
    made = NDArray(drawn.astype(kind).reshape(full), usable(ctx if out is None else out._ctx))
    return made if out is None else made.copyto(out)


def exponential(
    scale: Any = 1,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Exponential with mean `scale`."""
    if not isinstance(scale, NDArray):
        _check(scale > 0, f"exponential: scale={scale} must be positive")
        scale = np.float32(1.0 / scale)
    else:
        scale = NDArray(1 / scale._read(), scale._ctx)
    return _exponential(scale, shape, dtype, ctx, out)


def _exponential(lam: Any, shape: Any, dtype: Any, ctx: Any, out: Any) -> NDArray:
    def draw(p: list[Any], count: int, double: bool) -> Array:
        unit = generators.standard_exponential(count, _precision(double))
        return unit / np.asarray(p[0]).astype(unit.dtype)

    return _sample("exponential", draw, {"lam": lam}, shape, dtype, ctx, out)


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
    if not isinstance(alpha, NDArray):
        _check(alpha > 0, f"gamma: alpha={alpha} must be positive")
    return _sample(
        "gamma",
        lambda p, count, double: generators.gamma(count, p[0], p[1], double),
        {"alpha": alpha, "beta": beta},
        shape,
        dtype,
        ctx,
        out,
    )


def poisson(
    lam: Any = 1, shape: Any = None, dtype: Any = None, ctx: Any = None, out: Any = None, **kw: Any
) -> NDArray:
    """Poisson with mean `lam`."""
    if not isinstance(lam, NDArray):
        _check(lam >= 0, f"poisson: lam={lam} must not be negative")
    return _sample(
        "poisson",
        lambda p, count, double: generators.poisson(count, p[0], double),
        {"lam": lam},
        shape,
        dtype,
        ctx,
        out,
    )


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
    if not isinstance(p, NDArray):
        _check(0 <= p <= 1, f"negative_binomial: p={p} is no probability")
    return _sample(
        "negative_binomial",
        lambda q, count, double: generators.negative_binomial(count, q[0], q[1], double),
        {"k": k, "p": p},
        shape,
        dtype,
        ctx,
        out,
    )


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
    return _sample(
        "generalized_negative_binomial",
        lambda p, count, double: generators.generalized_negative_binomial(
            count, p[0], p[1], double
        ),
        {"mu": mu, "alpha": alpha},
        shape,
        dtype,
        ctx,
        out,
    )


def bernoulli(
    prob: Any = 0.5,
    shape: Any = None,
    dtype: Any = None,
    ctx: Any = None,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """1 with probability `prob`, else 0."""
    return _sample(
        "bernoulli",
        lambda p, count, double: (generators.unit(count) < p[0]).astype(np.float32),
        {"prob": prob},
        shape,
        dtype,
        ctx,
        out,
    )


def multinomial(
    data: NDArray,
    shape: Any = 1,
    get_prob: bool = False,
    out: Any = None,
    dtype: Any = "int32",
    **kw: Any,
) -> Any:
    """Indices drawn with the probabilities in the last dimension of `data`.

    With `get_prob` also the logarithm of the probability of what was drawn, whose gradient by
    `data` is known.
    """
    raw = data._read()
    tail = () if shape in (1, (), None, (1,)) else _size(shape)
    if shape == (1,):
        tail = (1,)
    count = int(np.prod(tail, dtype=np.int64))
    rows = raw.reshape(-1, raw.shape[-1])
    table = np.cumsum(rows.astype(np.float64), axis=1).astype(raw.dtype)
    draws = generators.serial_unit(len(rows) * count).reshape(len(rows), count)
    found = [
        np.searchsorted(t, u.astype(raw.dtype), "left") for t, u in zip(table, draws, strict=True)
    ]
    picked = np.minimum(np.array(found, np.int64), raw.shape[-1] - 1).reshape(len(rows), count)
    full = raw.shape[:-1] + tail or (1,)
    made = NDArray(picked.reshape(full).astype(dtype), data._ctx)
    result = made if out is None else made.copyto(out if isinstance(out, NDArray) else out[0])
    if not get_prob:
        return result
    wide = invoke(find("Reshape"), [data], {"shape": rows.shape, "reverse": False})
    chosen = np.repeat(np.arange(len(rows)), count), picked.reshape(-1)
    seen = invoke(find("_index"), [wide], {"key": chosen})
    logs = invoke(find("log"), [seen], {})
    return [result, invoke(find("Reshape"), [logs], {"shape": full, "reverse": False})]


def shuffle(data: NDArray, out: NDArray | None = None, **kw: Any) -> NDArray:
    """The same elements in random order along the first dimension."""
    order = generators.shuffled(data.shape[0], data.ndim == 1)
    made = NDArray(data._read()[order], data._ctx)
    return made if out is None else made.copyto(out)


def rand_zipfian(
    true_classes: NDArray, num_sampled: int, range_max: int, ctx: Context | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Candidates from a log-uniform (Zipfian) distribution over ``[0, range_max)``.

    Returns
    -------
    samples (num_sampled,), expected count of the true classes, expected count of the samples
    """
    width = math.log(range_max + 1)
    drawn = uniform(0, width, shape=(num_sampled,), dtype="float64", ctx=ctx)._read()
    samples = (np.exp(drawn) - 1).astype(np.int64) % range_max

    def expected(classes: Array) -> NDArray:
        wide = classes.astype(np.float64)
        return NDArray(np.log((wide + 2.0) / (wide + 1.0)) / width * num_sampled, usable(ctx))

    return NDArray(samples, usable(ctx)), expected(true_classes._read()), expected(samples)


# ---- other spellings -----------------------------------------------------------------------


def _like(draw: Callable[..., NDArray], names: tuple[str, ...]) -> Callable[..., NDArray]:
    def run(data: NDArray, *args: Any, out: Any = None, **kwargs: Any) -> NDArray:
        kwargs.pop("name", None)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if "lam" in given and draw is exponential:
            given["scale"] = 1.0 / given.pop("lam")
        return draw(shape=data.shape, dtype=data.dtype, ctx=data._ctx, out=out, **given)

    run.__name__ = run.__qualname__ = f"{draw.__name__}_like"
    run.__doc__ = f"{draw.__name__} in the shape, dtype and context of `data`."
    return run


uniform_like = _like(uniform, ("low", "high"))
normal_like = _like(normal, ("loc", "scale"))
exponential_like = _like(exponential, ("lam",))
gamma_like = _like(gamma, ("alpha", "beta"))
poisson_like = _like(poisson, ("lam",))
negative_binomial_like = _like(negative_binomial, ("k", "p"))
generalized_negative_binomial_like = _like(generalized_negative_binomial, ("mu", "alpha"))


def _named(
    name: str, draw: Callable[..., NDArray], names: tuple[str, ...], rate: bool = False
) -> Callable[..., NDArray]:
    """`draw` as the operator `name`, whose parameters are called `names`."""

    def run(*args: Any, **kwargs: Any) -> NDArray:
        order = (*names, "shape", "dtype")
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        given.pop("name", None)
        parameters = [read_number(name, n, given.pop(n)) for n in names if n in given]
        if rate and parameters:
            value = parameters[0]
            inverse = 1 / value if not isinstance(value, NDArray) else None
            parameters = [NDArray(1 / value._read(), value._ctx) if inverse is None else inverse]
        return draw(*parameters, **given)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = draw.__doc__
    return run


#: functions of ``nd`` by name: ``random_uniform(low, high, shape)``, ``sample_uniform(...)``
FUNCTIONS: dict[str, Callable[..., Any]] = {"random_randint": randint}
for _draw_, _names, _sampled in (
    (uniform, ("low", "high"), ("low", "high")),
    (normal, ("loc", "scale"), ("mu", "sigma")),
    (exponential, ("lam",), ("lam",)),
    (gamma, ("alpha", "beta"), ("alpha", "beta")),
    (poisson, ("lam",), ("lam",)),
    (negative_binomial, ("k", "p"), ("k", "p")),
    (generalized_negative_binomial, ("mu", "alpha"), ("mu", "alpha")),
):
    _n = _draw_.__name__
    _rate = _draw_ is exponential
    FUNCTIONS[f"random_{_n}"] = _named(f"random_{_n}", _draw_, _names, _rate)
    FUNCTIONS[f"sample_{_n}"] = _named(f"sample_{_n}", _draw_, _sampled, _rate)
FUNCTIONS["sample_multinomial"] = multinomial
FUNCTIONS["uniform"] = FUNCTIONS["random_uniform"]
FUNCTIONS["normal"] = FUNCTIONS["random_normal"]
FUNCTIONS["shuffle"] = shuffle


# ---- dropout -------------------------------------------------------------------------------


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
