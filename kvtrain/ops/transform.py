# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms in MXNet's interleaved layout, and count sketches."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, run, values
from kvtrain.ops.registry import op


def _fft(data: Any) -> Any:
    found = np.fft.fft(data, axis=-1)
    out = np.stack([found.real, found.imag], axis=-1)
    return out.reshape(*data.shape[:-1], -1).astype(data.dtype)


def _inverse(data: Any) -> Any:
    pairs = data.reshape(*data.shape[:-1], -1, 2)
    # as in MXNet without the division by the length
    found = np.fft.ifft(pairs[..., 0] + 1j * pairs[..., 1], axis=-1) * pairs.shape[-2]
    return found.real.astype(data.dtype)


@op(
    "_contrib_fft",
    vjp=lambda xp, g, out, a, *, compute_size: (run(xp, "_contrib_ifft", g),),
)
def _contrib_fft(xp: Any, data: Any, /, *, compute_size: int = 128) -> Any:
    """Fourier transform along the last axis: real and imaginary parts one after the other."""
    return _fft(data)


@op(
    "_contrib_ifft",
    vjp=lambda xp, g, out, a, *, compute_size: (run(xp, "_contrib_fft", g),),
)
def _contrib_ifft(xp: Any, data: Any, /, *, compute_size: int = 128) -> Any:
    """The other way, real part only and not divided by the length."""
    if data.shape[-1] % 2:
        raise ValueError(f"data has shape {data.shape}; pairs of real and imaginary part needed")
    return _inverse(data)


def _sketch_formula(xp: Any, data: Any, h: Any, s: Any, *, out_dim: int, **rest: Any) -> Any:
    rows = values(h).reshape(-1).astype(np.int64)
    signs = values(s).reshape(-1)
    matrix = np.zeros((rows.size, out_dim), np.dtype(data.dtype).name)
    matrix[np.arange(rows.size), rows] = signs
    return xp.dot(data, matrix)


@op("_contrib_count_sketch", vjp=derived(_sketch_formula, 0))
def _count_sketch(
    xp: Any, data: Any, h: Any, s: Any, /, *, out_dim: int, processing_batch_size: int = 32
) -> Any:
    """Columns of `data` added with signs `s` at places `h` (Pham and Pagh, 2013)."""
    if h.size != data.shape[-1] or s.size != data.shape[-1]:
        raise ValueError(f"h {h.shape} and s {s.shape} must have {data.shape[-1]} elements")
    return _sketch_formula(xp, data, h, s, out_dim=out_dim)
