# SPDX-License-Identifier: Apache-2.0
"""Updates of several weights in one call, and what is computed of many arrays at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kvtrain.errors import OperatorError
from kvtrain.kernels import xp
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.update import CONTRIB, FUNCTIONS

__all__ = ["all_finite", "multi_all_finite", "multi_lars", "multi_sum_sq", "reset_arrays"]


def _flat(arrays: Sequence[Any]) -> list[NDArray]:
    if len(arrays) == 1 and isinstance(arrays[0], list | tuple):
        return list(arrays[0])
    return list(arrays)


def _outs(out: Any, count: int) -> list[Any]:
    outs = [None] * count if out is None else list(out) if isinstance(out, list | tuple) else [out]
    if len(outs) != count:
        raise OperatorError(f"{len(outs)} arrays given as out for {count} weights")
    return outs


def _many(name: str, single: str, width: int, preloaded: bool) -> Callable[..., Any]:
    """`single` for groups of `width` arrays: weight, gradient, states, master weight."""
    one = FUNCTIONS[single]

    def run(
        *data: Any,
        lrs: Any = None,
        wds: Any = None,
        num_weights: int = 1,
        out: Any = None,
        **kw: Any,
    ) -> Any:
        arrays = _flat(data)
        if preloaded and len(arrays) < 2:
            raise OperatorError(f"{name}: learning rates and weight decays are missing")
        if preloaded:
            arrays, (lrs, wds) = arrays[:-2], [a.asnumpy().tolist() for a in arrays[-2:]]
        if len(arrays) != width * num_weights or lrs is None or wds is None:
            raise OperatorError(
                f"{name}: {len(arrays)} arrays given for num_weights={num_weights}, "
                f"{width} each, with lrs and wds"
            )
        kw.pop("name", None)
        rates = [lrs] if isinstance(lrs, float | int) else list(lrs)
        decays = [wds] if isinstance(wds, float | int) else list(wds)
        made = []
        for i, target in enumerate(_outs(out, num_weights)):
            group = arrays[i * width : (i + 1) * width]
            made.append(one(*group, lr=rates[i], wd=decays[i], out=target, **kw))
        return made if num_weights > 1 else made[0]

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"{single} for `num_weights` weights: the arrays of each one after the other."
    return run


for _single, _width in (("sgd_update", 2), ("sgd_mom_update", 3)):
    for _prefix, _more in (("", 0), ("mp_", 1)):
        for _preloaded in ("", "preloaded_"):
            _name = f"{_preloaded}multi_{_prefix}{_single}"
            FUNCTIONS[_name] = _many(_name, _prefix + _single, _width + _more, bool(_preloaded))


def _scale(value: Any) -> float:
    return float(value.asscalar()) if isinstance(value, NDArray) else float(value)


def _adamw(name: str, mixed: bool) -> Callable[..., Any]:
    def run(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        order = ["weight", "grad", "mean", "var", *(["weight32"] if mixed else []), "rescale_grad"]
        rest = ["lr", "eta", "beta1", "beta2", "epsilon", "wd", "clip_gradient"]
        given = {**dict(zip([*order, *rest], args, strict=False)), **kwargs}
        given.pop("name", None)
        missing = [n for n in (*order, "lr", "eta") if n not in given]
        if missing:
            raise OperatorError(f"{name}: argument {missing[0]!r} is missing")
        weight, grad, mean, var = (given.pop(n) for n in order[:4])
        master = given.pop("weight32", weight)
        scale = _scale(given.pop("rescale_grad"))
        bound = given.pop("clip_gradient", -1.0)
        target = weight.copy() if out is None else out
        if target is not weight and out is not None:
            weight.copyto(target)
        raw = target._write() if master is weight else master._write()
        # as in MXNet a scale that overflowed skips the update
        if np.isfinite(scale) and scale != 0:
            xp.adamw_update(
                raw,
                grad._read().astype(raw.dtype, copy=False),
                mean._write(),
                var._write(),
                rescale_grad=scale,
                clip_gradient=None if bound < 0 else bound,
                **given,
            )
            if master is not weight:
                np.copyto(target._write(), raw, casting="unsafe")
        return target

    run.__name__ = run.__qualname__ = name
    run.__doc__ = "Adam with decoupled weight decay (Loshchilov and Hutter, 2017)."
    return run


def _adamw_many(name: str, mixed: bool) -> Callable[..., Any]:
    one = CONTRIB["mp_adamw_update" if mixed else "adamw_update"]

    def run(weights: Any, grads: Any, mean: Any, var: Any, *args: Any, **kwargs: Any) -> Any:
        order = [*(["weights32"] if mixed else []), "rescale_grad", "lrs", "wds", "etas"]
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        masters = given.pop("weights32", None)
        scale, rates = given.pop("rescale_grad"), given.pop("lrs")
        decays, etas = given.pop("wds"), given.pop("etas")
        outs = _outs(given.pop("out", None), len(weights))
        given.pop("size", None)
        made = []
        for i, weight in enumerate(weights):
            group = [weight, grads[i], mean[i], var[i], *([masters[i]] if masters else [])]
            more = {"lr": rates[i], "wd": decays[i], "eta": etas[i], "out": outs[i], **given}
            made.append(one(*group, scale, **more))
        return made

    run.__name__ = run.__qualname__ = name
    run.__doc__ = "adamw_update for several weights; a rate, decay and eta for each."
    return run


def _lamb_many(name: str, mixed: bool) -> Callable[..., Any]:
    def run(weights: Any, grads: Any, mean: Any, var: Any, *args: Any, **kwargs: Any) -> Any:
        order = [*(["weights32"] if mixed else []), "step_count", "lrs", "wds"]
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        masters = given.pop("weights32", None)
        steps, rates, decays = (given.pop(n) for n in ("step_count", "lrs", "wds"))
        outs = _outs(given.pop("out", None), len(weights))
        given.pop("num_tensors", None)
        made = []
        for i, weight in enumerate(weights):
            target = weight.copy() if outs[i] is None else outs[i]
            if target is not weight and outs[i] is not None:
                weight.copyto(target)
            raw = target._write() if masters is None else masters[i]._write()
            xp.lamb_update(
                raw,
                grads[i]._read().astype(raw.dtype, copy=False),
                mean[i]._write(),
                var[i]._write(),
                lr=rates[i],
                wd=decays[i],
                t=int(steps[i]),
                **{k: None if k in _NONE and v < 0 else v for k, v in given.items()},
            )
            if masters is not None:
                np.copyto(target._write(), raw, casting="unsafe")
            made.append(target)
        return made

    run.__name__ = run.__qualname__ = name
    run.__doc__ = "LAMB (You et al., 2019) for several weights; a rate, decay and step for each."
    return run


_NONE = ("clip_gradient", "lower_bound", "upper_bound")
for _mixed in (False, True):
    _prefix = "mp_" if _mixed else ""
    CONTRIB[f"{_prefix}adamw_update"] = _adamw(f"{_prefix}adamw_update", _mixed)
    CONTRIB[f"multi_{_prefix}adamw_update"] = _adamw_many(f"multi_{_prefix}adamw_update", _mixed)
    CONTRIB[f"multi_{_prefix}lamb_update"] = _lamb_many(f"multi_{_prefix}lamb_update", _mixed)


# ---- of many arrays ------------------------------------------------------------------------


def _made(raw: Any, like: NDArray, out: Any) -> NDArray:
    made = NDArray(np.asarray(raw), like._ctx)
    return made if out is None else made.copyto(out)


def multi_sum_sq(*data: NDArray, num_arrays: int = 0, out: Any = None, **kw: Any) -> NDArray:
    """The sum of squares of each array, as one float32 array."""
    arrays = _flat(data)
    sums = [xp.sum_of_squares(a._read()) for a in arrays]
    return _made(np.array(sums, np.float32), arrays[0], out)


def multi_lars(
    lrs: NDArray,
    weights_sum_sq: NDArray,
    grads_sum_sq: NDArray,
    wds: NDArray,
    eta: float,
    eps: float,
    rescale_grad: float = 1.0,
    out: Any = None,
    **kw: Any,
) -> NDArray:
    """Rates of LARS (You, Gitman and Ginsburg, 2017) from sums of squares."""
    weights = np.sqrt(weights_sum_sq._read())
    grads = np.sqrt(grads_sum_sq._read()) * np.float32(rescale_grad)
    rates = lrs._read()
    with np.errstate(all="ignore"):
        scaled = (
            rates * np.float32(eta) * weights / (grads + wds._read() * weights + np.float32(eps))
        )
    return _made(np.where((weights > 0) & (grads > 0), scaled, rates), lrs, out)


def multi_all_finite(
    *data: NDArray, num_arrays: int = 1, init_output: bool = True, out: Any = None, **kw: Any
) -> NDArray:
    """1 if every element of every array is finite, else 0, as float32 of shape (1,).

    Without `init_output` what `out` holds counts too.
    """
    arrays = _flat(data)
    good = all(np.isfinite(a._read()).all() for a in arrays)
    if out is not None and not init_output:
        good = good and bool(out._read().all())
    return _made(np.array([good], np.float32), arrays[0], out)


def all_finite(data: NDArray, init_output: bool = True, out: Any = None, **kw: Any) -> NDArray:
    """1 if every element is finite, else 0, as float32 of shape (1,)."""
    return multi_all_finite(data, init_output=init_output, out=out)


def reset_arrays(*data: NDArray, num_arrays: int = 0, **kw: Any) -> None:
    """Set every array to zero, in place."""
    for array in _flat(data):
        array._write()[...] = 0
