# SPDX-License-Identifier: Apache-2.0
"""``linalg.*``: products, factorisations and solutions of stacked matrices (the last two axes).

Where no published rule is named, a gradient follows from an equal formula over other operators;
the rules of the factorisations are those of Seeger, Hetzel, Dai, Meissner and Lawrence,
"Auto-Differentiating Linear Algebra" (2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, run
from kvtrain.ops.registry import op


def _t(xp: Any, a: Any, flag: bool = True) -> Any:
    return xp.swapaxes(a, len(a.shape) - 2, len(a.shape) - 1) if flag else a


def _square(name: str, a: Any) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ValueError(f"{name} has shape {a.shape}; square matrices are needed")


def _mask(a: Any, keep: Callable[..., Any]) -> Any:
    """A constant of ones and zeros of the shape of `a`: triangles and the like."""
    shape = tuple(a.shape)
    mask = keep(np.ones(shape[-2:], np.dtype(a.dtype).name))
    return np.ascontiguousarray(np.broadcast_to(mask, shape))


def _triangle(xp: Any, a: Any, lower: bool) -> Any:
    return a * _mask(a, np.tril if lower else np.triu)


def _inverse(xp: Any, a: Any) -> Any:
    return run(xp, "_linalg_inverse", a)


def _register(
    name: str, formula: Callable[..., Any], *, vjp: Any = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return op(f"_linalg_{name}", vjp=vjp or derived(formula), aliases=(f"linalg_{name}",))


# ---- products ------------------------------------------------------------------------------


def _product(xp: Any, a: Any, b: Any, flip_a: bool, flip_b: bool, axis: int) -> Any:
    if axis != -2:
        a, b = _rows_to(xp, a, axis, False), _rows_to(xp, b, axis, False)
    left, right = _t(xp, a, flip_a), _t(xp, b, flip_b)
    if left.shape[:-2] != right.shape[:-2] or left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matrices of shape {tuple(a.shape)} and {tuple(b.shape)} do not fit")
    out = xp.matmul(left, right)
    return out if axis == -2 else _rows_to(xp, out, axis, True)


def _rows_to(xp: Any, a: Any, axis: int, back: bool) -> Any:
    """The axis of the rows moved to the last but one place, or back."""
    order = list(range(len(a.shape)))
    axis %= len(order)
    if back:
        order.insert(axis, order.pop(-2))
    else:
        order.insert(len(order) - 2, order.pop(axis))
    return xp.transpose(a, axes=tuple(order))


def _gemm2_formula(
    xp: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool, alpha: float, axis: int
) -> Any:
    return _product(xp, a, b, transpose_a, transpose_b, axis) * alpha


@_register("gemm2", _gemm2_formula)
def _gemm2(
    xp: Any,
    A: Any,
    B: Any,
    /,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    axis: int = -2,
) -> Any:
    """``alpha * op(A) op(B)``."""
    return _product(xp, A, B, transpose_a, transpose_b, axis) * A.dtype.type(alpha)


def _gemm_formula(xp: Any, a: Any, b: Any, c: Any, *, beta: float, **rest: Any) -> Any:
    return _gemm2_formula(xp, a, b, **rest) + c * beta


@_register("gemm", _gemm_formula)
def _gemm(
    xp: Any,
    A: Any,
    B: Any,
    C: Any,
    /,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
    axis: int = -2,
) -> Any:
    """``alpha * op(A) op(B) + beta * C``."""
    out = _product(xp, A, B, transpose_a, transpose_b, axis) * A.dtype.type(alpha)
    if out.shape != C.shape:
        raise ValueError(f"C has shape {C.shape}, the product {out.shape}")
    return out + A.dtype.type(beta) * C


def _syrk_formula(xp: Any, a: Any, *, transpose: bool, alpha: float) -> Any:
    return xp.matmul(_t(xp, a, transpose), _t(xp, a, not transpose)) * alpha


@_register("syrk", _syrk_formula)
def _syrk(xp: Any, A: Any, /, *, transpose: bool = False, alpha: float = 1.0) -> Any:
    """``alpha * A A^T``, or with `transpose` ``alpha * A^T A``."""
    return _syrk_formula(xp, A, transpose=transpose, alpha=A.dtype.type(alpha))


def _trmm_formula(
    xp: Any, a: Any, b: Any, *, transpose: bool, rightside: bool, lower: bool, alpha: float
) -> Any:
    factor = _t(xp, _triangle(xp, a, lower), transpose)
    return (xp.matmul(b, factor) if rightside else xp.matmul(factor, b)) * alpha


@_register("trmm", _trmm_formula)
def _trmm(
    xp: Any,
    A: Any,
    B: Any,
    /,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> Any:
    """``alpha * op(A) B`` (or ``B op(A)``) with a triangular A."""
    _square("A", A)
    return _trmm_formula(
        xp,
        A,
        B,
        transpose=transpose,
        rightside=rightside,
        lower=lower,
        alpha=A.dtype.type(alpha),
    )


def _trsm_formula(
    xp: Any, a: Any, b: Any, *, transpose: bool, rightside: bool, lower: bool, alpha: float
) -> Any:
    factor = _inverse(xp, _t(xp, _triangle(xp, a, lower), transpose))
    return (xp.matmul(b, factor) if rightside else xp.matmul(factor, b)) * alpha


@_register("trsm", _trsm_formula)
def _trsm(
    xp: Any,
    A: Any,
    B: Any,
    /,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> Any:
    """X with ``op(A) X = alpha B`` (or ``X op(A) = alpha B``), A triangular."""
    _square("A", A)
    factor = _t(xp, _triangle(xp, A, lower), transpose)
    if rightside:
        out = _t(xp, np.linalg.solve(_t(xp, factor), _t(xp, B)))
    else:
        out = np.linalg.solve(factor, B)
    return out * A.dtype.type(alpha)


# ---- factorisations ------------------------------------------------------------------------


def _potrf_vjp(xp: Any, g: Any, out: Any, a: Any, *, lower: bool) -> tuple[Any, ...]:
    factor, slope = (out, g) if lower else (_t(xp, out), _t(xp, g))
    inverse = _inverse(xp, factor)
    inner = xp.matmul(_t(xp, factor), slope)
    low = _triangle(xp, inner, True)
    both = low + _t(xp, inner * _mask(inner, lambda m: np.tril(m, -1)))
    return (xp.matmul(xp.matmul(_t(xp, inverse), both), inverse) * 0.5,)


@op("_linalg_potrf", vjp=_potrf_vjp, aliases=("linalg_potrf",))
def _potrf(xp: Any, A: Any, /, *, lower: bool = True) -> Any:
    """Cholesky factor L of ``A = L L^T``, or U of ``A = U^T U``; reads one triangle of A."""
    _square("A", A)
    try:
        factor = np.linalg.cholesky(A if lower else _t(xp, A))
    except np.linalg.LinAlgError:
        raise ValueError("A is not positive definite") from None
    return factor if lower else _t(xp, factor)


def _potri_formula(xp: Any, a: Any, *, lower: bool) -> Any:
    inverse = _inverse(xp, _triangle(xp, a, lower))
    return xp.matmul(_t(xp, inverse, lower), _t(xp, inverse, not lower))


@_register("potri", _potri_formula)
def _potri(xp: Any, A: Any, /, *, lower: bool = True) -> Any:
    """Inverse of the matrix whose Cholesky factor is A."""
    _square("A", A)
    return _potri_formula(xp, A, lower=lower)


def _gelqf_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    q, low = out
    gq, gl = g
    inverse = _inverse(xp, low)
    inner = xp.matmul(_t(xp, low), gl) - xp.matmul(gq, _t(xp, q))
    both = _triangle(xp, inner, True) + _t(xp, inner * _mask(inner, lambda m: np.tril(m, -1)))
    return (xp.matmul(_t(xp, inverse), gq + xp.matmul(both, q)),)


@op("_linalg_gelqf", vjp=_gelqf_vjp, aliases=("linalg_gelqf",))
def _gelqf(xp: Any, A: Any, /) -> Any:
    """(Q, L) with ``A = L Q``, orthonormal rows of Q, L lower triangular; rows <= columns."""
    if A.ndim < 2 or A.shape[-2] > A.shape[-1]:
        raise ValueError(f"A has shape {A.shape}; no more rows than columns are possible")
    q, upper = np.linalg.qr(_t(xp, A))
    return np.ascontiguousarray(_t(xp, q)), np.ascontiguousarray(_t(xp, upper))


def _syevd_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    u, values = out
    gu, gv = g
    n = values.shape[-1]
    eye = np.eye(n, dtype=np.dtype(a.dtype).name)
    stacked = np.broadcast_to(eye, tuple(u.shape))
    rows = xp.reshape(values, (*values.shape, 1))
    columns = xp.reshape(values, (*values.shape[:-1], 1, n))
    gap = xp.broadcast_to(columns, u.shape) - xp.broadcast_to(rows, u.shape)
    # below 1e-20 a gap counts as none, so that equal eigenvalues give numbers
    size = xp.maximum(xp.abs(gap), 1e-20)
    sign = xp.greater_equal(gap, 0) * 2.0 - 1
    inner = xp.matmul(gu, _t(xp, u)) * (1 - stacked) * sign / size * 0.5
    inner = inner + _t(xp, inner)
    slope = xp.broadcast_to(xp.reshape(gv, (*gv.shape, 1)), u.shape) * stacked - inner
    return (xp.matmul(xp.matmul(_t(xp, u), slope), u),)


@op("_linalg_syevd", vjp=_syevd_vjp, aliases=("linalg_syevd",))
def _syevd(xp: Any, A: Any, /) -> Any:
    """(U, L): eigenvectors as rows of U and eigenvalues, ascending, of symmetric A."""
    _square("A", A)
    values, vectors = np.linalg.eigh(A)
    rows = np.ascontiguousarray(_t(xp, vectors))
    return rows * _row_signs(rows), values


def _row_signs(rows: Any) -> Any:
    """The sign that makes the largest element of each row positive."""
    places = np.argmax(np.abs(rows), axis=-1)[..., None]
    largest = np.take_along_axis(rows, places, -1)
    return np.where(largest < 0, rows.dtype.type(-1), rows.dtype.type(1))


def _inverse_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    turned = _t(xp, out)
    return (-xp.matmul(xp.matmul(turned, g), turned),)


@op("_linalg_inverse", vjp=_inverse_vjp, aliases=("linalg_inverse",))
def _linalg_inverse(xp: Any, A: Any, /) -> Any:
    """Inverse of square matrices."""
    _square("A", A)
    try:
        return np.linalg.inv(A)
    except np.linalg.LinAlgError:
        raise ValueError("A is singular") from None


def _spread(xp: Any, g: Any, like: Any) -> Any:
    """One number per matrix, repeated over the matrix."""
    return xp.broadcast_to(xp.reshape(g, (*like.shape[:-2], 1, 1)), like.shape)


def _det_vjp(xp: Any, g: Any, out: Any, a: Any) -> tuple[Any, ...]:
    return (_spread(xp, g * out, a) * _t(xp, _inverse(xp, a)),)


def _numbers(found: Any, a: Any) -> Any:
    """One number per matrix, in its dtype; MXNet has no arrays without dimensions."""
    out = np.asarray(found, a.dtype)
    return out.reshape((1,)) if out.ndim == 0 else out


@op("_linalg_det", vjp=_det_vjp, aliases=("linalg_det",))
def _det(xp: Any, A: Any, /) -> Any:
    """Determinants."""
    _square("A", A)
    return _numbers(np.linalg.det(A), A)


@op(
    "_linalg_slogdet",
    vjp=lambda xp, g, out, a: (_spread(xp, g[1], a) * _t(xp, _inverse(xp, a)),),
    aliases=("linalg_slogdet",),
)
def _slogdet(xp: Any, A: Any, /) -> Any:
    """Sign and logarithm of the absolute value of determinants."""
    _square("A", A)
    sign, logs = np.linalg.slogdet(A)
    return _numbers(sign, A), _numbers(logs, A)


# ---- diagonals and triangles ---------------------------------------------------------------


def _sumlogdiag_formula(xp: Any, a: Any) -> Any:
    diagonal = run(xp, "_linalg_extractdiag", a)
    return xp.sum(xp.log(diagonal), axis=len(a.shape) - 2, keepdims=False)


@_register("sumlogdiag", _sumlogdiag_formula)
def _sumlogdiag(xp: Any, A: Any, /) -> Any:
    """Sum of the logarithms of each diagonal."""
    _square("A", A)
    return _numbers(np.log(np.diagonal(A, 0, -2, -1)).sum(axis=-1), A)


def _diagonal_key(offset: int, count: int) -> tuple[Any, ...]:
    rows = np.arange(count) + max(-offset, 0)
    return (Ellipsis, rows, rows + offset)


@op(
    "_linalg_extractdiag",
    vjp=lambda xp, g, out, a, *, offset: (
        xp.index_grad(g, shape=tuple(a.shape), key=_diagonal_key(offset, g.shape[-1])),
    ),
    aliases=("linalg_extractdiag",),
)
def _extractdiag(xp: Any, A: Any, /, *, offset: int = 0) -> Any:
    """Diagonals of square matrices."""
    _square("A", A)
    if abs(offset) >= A.shape[-1]:
        raise ValueError(f"offset={offset} leaves no diagonal of {A.shape}")
    return np.ascontiguousarray(np.diagonal(A, offset, -2, -1))


@op(
    "_linalg_makediag",
    vjp=lambda xp, g, out, a, *, offset: (run(xp, "_linalg_extractdiag", g, offset=offset),),
    aliases=("linalg_makediag",),
)
def _makediag(xp: Any, A: Any, /, *, offset: int = 0) -> Any:
    """Matrices with the last dimension of A on a diagonal."""
    size = A.shape[-1] + abs(offset)
    out = np.zeros((*A.shape[:-1], size, size), A.dtype)
    out[_diagonal_key(offset, A.shape[-1])] = A
    return out


def _triangle_key(size: int, offset: int, lower: bool) -> tuple[Any, ...]:
    """Rows and columns of a triangle: a lower one row by row, an upper one column by column.

    An offset that is not 0 says which.
    """
    if offset > 0 or (offset == 0 and not lower):
        columns, rows = np.tril_indices(size, -offset)
    else:
        rows, columns = np.tril_indices(size, offset)
    return (Ellipsis, rows, columns)


@op(
    "_linalg_extracttrian",
    vjp=lambda xp, g, out, a, *, offset, lower: (
        xp.index_grad(g, shape=tuple(a.shape), key=_triangle_key(a.shape[-1], offset, lower)),
    ),
    aliases=("linalg_extracttrian",),
)
def _extracttrian(xp: Any, A: Any, /, *, offset: int = 0, lower: bool = True) -> Any:
    """A triangle of square matrices, as one dimension."""
    _square("A", A)
    if abs(offset) >= A.shape[-1]:
        raise ValueError(f"offset={offset} leaves no triangle of {A.shape}")
    return A[_triangle_key(A.shape[-1], offset, lower)]


def _maketrian_size(count: int, offset: int) -> int:
    side = int((np.sqrt(1 + 8 * count) - 1) / 2)
    if side * (side + 1) // 2 != count:
        raise ValueError(f"{count} elements do not fill a triangle")
    return side + abs(offset)


@op(
    "_linalg_maketrian",
    vjp=lambda xp, g, out, a, *, offset, lower: (
        run(xp, "_linalg_extracttrian", g, offset=offset, lower=lower),
    ),
    aliases=("linalg_maketrian",),
)
def _maketrian(xp: Any, A: Any, /, *, offset: int = 0, lower: bool = True) -> Any:
    """Square matrices with the last dimension of A in a triangle."""
    size = _maketrian_size(A.shape[-1], offset)
    out = np.zeros((*A.shape[:-1], size, size), A.dtype)
    out[_triangle_key(size, offset, lower)] = A
    return out
