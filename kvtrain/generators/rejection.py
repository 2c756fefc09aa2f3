# SPDX-License-Identifier: Apache-2.0
"""Distributions that draw as often as they need: the runs of a draw go side by side.

A draw is cut into runs, each from its own state (see state.py). Run i handles its elements in
order; here element j of all runs is handled at once, each run with a place of its own in its
words. Parameters are one number or one per element. The formulas are those of MXNet, rounded
where it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.generators.state import Stream, generators, runs, unit_double, unit_of
from kvtrain.logf import logf

Array = np.ndarray[Any, Any]
_CHUNK = 64


class Lanes:
    """The streams of several runs, each read at its own pace."""

    def __init__(self, streams: list[Stream], double: bool) -> None:
        self._streams = streams
        self._each = 2 if double else 1
        self._units = unit_double if double else unit_of
        self._words = np.empty((len(streams), 0), np.uint32)
        self._at = np.zeros(len(streams), np.int64)
        self.kind: Any = np.float64 if double else np.float32

    def words(self, who: Array, count: int) -> Array:
        """The next `count` words of the runs numbered `who`, (len(who), count)."""
        starts = self._at[who]
        need = int(starts.max()) + count - self._words.shape[1] if who.size else 0
        if need > 0:
            more = np.stack([s.words(max(need, _CHUNK)) for s in self._streams])
            self._words = np.concatenate([self._words, more], axis=1)
        found: Array = self._words[who[:, None], starts[:, None] + np.arange(count)]
        self._at[who] += count
        return found

    def unit(self, who: Array) -> Array:
        """Uniform in [0, 1), one for each of `who`."""
        return self._units(self.words(who, self._each).reshape(-1))

    def normal(self, who: Array) -> Array:
        """Standard normal by the polar method, one for each of `who`."""
        out = np.empty(who.size, self.kind)
        open_ = np.arange(who.size)
        while open_.size:
            pairs = self._units(self.words(who[open_], 2 * self._each).reshape(-1))
            both = self.kind(2.0) * pairs.reshape(-1, 2) - self.kind(1.0)
            x, y = both[:, 0], both[:, 1]
            r2 = x * x + y * y
            good = (r2 <= 1) & (r2 != 0)
            kept = r2[good]
            logs = logf(kept) if self.kind is np.float32 else np.log(kept)
            out[open_[good]] = y[good] * np.sqrt(self.kind(-2.0) * logs / kept)
            open_ = open_[~good]
        return out

    def close(self) -> None:
        """Give back what was read ahead."""
        for stream, words, at in zip(self._streams, self._words, self._at, strict=True):
            stream.unread(words[at:])


def _draw(
    count: int, double: bool, parameters: tuple[Any, ...], element: Callable[..., Array]
) -> Array:
    """``element(lanes, who, *parameters)`` for each of `count` places, in the runs' order."""
    out = np.empty(count, np.float64)
    if not count:
        return out
    step, number = runs(count)
    whole = [np.asarray(p).reshape(-1) for p in parameters]
    with generators.lock:
        lanes = Lanes([generators.stream(i) for i in range(number)], double)
        try:
            for j in range(step):
                places = np.arange(number) * step + j
                who = np.flatnonzero(places < count)
                places = places[who]
                mine = [p[places] if p.size > 1 else np.broadcast_to(p, who.shape) for p in whole]
                out[places] = element(lanes, who, *mine)
        finally:
            lanes.close()
    return out


def _gamma(lanes: Lanes, who: Array, a: Array, b: Array) -> Array:
    """Marsaglia and Tsang (2000)."""
    kind = lanes.kind
    d = np.where(a < 1, a + 2.0 / 3.0, a - 1.0 / 3.0).astype(kind)
    k = np.sqrt(9.0 * d.astype(np.float64)).astype(kind)
    c = (1.0 / k.astype(np.float64)).astype(kind)
    out = np.empty(who.size, np.float64)
    open_ = np.arange(who.size)
    while open_.size:
        z = lanes.normal(who[open_])
        wide = z > -k[open_]
        tried = open_[wide]
        z, dd = z[wide], d[tried]
        if tried.size:
            x = (1.0 + (c[tried] * z).astype(np.float64)).astype(kind)
            v = x * x * x
            u = lanes.unit(who[tried]).astype(np.float64)
            logs = np.log(v.astype(np.float64)).astype(kind).astype(np.float64)
            z64, v64 = z.astype(np.float64), v.astype(np.float64)
            bound = 0.5 * z64 * z64 + dd.astype(np.float64) * (1.0 - v64 + logs)
            good = np.log(1.0 - u) < bound
            done = tried[good]
            out[done] = (dd[good] * v[good]).astype(kind) * b[done].astype(kind)
        else:
            done = tried
        open_ = np.setdiff1d(open_, done, assume_unique=True)
    small = np.flatnonzero(a < 1)
    if small.size:
        u = lanes.unit(who[small])
        power = np.power(u, (1.0 / a[small].astype(np.float64)).astype(kind))
        out[small] = out[small].astype(kind) * power
    return out.astype(kind)


def _poisson(lanes: Lanes, who: Array, lam: Array) -> Array:
    """Products of uniforms for small means; Numerical Recipes' rejection for large ones."""
    lam = lam.astype(np.float32)
    out = np.zeros(who.size, np.float64)
    few = np.flatnonzero(lam < 12.0)
    if few.size:
        limit = np.exp(-lam[few].astype(np.float64)).astype(np.float32)
        product = lanes.unit(who[few]).astype(np.float32)
        open_ = np.flatnonzero(product > limit)
        while open_.size:
            out[few[open_]] += 1
            product[open_] *= lanes.unit(who[few[open_]]).astype(np.float32)
            open_ = open_[product[open_] > limit[open_]]
    many = np.flatnonzero(~(lam < 12.0))
    if many.size:
        out[many] = _poisson_large(lanes, who[many], lam[many])
    return out


_lgamma = np.frompyfunc(math.lgamma, 1, 1)


def _log_gamma(x: Array) -> Array:
    """In single precision."""
    return np.asarray(_lgamma(x.astype(np.float64)), np.float64).astype(np.float32)


def _poisson_large(lanes: Lanes, who: Array, lam: Array) -> Array:
    f32 = np.float32
    wide = lam.astype(np.float64)
    root = np.sqrt(2.0 * wide).astype(f32)
    logs = np.log(wide).astype(f32)
    g = lam * logs - _log_gamma((wide + 1.0).astype(f32))
    out = np.empty(who.size, np.float64)
    open_ = np.arange(who.size)
    while open_.size:
        y = np.empty(open_.size, f32)
        em = np.full(open_.size, -1, f32)
        low = np.arange(open_.size)
        while low.size:
            u = lanes.unit(who[open_[low]]).astype(f32)
            y[low] = np.tan((f32(np.pi) * u).astype(np.float64)).astype(f32)
            em[low] = root[open_[low]] * y[low] + lam[open_[low]]
            low = low[em[low] < 0]
        em = np.floor(em)
        inner = em * logs[open_] - _log_gamma((em.astype(np.float64) + 1.0).astype(f32)) - g[open_]
        y64 = y.astype(np.float64)
        t = (0.9 * (1.0 + y64 * y64) * np.exp(inner.astype(np.float64)).astype(f32)).astype(f32)
        good = ~(lanes.unit(who[open_]).astype(f32) > t)
        out[open_[good]] = em[good]
        open_ = open_[~good]
    return out


def integers(count: int, low: int, high: int) -> Array:
    """int64 in ``[low, high)``: two words each."""

    def element(lanes: Lanes, who: Array) -> Array:
        words = lanes.words(who, 2).astype(np.int64)
        return (words[:, 0] << 31) + words[:, 1]

    out = np.empty(count, np.int64)
    step, number = runs(count)
    with generators.lock:
        for i in range(number):
            mine = out[i * step : (i + 1) * step]
            words = generators.stream(i).words(2 * mine.size).astype(np.int64)
            mine[...] = (words[0::2] << 31) + words[1::2]
    return low + out % (high - low)


def gamma(count: int, alpha: Any, beta: Any, double: bool) -> Array:
    """Gamma of shape `alpha` and scale `beta`."""
    return _draw(count, double, (alpha, beta), _gamma)


def poisson(count: int, lam: Any, double: bool) -> Array:
    """Poisson of mean `lam`."""
    return _draw(count, double, (lam,), _poisson)


def negative_binomial(count: int, k: Any, p: Any, double: bool) -> Array:
    """Failures before the `k`-th success of probability `p`."""

    def element(lanes: Lanes, who: Array, successes: Array, chance: Array) -> Array:
        scale = ((1.0 - chance.astype(np.float64)) / chance.astype(np.float64)).astype(np.float32)
        rate = _gamma(lanes, who, successes.astype(np.float32), scale)
        return _poisson(lanes, who, rate)

    return _draw(count, double, (k, p), element)


def generalized_negative_binomial(count: int, mu: Any, alpha: Any, double: bool) -> Array:
    """Negative binomial of mean `mu` and dispersion `alpha`."""

    def element(lanes: Lanes, who: Array, mean: Array, spread: Array) -> Array:
        rate = np.array(mean, np.float32)
        some = np.flatnonzero(spread != 0)
        if some.size:
            a = (1.0 / spread[some].astype(np.float64)).astype(np.float32)
            b = (spread[some] * mean[some]).astype(np.float32)
            rate[some] = _gamma(lanes, who[some], a, b)
        return _poisson(lanes, who, rate)

    return _draw(count, double, (mu, alpha), element)
