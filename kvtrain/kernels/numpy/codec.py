# SPDX-License-Identifier: Apache-2.0
"""Gradient codecs on flat float32 arrays, over blocks that fit the cache.

Encoders write into `out`; decoders overwrite `out`. Wires are little-endian on every machine.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: elements of one block
BLOCK = 64 * 1024
#: values that share one scale in the 1-bit codec
GROUP = 1024
#: moves four 2-bit codes, one in each byte of a word, together into its top byte
_GATHER = np.uint32(1 << 30 | 1 << 20 | 1 << 10 | 1)
_local = threading.local()


def _scratch(name: str, dtype: Any) -> Array:
    held: Array | None = getattr(_local, name, None)
    if held is None:
        held = np.empty(BLOCK, dtype)
        setattr(_local, name, held)
    return held


def twobit_encode(total: Array, threshold: float, out: Array) -> None:
    """MXNet's 2-bit quantisation of ``residual + gradient``.

    A value of at least `threshold` becomes code 11, one of at most ``-threshold`` code 10, all
    others 00; four codes to a byte, the first in its top bits. What was sent is subtracted
    from `total`, which so becomes the new residual.

    Parameters
    ----------
    total : float32 array (n,)
        Changed in place.
    out : uint8 array (ceil(n / 4),)
    """
    t = np.float32(threshold)
    positive, negative = _scratch("flags_p", np.bool_), _scratch("flags_n", np.bool_)
    signs, sent = _scratch("signs", np.int8), _scratch("sent", np.float32)
    for low in range(0, total.size, BLOCK):
        r = total[low : low + BLOCK]
        n = r.size
        p, m, s, f = positive[:n], negative[:n], signs[:n], sent[:n]
        np.greater_equal(r, t, out=p)
        np.less_equal(r, -t, out=m)
        np.subtract(p.view(np.int8), m.view(np.int8), out=s)
        np.multiply(s, t, out=f, casting="unsafe")
        np.subtract(r, f, out=r)
        codes, ones = m.view(np.uint8), p.view(np.uint8)
        np.bitwise_or(codes, ones, out=codes)
        np.add(codes, codes, out=codes)
        np.bitwise_or(codes, ones, out=codes)
        whole = n // 4
        words = codes[: whole * 4].view("<u4")
        np.multiply(words, _GATHER, out=words)
        np.right_shift(words, 24, out=words)
        wire = out[low // 4 : low // 4 + -(-n // 4)]
        np.copyto(wire[:whole], words, casting="unsafe")
        if n % 4:
            last = 0
            for place, code in enumerate(codes[whole * 4 :].tolist()):
                last |= code << (6 - 2 * place)
            wire[whole] = last


def _twobit_table() -> Array:
    codes = np.arange(256, dtype=np.uint8)[:, None] >> np.array([6, 4, 2, 0], np.uint8) & 3
    return np.choose(codes, (0.0, 0.0, -1.0, 1.0)).astype(np.float32)


_TWOBIT = _twobit_table()


def twobit_decode(wire: Array, threshold: float, out: Array) -> None:
    """Values ``threshold``, ``-threshold`` or 0 of :func:`twobit_encode`'s codes; 01 is 0."""
    fours = (_TWOBIT * np.float32(threshold)).view(np.complex128).reshape(-1)
    whole = out.size // 4
    np.take(fours, wire[:whole], out=_items(out[: whole * 4], np.complex128), mode="clip")
    if out.size % 4:
        out[whole * 4 :] = fours[wire[whole]].reshape(1).view(np.float32)[: out.size % 4]


def _items(part: Array, kind: Any) -> Array:
    """Several float32 seen as one item; an empty array stays empty."""
    return part.view(kind) if part.size else np.empty(0, kind)


def onebit_encode(values: Array, scales: Array, bits: Array) -> None:
    """Signs, and for each group of GROUP values the mean of their magnitudes.

    Parameters
    ----------
    scales : float32 array (ceil(n / GROUP),)
    bits : uint8 array (ceil(n / 8),)
        1 for a value that is not negative; the first in the top bit of the first byte.
    """
    signs, sizes = _scratch("flags_p", np.bool_), _scratch("sent", np.float32)
    for low in range(0, values.size, BLOCK):
        v = values[low : low + BLOCK]
        n = v.size
        np.greater_equal(v, 0, out=signs[:n])
        packed = np.packbits(signs[:n])
        bits[low // 8 : low // 8 + packed.size] = packed
        np.abs(v, out=sizes[:n])
        whole, first = n // GROUP, low // GROUP
        if whole:
            rows = sizes[: whole * GROUP].reshape(whole, GROUP)
            np.mean(rows, axis=1, out=scales[first : first + whole])
        if n % GROUP:
            scales[first + whole] = sizes[whole * GROUP : n].mean()


_SIGNS = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8), 1.0, -1.0)
_EIGHTS = np.ascontiguousarray(_SIGNS, np.float32).view("V32").reshape(-1)


def onebit_decode(scales: Array, bits: Array, out: Array) -> None:
    """The scale of the group with the value's sign."""
    whole = out.size // 8
    np.take(_EIGHTS, bits[:whole], out=_items(out[: whole * 8], "V32"), mode="clip")
    if out.size % 8:
        out[whole * 8 :] = _SIGNS[bits[whole], : out.size % 8]
    groups = out.size // GROUP
    if groups:
        rows = out[: groups * GROUP].reshape(groups, GROUP)
        np.multiply(rows, scales[:groups, None], out=rows)
    if out.size % GROUP:
        out[groups * GROUP :] *= scales[groups]


def fp16_encode(values: Array, out: Array) -> None:
    """To float16; what does not fit becomes its largest finite number, not infinity."""
    largest = np.float32(65504.0)
    clipped = _scratch("sent", np.float32)
    for low in range(0, values.size, BLOCK):
        v = values[low : low + BLOCK]
        part = clipped[: v.size]
        np.clip(v, -largest, largest, out=part)
        np.copyto(out[low : low + BLOCK], part, casting="same_kind")


def bf16_encode(values: Array, out: Array) -> None:
    """The upper halves of float32 as uint16, rounded to the nearest, ties to even.

    A value that would round up to infinity becomes the largest finite one; NaN stays NaN.
    """
    lows, highs = _scratch("words_a", np.uint32), _scratch("words_b", np.uint32)
    for low in range(0, values.size, BLOCK):
        u = values[low : low + BLOCK].view(np.uint32)
        a, b = lows[: u.size], highs[: u.size]
        np.right_shift(u, 16, out=a)
        np.bitwise_and(a, 1, out=a)
        np.add(a, 0x7FFF, out=a)
        np.add(a, u, out=b)
        np.right_shift(b, 16, out=b)
        part = out[low : low + BLOCK]
        np.copyto(part, b, casting="unsafe")
        # an exponent of all ones: came from infinity or NaN, or was rounded up to it
        np.bitwise_and(b, 0x7F80, out=a)
        v = values[low : low + BLOCK]
        if (a == 0x7F80).any() or np.isnan(np.dot(v, v)):
            _mend_bf16(v, part)


def _mend_bf16(values: Array, part: Array) -> None:
    sign = np.signbit(values).astype(np.uint16) << 15
    over = ((part & 0x7F80) == 0x7F80) & np.isfinite(values)
    part[over] = sign[over] | 0x7F7F
    part[np.isnan(values)] = 0x7FC0


def bf16_decode(wire: Array, out: Array) -> None:
    """Halves of :func:`bf16_encode` (uint16) to float32."""
    words = out.view(np.uint32)
    for low in range(0, out.size, BLOCK):
        w = words[low : low + BLOCK]
        np.copyto(w, wire[low : low + BLOCK])
        np.left_shift(w, 16, out=w)


def topk_encode(values: Array, counts: list[int], places: Array, out: Array) -> None:
    """The values of largest magnitude of each block, in their order.

    Parameters
    ----------
    counts : list of int
        How many of each block of BLOCK values.
    places : uint16 array (sum of counts,)
        Their places within the block, ascending.
    out : float32 array (sum of counts,)
    """
    sizes = _scratch("sent", np.float32)
    at = 0
    for low, count in zip(range(0, values.size, BLOCK), counts, strict=True):
        v = values[low : low + BLOCK]
        size = sizes[: v.size]
        np.abs(v, out=size)
        chosen = _largest(size, count)
        places[at : at + count] = chosen
        np.take(v, chosen, out=out[at : at + count], mode="clip")
        at += count


def _largest(size: Array, count: int) -> Array:
    """Places of the `count` largest, ascending; a sample tells most of the others apart."""
    if count == size.size:
        return np.arange(count)
    sample = size[::61]
    spare = count * sample.size // size.size * 2 + 8
    if spare < sample.size:
        least = np.partition(sample, sample.size - spare)[sample.size - spare]
        # what is NaN belongs to the largest, as it does for a sort
        near = np.flatnonzero(~(size < least))
        if near.size >= count:
            best = np.argpartition(size[near], near.size - count)[near.size - count :]
            return near[np.sort(best)]
    return np.sort(np.argpartition(size, size.size - count)[size.size - count :])


def topk_decode(counts: list[int], places: Array, values: Array, out: Array) -> None:
    """The values at their places, 0 elsewhere."""
    out[...] = 0
    at = 0
    for low, count in zip(range(0, out.size, BLOCK), counts, strict=True):
        out[low : low + BLOCK][places[at : at + count]] = values[at : at + count]
        at += count
