# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks: whole sequences, several layers, both directions.

The parameters are one flat array: for each layer and direction the weights of the inputs and
of the state (and of the projection), and after all of them the biases in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, values
from kvtrain.ops.registry import op

GATES = {"rnn_relu": 1, "rnn_tanh": 1, "gru": 3, "lstm": 4}


def _shapes(attrs: dict[str, Any], features: int) -> list[tuple[int, ...]]:
    """Shapes of the parts of `parameters`, weights first."""
    gates, units = GATES[attrs["mode"]] * attrs["state_size"], attrs["state_size"]
    out = attrs["projection_size"] or units
    directions = 2 if attrs["bidirectional"] else 1
    weights: list[tuple[int, ...]] = []
    biases: list[tuple[int, ...]] = []
    for layer in range(attrs["num_layers"]):
        inputs = features if layer == 0 else out * directions
        for _ in range(directions):
            weights += [(gates, inputs), (gates, out)]
            if attrs["projection_size"]:
                weights.append((out, units))
            biases += [(gates,), (gates,)]
    return weights + biases


def _size(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _cells(attrs: dict[str, Any], parts: list[Any]) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """(layer, direction, its parts: weights, biases, projection)."""
    directions = 2 if attrs["bidirectional"] else 1
    each = 3 if attrs["projection_size"] else 2
    biases = parts[each * directions * attrs["num_layers"] :]
    for layer in range(attrs["num_layers"]):
        for d in range(directions):
            i = layer * directions + d
            mine = parts[each * i : each * (i + 1)]
            yield layer, d, (*mine[:2], *biases[2 * i : 2 * i + 2], *mine[2:])


def _how(attrs: dict[str, Any], d: int) -> dict[str, Any]:
    low, high = attrs["lstm_state_clip_min"], attrs["lstm_state_clip_max"]
    clip = None if low is None or high is None else (low, high)
    return {"mode": attrs["mode"], "reverse": d == 1, "clip": clip}


def _split(flat: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    parts, at = [], 0
    for shape in shapes:
        parts.append(flat[at : at + _size(shape)].reshape(shape))
        at += _size(shape)
    return parts


def _step_mask(lengths: Any, steps: int, dtype: Any) -> Any:
    """(time, batch, 1): 1 where a sequence goes on."""
    counts = values(lengths).astype(np.int64)
    return (np.arange(steps)[:, None] < counts[None, :]).astype(np.dtype(dtype).name)[..., None]


def _inputs(attrs: dict[str, Any], rest: tuple[Any, ...]) -> tuple[Any, Any]:
    """(state_cell, sequence_length) among the optional inputs."""
    left = list(rest)
    cell = left.pop(0) if attrs["mode"] == "lstm" and left else None
    return cell, left.pop(0) if attrs["use_sequence_length"] and left else None


def _formula(xp: Any, data: Any, parameters: Any, state: Any, *rest: Any, **attrs: Any) -> Any:
    """The network in single operators: what its gradient of the gradient is derived from."""
    cells, lengths = _inputs(attrs, rest)
    steps = data.shape[0]
    mask = None if lengths is None else _step_mask(lengths, steps, data.dtype)
    parts = _split(parameters, _shapes(attrs, data.shape[2]))
    directions = 2 if attrs["bidirectional"] else 1
    x = [xp.reshape(data[t : t + 1], tuple(data.shape[1:])) for t in range(steps)]
    last_h, last_c, outs = [], [], []
    for layer, d, (wx, wh, bx, bh, *projection) in _cells(attrs, parts):
        how = _how(attrs, d)
        i = layer * directions + d
        h = xp.reshape(state[i : i + 1], tuple(state.shape[1:]))
        c = None if cells is None else xp.reshape(cells[i : i + 1], tuple(cells.shape[1:]))
        hs: list[Any] = [None] * steps
        for t in reversed(range(steps)) if how["reverse"] else range(steps):
            a = xp.dot(x[t], xp.transpose(wx)) + bx
            s = xp.dot(h, xp.transpose(wh)) + bh
            new_h, new_c = _cell(xp, attrs["mode"], a, s, h, c, how["clip"], projection)
            if mask is None:
                h, c, hs[t] = new_h, new_c, new_h
            else:
                m = np.broadcast_to(mask[t], tuple(new_h.shape))
                hs[t] = new_h * m
                h = hs[t] + h * (1 - m)
                if new_c is not None:
                    k = np.broadcast_to(mask[t], tuple(new_c.shape))
                    c = new_c * k + c * (1 - k)
        last_h.append(h)
        last_c.append(c)
        outs.append(hs)
        if d == directions - 1:
            x = [xp.concatenate([o[t] for o in outs], axis=1) for t in range(steps)]
            outs = []
            if attrs["masks"] is not None and layer < attrs["num_layers"] - 1:
                x = [v * attrs["masks"][layer][t] for t, v in enumerate(x)]
    made = (xp.stack(x, axis=0), xp.stack(last_h, axis=0))
    return made if cells is None else (*made, xp.stack(last_c, axis=0))


def _cell(
    xp: Any, mode: str, a: Any, s: Any, h: Any, c: Any, clip: Any, projection: list[Any]
) -> tuple[Any, Any]:
    units = a.shape[1] // GATES[mode]
    cut = [slice(units * i, units * (i + 1)) for i in range(GATES[mode])]
    if mode == "lstm":
        both = a + s
        i, f, o = (xp.sigmoid(both[:, cut[k]]) for k in (0, 1, 3))
        new_c = f * c + i * xp.tanh(both[:, cut[2]])
        if clip is not None:
            new_c = xp.clip(new_c, a_min=clip[0], a_max=clip[1])
        new_h = o * xp.tanh(new_c)
        return (xp.dot(new_h, xp.transpose(projection[0])) if projection else new_h), new_c
    if mode == "gru":
        r, z = (xp.sigmoid(a[:, k] + s[:, k]) for k in cut[:2])
        new = xp.tanh(a[:, cut[2]] + r * s[:, cut[2]])
        return (1 - z) * new + z * h, None
    return (xp.relu(a + s) if mode == "rnn_relu" else xp.tanh(a + s)), None


def _kernel_vjp(
    xp: Any, g: Any, out: Any, data: Any, parameters: Any, state: Any, *rest: Any, **attrs: Any
) -> tuple[Any, ...]:
    cells, lengths = _inputs(attrs, rest)
    mask = None if lengths is None else _step_mask(lengths, data.shape[0], data.dtype)
    shapes = _shapes(attrs, data.shape[2])
    parts = _split(parameters, shapes)
    layers = list(_cells(attrs, parts))
    directions = 2 if attrs["bidirectional"] else 1
    dout, dhs = g[0], g[1]
    kept = attrs["kept"]
    grads: list[Any] = [None] * len(layers)
    dstate = np.empty_like(state)
    dcells = None if cells is None else np.empty_like(cells)
    for layer in reversed(range(attrs["num_layers"])):
        if attrs["masks"] is not None and layer < attrs["num_layers"] - 1:
            dout = dout * attrs["masks"][layer]
        dx: Any = 0
        width = dout.shape[2] // directions
        for d in range(directions):
            i = layer * directions + d
            x, saved = kept[i]
            part, grads[i], dstate[i], dc = xp.rnn_layer_grad(
                np.ascontiguousarray(dout[..., d * width : (d + 1) * width]),
                dhs[i],
                None if cells is None else g[2][i],
                x,
                layers[i][2],
                mask,
                saved,
                **_how(attrs, d),
            )
            if dcells is not None:
                dcells[i] = dc
            dx = dx + part
        dout = dx
    weights = [w for part in grads for w in (*part[:2], *part[4:])]
    biases = [b for part in grads for b in part[2:4]]
    flat = np.concatenate([w.reshape(-1) for w in weights + biases])
    optional: list[Any] = [] if dcells is None else [dcells]
    return dout, flat, dstate, *optional, *(None,) * (len(rest) - len(optional))


_general = derived(_formula)


def _rnn_vjp(xp: Any, g: Any, out: Any, *inputs: Any, **attrs: Any) -> tuple[Any, ...]:
    shown = 3 if attrs["mode"] == "lstm" else 2
    if isinstance(inputs[0], np.ndarray):
        attrs = {**attrs, "kept": out[shown].item() if len(out) > shown else attrs["kept"]}
        return _kernel_vjp(xp, g[:shown], out, *inputs, **attrs)
    grads = _general(xp, g[:shown], out, *inputs, **attrs)
    count = 4 if attrs["mode"] == "lstm" else 3
    return (*grads[:count], *(None,) * (len(inputs) - count))


def _shown(attrs: dict[str, Any]) -> int:
    if not attrs["state_outputs"]:
        return 1
    return 3 if attrs["mode"] == "lstm" else 2


def _check(data: Any, parameters: Any, state: Any, attrs: dict[str, Any], rest: int) -> None:
    mode = attrs["mode"]
    if mode not in GATES:
        raise ValueError(f"mode={mode!r}; known: {', '.join(GATES)}")
    if data.ndim != 3:
        raise ValueError(f"data has shape {data.shape}; (time, batch, features) is needed")
    if attrs["projection_size"] and mode != "lstm":
        raise ValueError(f"projection_size is for mode 'lstm', not {mode!r}")
    needed = sum(map(_size, _shapes(attrs, data.shape[2])))
    if parameters.shape != (needed,):
        raise ValueError(f"parameters have shape {parameters.shape}; ({needed},) is needed")
    directions = 2 if attrs["bidirectional"] else 1
    units = attrs["projection_size"] or attrs["state_size"]
    wanted = (attrs["num_layers"] * directions, data.shape[1], units)
    if state.shape != wanted:
        raise ValueError(f"state has shape {state.shape}; {wanted} is needed")
    if rest != (mode == "lstm") + bool(attrs["use_sequence_length"]):
        raise ValueError("state_cell (for lstm) or sequence_length is missing or not asked for")


@op(
    "_rnn",
    vjp=_rnn_vjp,
    visible=_shown,
    public=False,
    modal=True,
    optional=("state_cell", "sequence_length"),
)
def _rnn(
    xp: Any,
    data: Any,
    parameters: Any,
    state: Any,
    /,
    *rest: Any,
    state_size: int,
    num_layers: int,
    bidirectional: bool = False,
    mode: str,
    p: float = 0.0,
    state_outputs: bool = False,
    projection_size: int | None = None,
    lstm_state_clip_min: float | None = None,
    lstm_state_clip_max: float | None = None,
    lstm_state_clip_nan: bool = False,
    use_sequence_length: bool = False,
    masks: Any = None,
    training: bool = False,
) -> Any:
    """A recurrent network over (time, batch, features).

    `masks` are those of dropout between the layers, one per layer but the last.
    """
    attrs = {
        "state_size": state_size,
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "mode": mode,
        "projection_size": projection_size,
        "lstm_state_clip_min": lstm_state_clip_min,
        "lstm_state_clip_max": lstm_state_clip_max,
        "use_sequence_length": use_sequence_length,
    }
    _check(data, parameters, state, attrs, len(rest))
    cells, lengths = _inputs(attrs, rest)
    mask = None if lengths is None else _step_mask(lengths, data.shape[0], data.dtype)
    x, outs, last_h, last_c, kept = data, [], [], [], []
    directions = 2 if bidirectional else 1
    for layer, d, weights in _cells(attrs, _split(parameters, _shapes(attrs, data.shape[2]))):
        i = layer * directions + d
        first = None if cells is None else cells[i]
        hs, h, c, saved = xp.rnn_layer(x, weights, state[i], first, mask, **_how(attrs, d))
        kept.append((x, saved))
        outs.append(hs)
        last_h.append(h)
        last_c.append(c)
        if d == directions - 1:
            x = outs[0] if directions == 1 else np.concatenate(outs, axis=2)
            outs = []
            if masks is not None and layer < num_layers - 1:
                x = x * masks[layer]
    made = [x, np.stack(last_h)]
    if cells is not None:
        made.append(np.stack(last_c))
    # the gradient's intermediate values ride along as one element that nobody sees
    box = np.empty((), object)
    box[()] = kept
    return (*made, box)
