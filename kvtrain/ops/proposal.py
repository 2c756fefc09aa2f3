# SPDX-License-Identifier: Apache-2.0
"""Regions proposed by a detector's first stage (Faster R-CNN, Ren et al., 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtrain.ops.attribute import Numbers
from kvtrain.ops.derive import flat
from kvtrain.ops.registry import op


def _anchors(stride: int, ratios: Any, scales: Any) -> Any:
    """(ratios * scales, 4): boxes around the first place."""
    boxes = []
    middle = 0.5 * (stride - 1)
    for ratio in ratios:
        width = np.floor(np.sqrt(np.floor(stride * stride / ratio)) + 0.5)
        height = np.floor(width * ratio + 0.5)
        for scale in scales:
            dx, dy = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
            boxes.append([middle - dx, middle - dy, middle + dx, middle + dy])
    return np.array(boxes, np.float32)


def _moved(boxes: Any, deltas: Any, corners: bool) -> Any:
    """Boxes changed by what the network says: corners, or centre and size."""
    if corners:
        return boxes + deltas
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    x = deltas[:, 0] * width + boxes[:, 0] + 0.5 * (width - 1)
    y = deltas[:, 1] * height + boxes[:, 1] + 0.5 * (height - 1)
    dx = 0.5 * (np.exp(deltas[:, 2]) * width - 1)
    dy = 0.5 * (np.exp(deltas[:, 3]) * height - 1)
    return np.stack([x - dx, y - dy, x + dx, y + dy], axis=1)


def _apart(boxes: Any, threshold: float, most: int) -> list[int]:
    """Positions of boxes, best first, none of which overlaps an earlier one too much."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for i in range(len(boxes)):
        if len(kept) == most:
            break
        if not alive[i]:
            continue
        kept.append(i)
        low = np.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        high = np.minimum(boxes[i, 2:], boxes[i + 1 :, 2:])
        both = np.maximum(high - low + 1, 0).prod(axis=1)
        alive[i + 1 :] &= both / (areas[i] + areas[i + 1 :] - both) <= threshold
    return kept


def _proposed(
    scores: Any,
    deltas: Any,
    info: Any,
    *,
    rpn_pre_nms_top_n: int,
    rpn_post_nms_top_n: int,
    threshold: float,
    rpn_min_size: int,
    scales: Any,
    ratios: Any,
    feature_stride: int,
    iou_loss: bool,
) -> tuple[Any, Any]:
    """Boxes (post, 4) and scores (post, 1) of one image."""
    base = _anchors(feature_stride, ratios, scales)
    count = len(base)
    _, rows, columns = scores.shape
    if scores.shape[0] != 2 * count or deltas.shape[0] != 4 * count:
        raise ValueError(
            f"{count} anchors (scales times ratios) need {2 * count} channels of cls_prob and "
            f"{4 * count} of bbox_pred; {scores.shape[0]} and {deltas.shape[0]} given"
        )
    height, width, zoom = (float(v) for v in info[:3])
    y, x = np.mgrid[:rows, :columns].astype(np.float32) * feature_stride
    shift = np.stack([x, y, x, y], axis=-1)[:, :, None]
    boxes = (base[None, None] + shift).reshape(-1, 4)
    changes = deltas.reshape(count, 4, rows, columns).transpose(2, 3, 0, 1).reshape(-1, 4)
    boxes = _moved(boxes, changes.astype(np.float32), iou_loss)
    boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, width - 1)
    boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, height - 1)
    found = scores[count:].transpose(1, 2, 0).astype(np.float32)
    past_y = np.arange(rows) >= int(height / feature_stride)
    past_x = np.arange(columns) >= int(width / feature_stride)
    found = np.where((past_y[:, None] | past_x[None, :])[:, :, None], np.float32(-1), found)
    found = found.reshape(-1)
    least = rpn_min_size * zoom
    small = (boxes[:, 2] - boxes[:, 0] + 1 < least) | (boxes[:, 3] - boxes[:, 1] + 1 < least)
    boxes[small] += np.array([-1, -1, 1, 1], np.float32) * np.float32(least / 2)
    found[small] = -1
    top = rpn_pre_nms_top_n if rpn_pre_nms_top_n > 0 else len(found)
    order = np.argsort(-found, kind="stable")[:top]
    boxes, found = boxes[order], found[order]
    kept = _apart(boxes, threshold, min(rpn_post_nms_top_n, len(boxes)))
    again = [kept[i % len(kept)] for i in range(rpn_post_nms_top_n)]
    return boxes[again], found[again, None]


def _all(cls_prob: Any, bbox_pred: Any, im_info: Any, output_score: bool, **attrs: Any) -> Any:
    if cls_prob.ndim != 4 or bbox_pred.ndim != 4 or im_info.shape != (len(cls_prob), 3):
        raise ValueError(
            f"cls_prob {cls_prob.shape}, bbox_pred {bbox_pred.shape}, im_info {im_info.shape}; "
            "(n, 2 * anchors, h, w), (n, 4 * anchors, h, w) and (n, 3) are needed"
        )
    boxes, scores = [], []
    for i in range(len(cls_prob)):
        found, points = _proposed(cls_prob[i], bbox_pred[i], im_info[i], **attrs)
        boxes.append(np.concatenate([np.full((len(found), 1), i, found.dtype), found], axis=1))
        scores.append(points)
    whole = np.concatenate(boxes).astype(cls_prob.dtype)
    return whole, np.concatenate(scores).astype(cls_prob.dtype)


def _visible(attrs: dict[str, Any]) -> int:
    return 2 if attrs["output_score"] else 1


@op("_contrib_MultiProposal", vjp=flat, visible=_visible)
def _multi_proposal(
    xp: Any,
    cls_prob: Any,
    bbox_pred: Any,
    im_info: Any,
    /,
    *,
    rpn_pre_nms_top_n: int = 6000,
    rpn_post_nms_top_n: int = 300,
    threshold: float = 0.7,
    rpn_min_size: int = 16,
    scales: Numbers = (4.0, 8.0, 16.0, 32.0),
    ratios: Numbers = (0.5, 1.0, 2.0),
    feature_stride: int = 16,
    output_score: bool = False,
    iou_loss: bool = False,
) -> Any:
    """Regions (n * rpn_post_nms_top_n, 5: image, x1, y1, x2, y2) that may hold objects.

    Parameters
    ----------
    cls_prob : (n, 2 * anchors, h, w)
        Of each anchor the probability of background, then of an object.
    bbox_pred : (n, 4 * anchors, h, w)
        How each anchor is to be moved.
    im_info : (n, 3)
        Height, width and scale of each image.
    output_score : bool
        Give the scores (.., 1) too.
    """
    return _all(
        cls_prob,
        bbox_pred,
        im_info,
        output_score,
        rpn_pre_nms_top_n=rpn_pre_nms_top_n,
        rpn_post_nms_top_n=rpn_post_nms_top_n,
        threshold=threshold,
        rpn_min_size=rpn_min_size,
        scales=scales,
        ratios=ratios,
        feature_stride=feature_stride,
        iou_loss=iou_loss,
    )


@op("_contrib_Proposal", vjp=flat, visible=_visible)
def _proposal(
    xp: Any,
    cls_prob: Any,
    bbox_pred: Any,
    im_info: Any,
    /,
    *,
    rpn_pre_nms_top_n: int = 6000,
    rpn_post_nms_top_n: int = 300,
    threshold: float = 0.7,
    rpn_min_size: int = 16,
    scales: Numbers = (4.0, 8.0, 16.0, 32.0),
    ratios: Numbers = (0.5, 1.0, 2.0),
    feature_stride: int = 16,
    output_score: bool = False,
    iou_loss: bool = False,
) -> Any:
    """MultiProposal of a single image."""
    if len(cls_prob) != 1:
        raise ValueError(f"cls_prob holds {len(cls_prob)} images; MultiProposal takes several")
    return _multi_proposal(
        xp,
        cls_prob,
        bbox_pred,
        im_info,
        rpn_pre_nms_top_n=rpn_pre_nms_top_n,
        rpn_post_nms_top_n=rpn_post_nms_top_n,
        threshold=threshold,
        rpn_min_size=rpn_min_size,
        scales=scales,
        ratios=ratios,
        feature_stride=feature_stride,
        output_score=output_score,
        iou_loss=iou_loss,
    )
