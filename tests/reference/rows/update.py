# SPDX-License-Identifier: Apache-2.0
"""Functions that update weights; states are looked at afterwards."""

from typing import Any

import numpy as np

from tests.reference.rows.base import Row, r, u

W, G, S, P = r(3, 4), r(3, 4, seed=2), r(3, 4, seed=3), u(3, 4)
H, HG = W.astype("float16"), G.astype("float16")
COMMON = {"lr": 0.1, "wd": 0.05, "rescale_grad": 0.5, "clip_gradient": 0.3}


def row(name: str, inputs: list[Any], states: tuple[int, ...] = (), **attrs: Any) -> Row:
    half = inputs[0].dtype == np.float16
    tolerance = {"rtol": 2e-3, "atol": 1e-3} if half else {}
    return Row(name, inputs, attrs, after=(0, *states), **tolerance)


def many(name: str, groups: int, width: int, **attrs: Any) -> Row:
    kinds = {2: [W, G], 3: [W, G, S], 30: [H, HG, W], 4: [H, HG, S, W]}[width]
    inputs = [a * (1 + 0.1 * k) for k in range(groups) for a in kinds]
    inputs = [a.astype(k.dtype) for a, k in zip(inputs, kinds * groups, strict=True)]
    step = len(kinds)
    return Row(
        name,
        inputs,
        after=tuple(range(len(inputs))),
        rtol=2e-3,
        call=lambda mx, *data: getattr(mx.nd, name)(
            *data, num_weights=groups, out=list(data[: groups * step : step]), **attrs
        ),
    )


RATES: dict[str, Any] = {"lrs": (0.1, 0.2), "wds": (0.0, 0.1)}
ROWS = [
    *[
        row("sgd_update", [W, G], lr=0.1, **more)
        for more in ({}, {"wd": 0.1, "rescale_grad": 0.5}, {"clip_gradient": 0.2, "wd": 0.1})
    ],
    row("sgd_mom_update", [W, G, S], (2,), momentum=0.9, **COMMON),
    # in place: the real one decays the new weight where it computes the momentum
    Row(
        "nag_mom_update",
        [W, G, S],
        after=(0, 2),
        call=lambda mx, w, g, m: mx.nd.nag_mom_update(w, g, m, momentum=0.9, out=w, **COMMON),
    ),
    row("nag_mom_update", [W, G, S], (2,), momentum=0.9, lr=0.1),
    row("signsgd_update", [W, G], **COMMON),
    row("signum_update", [W, G, S], (2,), momentum=0.9, wd_lh=0.01, **COMMON),
    row("adam_update", [W, G, S, P], (2, 3), **COMMON),
    row("adam_update", [W, G, S, P], (2, 3), lr=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3),
    row("rmsprop_update", [W, G, P], (2,), **COMMON),
    row("rmsprop_update", [W, G, P], (2,), lr=0.1, clip_weights=0.5, gamma1=0.9),
    row("rmspropalex_update", [W, G, P * 3, S * 0.1, S], (2, 3, 4), **COMMON),
    row("ftrl_update", [W, G, S, P], (2, 3), **COMMON),
    row("ftrl_update", [W, G, S, P], (2, 3), lr=0.1, lamda1=0.5, beta=0.7),
    row("ftml_update", [W, G, P, P, S], (2, 3, 4), lr=0.1, t=3, wd=0.05, clip_grad=0.3),
    row("mp_sgd_update", [H, HG, W], (2,), **COMMON),
    row("mp_sgd_mom_update", [H, HG, S, W], (2, 3), momentum=0.9, **COMMON),
    row("mp_nag_mom_update", [H, HG, S, W], (2, 3), momentum=0.9, **COMMON),
    *[
        row("lamb_update_phase1", [W, G, S, P], (2, 3), t=2, wd=0.1, **more)
        for more in ({}, {"bias_correction": False}, {"rescale_grad": 0.5, "clip_gradient": 0.2})
    ],
    *[
        row("lamb_update_phase2", [W, G, r1, r2], lr=0.1, **more)
        for r1, r2 in ((u(1), u(1, seed=2)), (np.zeros(1, "float32"), u(1)))
        for more in ({}, {"lower_bound": 0.9, "upper_bound": 1.1})
    ],
    row("mp_lamb_update_phase1", [H, HG, S, P, W], (2, 3, 4), t=2, wd=0.1),
    Row(
        "mp_lamb_update_phase2",
        [H, G, u(1), u(1, seed=2), W],
        after=(0,),  # the real one leaves its master copy behind
        call=lambda mx, w, *rest: mx.nd.mp_lamb_update_phase2(w, *rest, lr=0.1, out=w),
        rtol=2e-3,
    ),
    many("multi_sgd_update", 2, 2, **RATES),
    many("multi_sgd_mom_update", 2, 3, momentum=0.9, **RATES),
    many("multi_mp_sgd_update", 2, 30, **RATES),
    many("multi_mp_sgd_mom_update", 2, 4, momentum=0.9, **RATES),
    Row(
        "preloaded_multi_sgd_mom_update",
        [W, G, S, W, G, S, np.array([0.1, 0.2], "float32"), np.array([0, 0.1], "float32")],
        after=(0, 2, 3, 5),
        call=lambda mx, *data: mx.nd.preloaded_multi_sgd_mom_update(
            *data, num_weights=2, momentum=0.9, out=[data[0], data[3]]
        ),
    ),
    *[
        Row(
            f"contrib.adamw_update {scale}",
            [W, G, S, P],
            after=(0, 2, 3),
            call=lambda mx, w, g, m, v, scale=scale: mx.nd.contrib.adamw_update(
                w, g, m, v, mx.nd.array([scale]), 0.1, 0.7, wd=0.05, clip_gradient=0.3, out=w
            ),
        )
        for scale in (0.5, np.inf, np.nan)
    ],
    Row(
        "contrib.mp_adamw_update",
        [H, HG, S, P, W],
        after=(0, 2, 3, 4),
        call=lambda mx, w, g, m, v, w32: mx.nd.contrib.mp_adamw_update(
            w, g, m, v, w32, 0.5, 0.1, 0.7, wd=0.05
        ),
        rtol=2e-3,
        atol=1e-3,
    ),
    Row(
        "contrib.multi_lamb_update",
        [W, G, S, P],
        after=(0, 2, 3),
        call=lambda mx, w, g, m, v: mx.nd.contrib.multi_lamb_update(
            [w], [g], [m], [v], step_count=[2], lrs=[0.1], wds=[0.05], out=[w]
        ),
    ),
    Row(
        "contrib.multi_adamw_update",
        [W, G, S, P],
        after=(0, 2, 3),
        call=lambda mx, w, g, m, v: mx.nd.contrib.multi_adamw_update(
            [w], [g], [m], [v], mx.nd.array([0.5]), [0.1], [0.05], [0.7], out=[w]
        ),
    ),
    Row("multi_sum_sq", [W, S], {"num_arrays": 2}),
    Row(
        "multi_lars",
        [u(3), u(3, seed=2), np.array([0, 1, 2], "float32"), u(3, seed=3)],
        {"eta": 0.01, "eps": 1e-3, "rescale_grad": 0.5},
    ),
    *[
        Row("multi_all_finite", [W, np.array([v], "float32")], {"num_arrays": 2})
        for v in (1, np.inf, np.nan)
    ],
    Row("all_finite", [W], {}),
    Row(
        "reset_arrays",
        [W, S],
        after=(0, 1),
        call=lambda mx, a, b: [mx.nd.reset_arrays(a, b, num_arrays=2), a][1:],
    ),
    Row(
        "sgd_update with out",
        [W, G],
        after=(0,),
        call=lambda mx, w, g: mx.nd.sgd_update(w, g, lr=0.1, out=w),
    ),
    Row("sgd_update without lr", [W, G], call=lambda mx, w, g: mx.nd.sgd_update(w, g)),
]
