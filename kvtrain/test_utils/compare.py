# SPDX-License-Identifier: Apache-2.0
"""Comparing arrays, with tolerances by dtype."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kvtrain.config import getenv, setenv
from kvtrain.ndarray import NDArray

_EXACT = ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64")


def default_rtols() -> dict[Any, float]:
    """Relative tolerance of each dtype."""
    loose = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-5}
    return {np.dtype(name): loose.get(name, 0) for name in (*loose, *_EXACT)}


def default_atols() -> dict[Any, float]:
    """Absolute tolerance of each dtype."""
    loose = {"float16": 1e-1, "float32": 1e-3, "float64": 1e-20}
    return {np.dtype(name): loose.get(name, 0) for name in (*loose, *_EXACT)}


def default_numeric_eps() -> dict[Any, float]:
    """Step of finite differences for each dtype."""
    return {
        np.dtype("float16"): 2.0**-6,
        np.dtype("float32"): 2.0**-9,
        np.dtype("float64"): 2.0**-14,
    }


def effective_dtype(dat: Any) -> Any:
    """The dtype whose tolerance holds for `dat`."""
    return np.dtype(dat.dtype)


def _plain(value: Any) -> np.ndarray[Any, Any]:
    return value.asnumpy() if hasattr(value, "asnumpy") else np.asarray(value)


def get_rtol(rtol: float | None = None, dtype: Any = np.float64) -> float:
    """`rtol`, or the dtype's."""
    return default_rtols()[np.dtype(dtype)] if rtol is None else rtol


def get_atol(atol: float | None = None, dtype: Any = np.float64) -> float:
    """`atol`, or the dtype's."""
    return default_atols()[np.dtype(dtype)] if atol is None else atol


def get_etol(etol: float | None = None) -> float:
    """`etol`, or 0."""
    return 0 if etol is None else etol


def get_tols(x: Any, y: Any, rtol: Any, atol: Any) -> tuple[float, float]:
    """Tolerances for comparing x and y: numbers, dicts by dtype, or the larger defaults."""
    found = []
    for given, defaults in ((rtol, default_rtols()), (atol, default_atols())):
        if isinstance(given, int | float):
            found.append(given)
            continue
        kinds = [_plain(value).dtype for value in (x, y)]
        found.append(max((given or {}).get(kind, defaults[kind]) for kind in kinds))
    return found[0], found[1]


def same(a: Any, b: Any) -> bool:
    """Equal shapes and values."""
    return np.array_equal(_plain(a), _plain(b))


def same_array(array1: NDArray, array2: NDArray) -> bool:
    """Whether two arrays share memory."""
    return np.shares_memory(array1._read(), array2._read())


def almost_equal(
    a: Any,
    b: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    use_broadcast: bool = True,
) -> bool:
    """Whether all elements are within the tolerances."""
    a, b = _plain(a), _plain(b)
    if not use_broadcast and a.shape != b.shape:
        raise AssertionError(f"shapes {a.shape} and {b.shape}")
    return np.allclose(a, b, rtol=get_rtol(rtol), atol=get_atol(atol), equal_nan=equal_nan)


def assert_almost_equal(
    a: Any,
    b: Any,
    rtol: Any = None,
    atol: Any = None,
    names: tuple[str, str] = ("a", "b"),
    equal_nan: bool = False,
    use_broadcast: bool = True,
    mismatches: tuple[int, int] = (10, 10),
) -> None:
    """Raise AssertionError, naming the worst element, unless arrays are almost equal.

    Parameters
    ----------
    a, b : NDArray or numpy.ndarray
    rtol, atol : float or dict of dtype to float, optional
        By default those of the dtypes.
    """
    rtol, atol = get_tols(a, b, rtol, atol)
    assert_almost_equal_with_err(a, b, rtol, atol, 0, names, equal_nan, mismatches, use_broadcast)


def assert_almost_equal_with_err(
    a: Any,
    b: Any,
    rtol: Any = None,
    atol: Any = None,
    etol: float | None = None,
    names: tuple[str, str] = ("a", "b"),
    equal_nan: bool = False,
    mismatches: tuple[int, int] = (10, 10),
    use_broadcast: bool = True,
) -> None:
    """As assert_almost_equal; a share `etol` of the elements may be further apart."""
    rtol, atol = get_tols(a, b, rtol, atol)
    left, right = _plain(a), _plain(b)
    if not use_broadcast and left.shape != right.shape:
        raise AssertionError(f"{names[0]} has shape {left.shape}, {names[1]} {right.shape}")
    left, right = np.broadcast_arrays(left, right)
    close = np.isclose(left, right, rtol=rtol, atol=atol, equal_nan=equal_nan)
    share = 1 - np.count_nonzero(close) / max(1, close.size)
    if share <= get_etol(etol):
        return
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(wide_left - wide_right) / (atol + rtol * np.abs(wide_right) + 1e-300)
    worst = np.unravel_index(
        np.argmax(np.where(close, -1, np.nan_to_num(error, nan=np.inf))), close.shape
    )
    raise AssertionError(
        f"Error {error[worst]:f} exceeds tolerance rtol={rtol:e}, atol={atol:e} "
        f"(mismatch {100 * share:f}%).\nLocation of maximum error: "
        f"{tuple(int(i) for i in worst)}, {names[0]}={wide_left[worst]:.8f}, "
        f"{names[1]}={wide_right[worst]:.8f}\n {names[0]}: {left!r}\n {names[1]}: {right!r}"
    )


def assert_almost_equal_ignore_nan(
    a: Any, b: Any, rtol: Any = None, atol: Any = None, names: tuple[str, str] = ("a", "b")
) -> None:
    """As assert_almost_equal, without the elements that are NaN in either."""
    left, right = np.copy(_plain(a)), np.copy(_plain(b))
    either = np.isnan(left) | np.isnan(right)
    left[either] = right[either] = 0
    assert_almost_equal(left, right, rtol, atol, names)


def assert_allclose(
    a: Any, b: Any, rtol: float = 1e-07, atol: float = 0, equal_nan: bool = True
) -> None:
    """As assert_almost_equal, with NumPy's tolerances."""
    assert_almost_equal(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)


def assert_exception(f: Callable[..., Any], exception_type: Any, *args: Any, **kwargs: Any) -> None:
    """Raise AssertionError unless ``f(*args, **kwargs)`` raises `exception_type`."""
    try:
        f(*args, **kwargs)
    except exception_type:
        return
    raise AssertionError(f"{f!r} raised no {exception_type!r}")


def retry(n: int) -> Callable[[Any], Any]:
    """Decorator: run a test up to `n` times until its assertions hold."""
    if n < 1:
        raise ValueError(f"retry: n={n} must be at least 1")

    def decorate(f: Any) -> Any:
        @functools.wraps(f)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for left in reversed(range(n)):
                try:
                    return f(*args, **kwargs)
                except AssertionError:
                    if not left:
                        raise
            return None

        return wrapper

    return decorate


def compare_ndarray_tuple(t1: Any, t2: Any, rtol: Any = None, atol: Any = None) -> None:
    """Assert that two nestings of arrays (or None) are almost equal."""
    if t1 is None or t2 is None:
        return
    if isinstance(t1, tuple | list):
        for one, other in zip(t1, t2, strict=True):
            compare_ndarray_tuple(one, other, rtol, atol)
    else:
        assert_almost_equal(t1, t2, rtol=rtol, atol=atol)


def list_gpus() -> range:
    """Numbers of the GPUs: none."""
    return range(0)


@contextmanager
def environment(*args: Any) -> Iterator[None]:
    """``with environment(name, value):`` or ``with environment({name: value}):``; None unsets."""
    wanted = args[0] if len(args) == 1 else {args[0]: args[1]}
    before = {name: getenv(name) for name in wanted}
    for name, value in wanted.items():
        setenv(name, value)
    try:
        yield
    finally:
        for name, held in before.items():
            setenv(name, held)
