# SPDX-License-Identifier: Apache-2.0
"""One direction of one layer of a recurrent network, over a whole sequence.

The products with the inputs of all steps are one matrix product; only the products with the
state run step by step. Sequences are (time, batch, features). `mask` (time, batch, 1) is 1
where a step exists: elsewhere the state is kept and the output is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Kept = dict[str, Any]
GATES = {"rnn_relu": 1, "rnn_tanh": 1, "gru": 3, "lstm": 4}


def _sigmoid(a: Array) -> Array:
    """In place."""
    a *= a.dtype.type(0.5)
    np.tanh(a, out=a)
    a += 1
    a *= a.dtype.type(0.5)
    return a


def rnn_layer(
    x: Array,
    weights: tuple[Array, ...],
    h0: Array,
    c0: Array | None,
    mask: Array | None,
    **how: Any,
) -> tuple[Array, Array, Array | None, Kept]:
    """Run a layer in one direction.

    Parameters
    ----------
    x : (t, n, i)
    weights : (input, state, input bias, state bias[, projection])
    h0, c0 : (n, h)
        First states; c0 for lstm.
    how : mode, reverse, clip
        One of GATES; from the last step to the first; None or (low, high) for the lstm's cell.

    Returns
    -------
    output (t, n, h), last h, last c, and what the gradient needs
    """
    mode, reverse, clip = how["mode"], how["reverse"], how["clip"]
    steps, n = x.shape[:2]
    wx, wh, bx, bh = weights[:4]
    gates = (x.reshape(steps * n, -1) @ wx.T).reshape(steps, n, -1)
    gates += bx if mode == "gru" else bx + bh
    units = wh.shape[0] // GATES[mode]
    hs = np.empty((steps, n, h0.shape[1]), x.dtype)
    kept: Kept = {"gates": gates, "before": np.empty_like(hs)}
    if mode == "lstm":
        kept["cells"] = np.empty((steps, n, units), x.dtype)
        kept["cells_before"] = np.empty_like(kept["cells"])
        kept["raw_h"] = np.empty_like(kept["cells"])
    if mode == "gru":
        kept["new"] = np.empty((steps, n, units), x.dtype)
    h, c = h0, c0
    for t in reversed(range(steps)) if reverse else range(steps):
        kept["before"][t] = h
        a = gates[t]
        if mode == "lstm":
            assert c is not None
            kept["cells_before"][t] = c
            a += h @ wh.T
            _sigmoid(a[:, : 2 * units])
            np.tanh(a[:, 2 * units : 3 * units], out=a[:, 2 * units : 3 * units])
            _sigmoid(a[:, 3 * units :])
            i, f, g, o = np.split(a, 4, axis=1)
            new_c = f * c + i * g
            if clip is not None:
                new_c = np.clip(new_c, *clip)
            kept["cells"][t] = new_c
            new_h = o * np.tanh(new_c)
            kept["raw_h"][t] = new_h
            if len(weights) > 4:
                new_h = new_h @ weights[4].T
        elif mode == "gru":
            s = h @ wh.T + bh
            r = _sigmoid(np.add(a[:, :units], s[:, :units], out=a[:, :units]))
            z = _sigmoid(
                np.add(
                    a[:, units : 2 * units],
                    s[:, units : 2 * units],
                    out=a[:, units : 2 * units],
                )
            )
            kept["new"][t] = s[:, 2 * units :]
            a[:, 2 * units :] += r * s[:, 2 * units :]
            np.tanh(a[:, 2 * units :], out=a[:, 2 * units :])
            new_h = (1 - z) * a[:, 2 * units :] + z * h
            new_c = None
        else:
            a += h @ wh.T
            new_h = np.maximum(a, 0, out=a) if mode == "rnn_relu" else np.tanh(a, out=a)
            new_c = None
        if mask is None:
            h, c, hs[t] = new_h, new_c, new_h
        else:
            m = mask[t]
            hs[t] = m * new_h
            h = hs[t] + (1 - m) * h
            c = None if new_c is None else m * new_c + (1 - m) * c
    return hs, h, c, kept


def rnn_layer_grad(
    dhs: Array,
    dh: Array,
    dc: Array | None,
    x: Array,
    weights: tuple[Array, ...],
    mask: Array | None,
    kept: Kept,
    **how: Any,
) -> tuple[Array, tuple[Array, ...], Array, Array | None]:
    """Gradients of :func:`rnn_layer` by x, the weights, h0 and c0, from those of its outputs."""
    mode, reverse, clip = how["mode"], how["reverse"], how["clip"]
    steps, n = x.shape[:2]
    wx, wh = weights[:2]
    units = wh.shape[0] // GATES[mode]
    gates, before = kept["gates"], kept["before"]
    da = np.empty_like(gates)
    ds = np.empty_like(gates) if mode == "gru" else da
    dproj = np.zeros_like(weights[4]) if len(weights) > 4 else None
    for t in range(steps) if reverse else reversed(range(steps)):
        if mask is None:
            d, old, old_c = dh + dhs[t], None, None
        else:
            m = mask[t]
            d, old = m * (dh + dhs[t]), (1 - m) * dh
            if dc is not None:
                dc, old_c = m * dc, (1 - m) * dc
        a, out = gates[t], da[t]
        if mode == "lstm":
            assert dc is not None
            if dproj is not None:
                dproj += d.T @ kept["raw_h"][t]
                d = d @ weights[4]
            i, f, g, o = np.split(a, 4, axis=1)
            tc = np.tanh(kept["cells"][t])
            dcell = dc + d * o * (1 - tc * tc)
            if clip is not None:
                cell = kept["cells"][t]
                dcell = dcell * ((cell > clip[0]) & (cell < clip[1]))
            out[:, :units] = dcell * g * i * (1 - i)
            out[:, units : 2 * units] = dcell * kept["cells_before"][t] * f * (1 - f)
            out[:, 2 * units : 3 * units] = dcell * i * (1 - g * g)
            out[:, 3 * units :] = d * tc * o * (1 - o)
            dc = dcell * f
            dh = out @ wh
        elif mode == "gru":
            r, z, new = np.split(a, 3, axis=1)
            dnew = d * (1 - z) * (1 - new * new)
            out[:, 2 * units :] = dnew
            out[:, :units] = dnew * kept["new"][t] * r * (1 - r)
            out[:, units : 2 * units] = d * (before[t] - new) * z * (1 - z)
            inner = ds[t]
            inner[...] = out
            inner[:, 2 * units :] = dnew * r
            dh = inner @ wh + d * z
        else:
            out[...] = d * (a > 0) if mode == "rnn_relu" else d * (1 - a * a)
            dh = out @ wh
        if mask is not None:
            dh = dh + old
            if dc is not None and old_c is not None:
                dc = dc + old_c
    flat = da.reshape(steps * n, -1)
    inner = ds.reshape(steps * n, -1)
    grads = (
        flat.T @ x.reshape(steps * n, -1),
        inner.T @ before.reshape(steps * n, -1),
        flat.sum(axis=0),
        inner.sum(axis=0),
    )
    dx = (flat @ wx).reshape(x.shape)
    return dx, (grads if dproj is None else (*grads, dproj)), dh, dc
