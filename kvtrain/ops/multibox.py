# SPDX-License-Identifier: Apache-2.0
"""Anchors of the single-shot detector (Liu et al., 2016): made, matched and decoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Numbers
from kvtrain.ops.box import centers, overlaps, suppressed
from kvtrain.ops.derive import flat
from kvtrain.ops.registry import op

Array = np.ndarray[Any, Any]


def _numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)


@op("_contrib_MultiBoxPrior", vjp=flat)
def _prior(
    xp: Any,
    data: Any,
    /,
    *,
    sizes: Numbers = (1.0,),
    ratios: Numbers = (1.0,),
    clip: bool = False,
    steps: Numbers = (-1.0, -1.0),
    offsets: Numbers = (0.5, 0.5),
) -> Any:
    """Corner boxes (1, h * w * boxes, 4) around every place of (n, c, h, w).

    At each place one box per size of the first ratio, and one per further ratio of the first
    size; `steps` and `offsets` are (y, x).
    """
    h, w = data.shape[2:]
    scales, shapes = _numbers(sizes), _numbers(ratios)
    step_y, step_x = _numbers(steps)
    step_y, step_x = (step_y if step_y > 0 else 1 / h), (step_x if step_x > 0 else 1 / w)
    offset_y, offset_x = _numbers(offsets)
    root = np.sqrt(shapes[0])
    halves = [(s * h / w * root / 2, s / root / 2) for s in scales]
    halves += [(scales[0] * h / w * np.sqrt(r) / 2, scales[0] / np.sqrt(r) / 2) for r in shapes[1:]]
    ys, xs = np.meshgrid(
        (np.arange(h) + offset_y) * step_y, (np.arange(w) + offset_x) * step_x, indexing="ij"
    )
    middle = np.stack([xs, ys, xs, ys], axis=-1).reshape(-1, 1, 4)
    spread = np.array([(-a, -b, a, b) for a, b in halves]).reshape(1, -1, 4)
    out = (middle + spread).reshape(1, -1, 4)
    return (np.clip(out, 0, 1) if clip else out).astype(data.dtype)


def _matched(iou: Array, threshold: float) -> tuple[Array, Array]:
    """Ground truth of each anchor (-1: none), and its overlap with it; best pairs first."""
    match = np.full(len(iou), -1)
    best = np.full(len(iou), -1.0)
    left = iou.astype(np.float64).copy()
    for _ in range(iou.shape[1]):
        a, t = np.unravel_index(left.argmax(), left.shape)
        if left[a, t] < 1e-6:
            break
        match[a], best[a] = t, left[a, t]
        left[a, :] = left[:, t] = -1
    for a in np.flatnonzero(match < 0):
        t = np.intp(iou[a].argmax())
        best[a] = iou[a, t]
        if threshold > 0 and iou[a, t] > threshold:
            match[a] = t
    return match, best


def _coded(anchors: Array, truth: Array, variances: tuple[float, ...]) -> Array:
    a, b = centers(anchors), centers(truth)
    place = (b[:, :2] - a[:, :2]) / a[:, 2:]
    return np.concatenate([place, np.log(b[:, 2:] / a[:, 2:])], axis=1) / np.asarray(variances)


@op("_contrib_MultiBoxTarget", vjp=flat)
def _target(
    xp: Any,
    anchor: Any,
    label: Any,
    cls_pred: Any,
    /,
    *,
    overlap_threshold: float = 0.5,
    ignore_label: float = -1.0,
    negative_mining_ratio: float = -1.0,
    negative_mining_thresh: float = 0.5,
    minimum_negative_samples: int = 0,
    variances: Numbers = (0.1, 0.1, 0.2, 0.2),
) -> Any:
    """What the predictions should be: (offsets, their mask, class 1.. or 0 of background).

    `label` is (n, objects, class and corners), filled up with -1; `cls_pred` (n, classes,
    anchors) chooses the negatives that are hardest. As in MXNet 1.9 `minimum_negative_samples`
    has no effect.
    """
    boxes = anchor.reshape(-1, 4)
    n, count = label.shape[0], len(boxes)
    offsets = np.zeros((n, count, 4), anchor.dtype)
    masks = np.zeros((n, count, 4), anchor.dtype)
    classes = np.full((n, count), ignore_label, anchor.dtype)
    spread = _numbers(variances)
    for i in range(n):
        rows = label[i]
        ends = np.flatnonzero(rows[:, 0] == -1)
        rows = rows[: ends[0]] if ends.size else rows
        if not len(rows):
            classes[i] = 0
            continue
        match, best = _matched(overlaps(boxes, rows[:, 1:5]), overlap_threshold)
        good = match >= 0
        chosen = rows[match[good]]
        classes[i, good] = chosen[:, 0] + 1
        offsets[i, good] = _coded(boxes[good], chosen[:, 1:5], spread)
        masks[i, good] = 1
        if negative_mining_ratio <= 0:
            classes[i, ~good] = 0
            continue
        wanted = int(good.sum() * negative_mining_ratio)
        wanted = min(wanted, count - int(good.sum()))
        scores = cls_pred[i]
        shifted = np.exp(scores - scores.max(axis=0))
        background = shifted[0] / shifted.sum(axis=0)
        places = np.flatnonzero(~good & (best < negative_mining_thresh))
        order = places[np.argsort(background[places], kind="stable")]
        classes[i, order[:wanted]] = 0
    return offsets.reshape(n, -1), masks.reshape(n, -1), classes


def _decoded(anchors: Array, offsets: Array, variances: tuple[float, ...], clip: bool) -> Array:
    a = centers(anchors)
    moved = offsets * np.asarray(variances)
    middle = moved[:, :2] * a[:, 2:] + a[:, :2]
    half = np.exp(moved[:, 2:]) * a[:, 2:] / 2
    out = np.concatenate([middle - half, middle + half], axis=1)
    return np.clip(out, 0, 1) if clip else out


@op("_contrib_MultiBoxDetection", vjp=flat)
def _detection(
    xp: Any,
    cls_prob: Any,
    loc_pred: Any,
    anchor: Any,
    /,
    *,
    clip: bool = True,
    threshold: float = 0.01,
    background_id: int = 0,
    nms_threshold: float = 0.5,
    force_suppress: bool = False,
    variances: Numbers = (0.1, 0.1, 0.2, 0.2),
    nms_topk: int = -1,
) -> Any:
    """Rows (class, score, corners) of the detections, best first; class -1 is suppressed."""
    boxes = anchor.reshape(-1, 4)
    n, _, count = cls_prob.shape
    out = np.full((n, count, 6), -1, cls_prob.dtype)
    spread = _numbers(variances)
    for i in range(n):
        # as in MXNet class 0 is the background, whatever `background_id` says
        others = cls_prob[i, 1:]
        ids = others.argmax(axis=0)
        scores = others.max(axis=0)
        ids = np.where(scores < threshold, -1, ids)
        kept = np.flatnonzero(ids >= 0)
        places = _decoded(boxes, loc_pred[i].reshape(-1, 4), spread, clip)
        rows = np.concatenate([ids[kept, None], scores[kept, None], places[kept]], axis=1)
        rows = rows.astype(out.dtype)
        order = np.argsort(-rows[:, 1], kind="stable")
        limit = len(rows) if nms_topk <= 0 else min(nms_topk, len(rows))
        # beyond the limit MXNet leaves the rest unsorted
        rows[:limit] = rows[order[:limit]]
        first = rows[:limit]
        if 0 < nms_threshold <= 1:
            classes = None if force_suppress else first[:, 0]
            stay = suppressed(first[:, 2:], classes, nms_threshold)
            gone = np.ones(limit, bool)
            gone[stay] = False
            rows[:limit][gone, 0] = -1
        rows[limit:, 0] = -1
        out[i, : len(rows)] = rows
    return out
