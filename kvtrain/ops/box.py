# SPDX-License-Identifier: Apache-2.0
"""Boxes of object detection: overlap, suppression, coding, matching."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.derive import derived, flat, run
from kvtrain.ops.registry import op

Array = np.ndarray[Any, Any]


def corners(boxes: Array, layout: str) -> Array:
    """(..., 4) as left, top, right, bottom."""
    if layout == "corner":
        return boxes
    if layout != "center":
        raise ValueError(f"format={layout!r}; known: corner, center")
    half = boxes[..., 2:4] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def centers(boxes: Array) -> Array:
    """Corners (..., 4) as x, y, width, height."""
    size = boxes[..., 2:4] - boxes[..., :2]
    return np.concatenate([boxes[..., :2] + size / 2, size], axis=-1)


def overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of corner boxes (n, 4) and (m, 4); (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    inner = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a = np.prod(np.maximum(a[:, 2:4] - a[:, :2], 0), axis=-1)
    area_b = np.prod(np.maximum(b[:, 2:4] - b[:, :2], 0), axis=-1)
    union = area_a[:, None] + area_b[None] - inner
    return np.where(union > 0, inner / np.where(union > 0, union, 1), 0).astype(a.dtype)


@op("_contrib_box_iou", vjp=flat)
def _box_iou(xp: Any, lhs: Any, rhs: Any, /, *, format: str = "corner") -> Any:
    """Intersection over union of every box of `lhs` with every box of `rhs`."""
    if lhs.shape[-1] != 4 or rhs.shape[-1] != 4:
        raise ValueError(f"lhs {lhs.shape} and rhs {rhs.shape} must end in 4 coordinates")
    a, b = corners(lhs, format).reshape(-1, 4), corners(rhs, format).reshape(-1, 4)
    return overlaps(a, b).reshape(lhs.shape[:-1] + rhs.shape[:-1])


def suppressed(boxes: Array, classes: Any, threshold: float) -> list[int]:
    """Boxes (corner, best first) kept: those that no kept one before overlaps too much."""
    kept: list[int] = []
    gone = np.zeros(len(boxes), bool)
    for i in range(len(boxes)):
        if gone[i]:
            continue
        kept.append(i)
        rest = overlaps(boxes[i : i + 1], boxes[i + 1 :])[0] > threshold
        if classes is not None:
            rest &= classes[i + 1 :] == classes[i]
        gone[i + 1 :] |= rest
    return kept


def _nms_one(
    data: Array,
    overlap_thresh: float,
    valid_thresh: float,
    topk: int,
    coord_start: int,
    score_index: int,
    id_index: int,
    background_id: int,
    force_suppress: bool,
    in_format: str,
) -> Array:
    """Rows of one image that stay, best first."""
    scores = data[:, score_index]
    valid = scores > valid_thresh
    if id_index >= 0 and background_id >= 0:
        valid &= data[:, id_index] != background_id
    order = np.flatnonzero(valid)
    order = order[np.argsort(-scores[order], kind="stable")]
    order = order[:topk] if topk > 0 else order
    boxes = corners(data[order, coord_start : coord_start + 4], in_format)
    classes = None if force_suppress or id_index < 0 else data[order, id_index]
    return order[suppressed(boxes, classes, overlap_thresh)]


def _nms_vjp(xp: Any, g: Any, out: Any, data: Any, **attrs: Any) -> tuple[Any, ...]:
    places = out[1] if isinstance(out[1], np.ndarray) else out[1].asnumpy()
    flat = places.reshape(-1).astype(np.int64)
    width = data.shape[-1]
    kept = np.flatnonzero(flat >= 0)
    rows = run(xp, "_index", xp.reshape(g[0], (-1, width)), key=kept)
    whole = xp.index_grad(rows, shape=(flat.size, width), key=flat[kept])
    return (xp.reshape(whole, tuple(data.shape)),)


@op(
    "_contrib_box_nms",
    vjp=_nms_vjp,
    aliases=("_contrib_box_non_maximum_suppression",),
    visible=lambda attrs: 1,
)
def _box_nms(
    xp: Any,
    data: Any,
    /,
    *,
    overlap_thresh: float = 0.5,
    valid_thresh: float = 0.0,
    topk: int = -1,
    coord_start: int = 2,
    score_index: int = 1,
    id_index: int = -1,
    background_id: int = -1,
    force_suppress: bool = False,
    in_format: str = "corner",
    out_format: str = "corner",
) -> Any:
    """Non-maximum suppression; what is suppressed becomes rows of -1 at the end."""
    if data.ndim < 2 or data.shape[-1] < coord_start + 4:
        raise ValueError(f"data has shape {data.shape}; (..., boxes, values of a box) is needed")
    flat = data.reshape(-1, *data.shape[-2:])
    out = np.full_like(flat, -1)
    places = np.full(flat.shape[:2], -1, np.int64)
    for i, rows in enumerate(flat):
        kept = _nms_one(
            rows,
            overlap_thresh,
            valid_thresh,
            topk,
            coord_start,
            score_index,
            id_index,
            background_id,
            force_suppress,
            in_format,
        )
        out[i, : len(kept)] = rows[kept]
        places[i, : len(kept)] = kept + i * flat.shape[1]
        if in_format != out_format:
            where = slice(coord_start, coord_start + 4)
            boxes = rows[kept, where]
            turned = centers(boxes) if in_format == "corner" else corners(boxes, in_format)
            out[i, : len(kept), where] = turned
    return out.reshape(data.shape), places


@op("_contrib_bipartite_matching", vjp=flat)
def _bipartite_matching(
    xp: Any, data: Any, /, *, is_ascend: bool = False, threshold: float, topk: int = -1
) -> Any:
    """Greedy pairs of rows and columns by score: the partner of each row and of each column."""
    flat = data.reshape(-1, *data.shape[-2:])
    rows = np.full(flat.shape[:2], -1, data.dtype)
    columns = np.full((flat.shape[0], flat.shape[2]), -1, data.dtype)
    for i, scores in enumerate(flat):
        line = scores.reshape(-1)
        order = np.argsort(line if is_ascend else -line, kind="stable")
        count = 0
        for place in order.tolist():
            r, c = divmod(place, scores.shape[1])
            if rows[i, r] != -1 or columns[i, c] != -1:
                continue
            bad = line[place] > threshold if is_ascend else line[place] < threshold
            if bad:
                break
            rows[i, r], columns[i, c] = c, r
            count += 1
            # as in MXNet one more than asked for
            if 0 < topk < count:
                break
    return rows.reshape(data.shape[:-1]), columns.reshape(*data.shape[:-2], -1)


@op("_contrib_box_encode", vjp=None)
def _box_encode(
    xp: Any, samples: Any, matches: Any, anchors: Any, refs: Any, means: Any, stds: Any, /
) -> Any:
    """Targets of box regression and their masks; samples 1 where an anchor is matched."""
    index = matches.astype(np.int64)[..., None]
    reference = np.take_along_axis(refs, np.broadcast_to(index, (*matches.shape, 4)), axis=1)
    a, b = centers(anchors), centers(reference)
    ratio = np.concatenate(
        [(b[..., :2] - a[..., :2]) / a[..., 2:], np.log(b[..., 2:] / a[..., 2:])], axis=-1
    )
    good = np.broadcast_to((samples > 0.5)[..., None], ratio.shape)
    target = np.where(good, (ratio - means) / stds, 0).astype(anchors.dtype)
    return target, good.astype(anchors.dtype)


@op("_contrib_box_decode", vjp=flat)
def _box_decode(
    xp: Any,
    data: Any,
    anchors: Any,
    /,
    *,
    std0: float = 1.0,
    std1: float = 1.0,
    std2: float = 1.0,
    std3: float = 1.0,
    clip: float = -1.0,
    format: str = "center",
) -> Any:
    """Corner boxes from regressed offsets and anchors."""
    a = centers(anchors) if format == "corner" else anchors
    stds = np.array([std0, std1, std2, std3], data.dtype)
    d = data * stds
    xy = d[..., :2] * a[..., 2:] + a[..., :2]
    logs = np.minimum(d[..., 2:], clip) if clip > 0 else d[..., 2:]
    half = np.exp(logs) * a[..., 2:] / 2
    return np.concatenate([xy - half, xy + half], axis=-1).astype(data.dtype)


# ---- attention, in the layout of interleaved heads -----------------------------------------


def _heads(xp: Any, mixed: Any, heads: int, parts: int, part: int) -> Any:
    """(t, n, heads * parts * width) -> (n * heads, t, width)."""
    t, n, e = mixed.shape
    width = e // heads // parts
    split = xp.reshape(mixed, (t, n, heads, parts, width))
    one = xp.reshape(xp.slice_axis(split, axis=3, begin=part, end=part + 1), (t, n * heads, width))
    return xp.transpose(one, axes=(1, 0, 2))


def _scores(xp: Any, queries: Any, keys: Any) -> Any:
    scale = 1.0 / float(np.sqrt(queries.shape[-1]))
    return xp.matmul(queries * scale, xp.swapaxes(keys, 1, 2))


def _joined(xp: Any, attention: Any, value: Any, heads: int) -> Any:
    """(n * heads, t, s) . (n * heads, s, width) -> (t, n, heads * width)."""
    out = xp.matmul(attention, value)
    both, t, width = out.shape
    moved = xp.transpose(out, axes=(1, 0, 2))
    return xp.reshape(moved, (t, both // heads, heads * width))


def _selfatt_qk(xp: Any, qkv: Any, *, heads: int) -> Any:
    return _scores(xp, _heads(xp, qkv, heads, 3, 0), _heads(xp, qkv, heads, 3, 1))


def _selfatt_valatt(xp: Any, qkv: Any, attention: Any, *, heads: int) -> Any:
    return _joined(xp, attention, _heads(xp, qkv, heads, 3, 2), heads)


def _encdec_qk(xp: Any, queries: Any, keys_values: Any, *, heads: int) -> Any:
    return _scores(xp, _heads(xp, queries, heads, 1, 0), _heads(xp, keys_values, heads, 2, 0))


def _encdec_valatt(xp: Any, keys_values: Any, attention: Any, *, heads: int) -> Any:
    return _joined(xp, attention, _heads(xp, keys_values, heads, 2, 1), heads)


@op("_contrib_interleaved_matmul_selfatt_qk", vjp=derived(_selfatt_qk))
def _interleaved_selfatt_qk(xp: Any, queries_keys_values: Any, /, *, heads: int) -> Any:
    """Scaled products of queries and keys of self-attention; (n * heads, t, t)."""
    return _selfatt_qk(xp, queries_keys_values, heads=heads)


@op("_contrib_interleaved_matmul_selfatt_valatt", vjp=derived(_selfatt_valatt))
def _interleaved_selfatt_valatt(
    xp: Any, queries_keys_values: Any, attention: Any, /, *, heads: int
) -> Any:
    """Values of self-attention weighted by `attention`; (t, n, heads * width)."""
    return _selfatt_valatt(xp, queries_keys_values, attention, heads=heads)


@op("_contrib_interleaved_matmul_encdec_qk", vjp=derived(_encdec_qk))
def _interleaved_encdec_qk(xp: Any, queries: Any, keys_values: Any, /, *, heads: int) -> Any:
    """Scaled products of a decoder's queries and an encoder's keys."""
    return _encdec_qk(xp, queries, keys_values, heads=heads)


@op("_contrib_interleaved_matmul_encdec_valatt", vjp=derived(_encdec_valatt))
def _interleaved_encdec_valatt(xp: Any, keys_values: Any, attention: Any, /, *, heads: int) -> Any:
    """An encoder's values weighted by `attention`."""
    return _encdec_valatt(xp, keys_values, attention, heads=heads)
