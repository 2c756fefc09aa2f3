# SPDX-License-Identifier: Apache-2.0
"""The generator's states, and the distributions that read them straight through.

There are up to 1,024 MT19937 states; state i is seeded with ``seed * 127 + i``. A draw of N
values is cut into ``T = min(ceil(N / 64), 1024)`` runs of ``ceil(N / T)`` consecutive values,
run i taken from state i.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from kvtrain.context import Context
from kvtrain.logf import logf

STATES = 1024
_RUN = 64
Array = np.ndarray[Any, Any]


class Stream:
    """One MT19937 state that hands out 32-bit words and takes back unused ones."""

    __slots__ = ("_bits", "_kept")

    def __init__(self, seed: int) -> None:
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)._bit_generator
        self._kept: Array | None = None

    def words(self, count: int) -> Array:
        """The next `count` outputs, as uint32."""
        kept = self._kept
        if kept is None:
            return self._bits.random_raw(count).astype(np.uint32)
        if kept.size < count:
            more = self._bits.random_raw(count - kept.size).astype(np.uint32)
            kept = np.concatenate([kept, more])
        self._kept = kept[count:] if kept.size > count else None
        return kept[:count]

    def unread(self, words: Array) -> None:
        """Give back words taken last and not used."""
        if words.size:
            self._kept = words if self._kept is None else np.concatenate([words, self._kept])


class Generators:
    """The seed and the states; one lock, since threads share them.

    As in MXNet, all CPU contexts draw from one set of states.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.seed = seed
        self.base = seed * 127
        self.streams: list[Stream] = []
        #: what multinomial and shuffle draw from
        self.serial = Stream(self.base)

    def stream(self, i: int) -> Stream:
        while len(self.streams) <= i:
            self.streams.append(Stream(self.base + len(self.streams)))
        return self.streams[i]


generators = Generators()


def seed(seed_state: int, ctx: Context | str = "all") -> None:
    """Seed the generators.

    Parameters
    ----------
    seed_state : int
        The seed.
    ctx : Context or "all"
        Whose generators; all CPU contexts share one set, so every choice has the same effect.
    """
    if not isinstance(seed_state, int | np.integer):
        raise ValueError(f"seed: {seed_state!r} is not an integer")
    with generators.lock:
        generators.reset(int(seed_state))


def last_seed() -> int:
    """The seed in force; 0 at the start."""
    with generators.lock:
        return generators.seed


def runs(count: int) -> tuple[int, int]:
    """How many values a run of a draw of `count` has, and how many runs there are."""
    if not count:
        return 0, 0
    step = -(-count // min(-(-count // _RUN), STATES))
    return step, -(-count // step)


def _draw(count: int, run: Any) -> Array:
    """Concatenate ``run(stream, n)`` over the runs of a draw of `count` values."""
    if count == 0:
        return np.empty(0, np.float32)
    step, _ = runs(count)
    with generators.lock:
        parts = [
            run(generators.stream(i), min(step, count - low))
            for i, low in enumerate(range(0, count, step))
        ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_SCALE = np.float32(2.0**-32)


def unit_of(words: Array) -> Array:
    """``[0, 1)`` in float32, one word each, as std::generate_canonical."""
    out: Array = words.astype(np.float32) * _SCALE
    np.minimum(out, np.float32(1.0 - 2.0**-24), out=out)
    return out


def unit_double(words: Array) -> Array:
    """``[0, 1)`` in float64, two words each, the first the low one."""
    pairs = words.reshape(-1, 2).astype(np.float64)
    out = (pairs[:, 0] + pairs[:, 1] * 2.0**32) * 2.0**-64
    return np.minimum(out, 1.0 - 2.0**-53, out=out)


def unit(count: int, dtype: str = "float32") -> Array:
    """`count` numbers of float32 or float64, uniform in [0, 1)."""
    if dtype == "float64":
        return _draw(count, lambda stream, n: unit_double(stream.words(2 * n)))
    return _draw(count, lambda stream, n: unit_of(stream.words(n)))


def _polar(stream: Stream, count: int, words_each: int, unit: Any, log: Any) -> Array:
    """Standard normal by the polar method; each value starts with a fresh pair."""
    found: list[Array] = []
    have = 0
    while have < count:
        want = count - have
        words = stream.words(2 * words_each * (want + want // 3 + 4))
        units = unit(words)
        kind = units.dtype.type
        pairs = kind(2.0) * units.reshape(-1, 2) - kind(1.0)
        x, y = pairs[:, 0], pairs[:, 1]
        r2 = x * x + y * y
        good = np.flatnonzero((r2 <= 1) & (r2 != 0))[:want]
        if good.size == want:
            stream.unread(words[2 * words_each * (good[-1] + 1) :])
        r2 = r2[good]
        found.append(y[good] * np.sqrt(kind(-2.0) * log(r2) / r2))
        have += good.size
    return np.concatenate(found)


def _log_double(x: Array) -> Array:
    """The C library's logarithm, which may differ from NumPy's in the last bit."""
    return np.array([math.log(value) for value in x.tolist()])


def standard_normal(count: int, dtype: str = "float32") -> Array:
    """`count` numbers of float32 or float64 of the standard normal distribution."""
    if dtype == "float64":
        return _draw(count, lambda stream, n: _polar(stream, n, 2, unit_double, _log_double))
    return _draw(count, lambda stream, n: _polar(stream, n, 1, unit_of, logf))


def standard_exponential(count: int, dtype: str = "float32") -> Array:
    """`count` numbers of float32 or float64 of the exponential distribution of mean 1."""
    if dtype == "float64":
        return -_log_double(1.0 - unit(count, dtype))
    return (-np.log(1.0 - unit(count).astype(np.float64))).astype(np.float32)


def generator() -> np.random.Generator:
    """A NumPy generator seeded from the first state, for other distributions."""
    with generators.lock:
        words = generators.stream(0).words(4)
    return np.random.Generator(np.random.PCG64([int(w) for w in words]))
