# SPDX-License-Identifier: Apache-2.0
"""One row per optimizer and setting; plain data, read by the tests and by the script that asks
the real MXNet (tests/reference/generate_optimizers.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ALL = {"wd": 0.05, "rescale_grad": 0.5, "clip_gradient": 0.3}


@dataclass(frozen=True)
class Case:
    """An optimizer with arguments, as MXNet takes them."""

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    #: (scheduler class, arguments)
    schedule: tuple[str, dict[str, Any]] | None = None
    dtype: str = "float32"
    #: largest difference from MXNet, relative to the largest value
    close: float = 1e-6
    #: how many state arrays a float32 weight has
    states: int = 0
    #: name of the index, for rules that go by names
    parameter: str | None = None


def _three(kind: str, states: int, **options: Any) -> list[Case]:
    """Plain, with weight decay, and with everything."""
    lr = {"learning_rate": 0.05, **options}
    return [
        Case(kind, kind, lr, states=states),
        Case(f"{kind}_wd", kind, {**lr, "wd": 0.1}, states=states),
        Case(f"{kind}_all", kind, {**lr, **ALL}, states=states),
    ]


HALF = {"dtype": "float16", "close": 1e-3}
CASES = [
    *_three("sgd", 0),
    Case("sgd_lr", "sgd", {"learning_rate": 0.1, "clip_gradient": 0.05}),
    Case("momentum", "sgd", {"learning_rate": 0.05, "momentum": 0.9}, states=1),
    Case("momentum_all", "sgd", {"learning_rate": 0.05, "momentum": 0.9, **ALL}, states=1),
    Case("scheduled", "sgd", {}, ("FactorScheduler", {"step": 4, "factor": 0.5, "base_lr": 0.2})),
    Case(
        "begun",
        "adam",
        {"begin_num_update": 7},
        ("PolyScheduler", {"max_update": 40, "base_lr": 0.02}),
        states=2,
    ),
    *_three("ccsgd", 1, momentum=0.8),
    *_three("nag", 1, momentum=0.9),
    Case("nag_plain", "nag", {"learning_rate": 0.05, "wd": 0.1}),
    *_three("adam", 2),
    Case("adam_own", "adam", {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6, **ALL}, states=2),
    *_three("adagrad", 1),
    Case("adagrad_eps", "adagrad", {"learning_rate": 0.1, "eps": 1e-3}, states=1),
    *_three("adadelta", 2),
    Case("adadelta_own", "adadelta", {"rho": 0.8, "epsilon": 1e-4, **ALL}, states=2),
    *_three("adamax", 2),
    Case("adamax_own", "adamax", {"beta1": 0.7, "beta2": 0.9}, states=2),
    *_three("nadam", 2),
    Case("nadam_own", "nadam", {"beta1": 0.8, "beta2": 0.9, "schedule_decay": 0.1}, states=2),
    *_three("ftml", 3),
    Case("ftml_own", "ftml", {"beta1": 0.5, "beta2": 0.99, "epsilon": 1e-6, **ALL}, states=3),
    *_three("ftrl", 2),
    Case("ftrl_own", "ftrl", {"lamda1": 0.1, "beta": 0.5, **ALL}, states=2),
    *_three("rmsprop", 1),
    Case("rmsprop_own", "rmsprop", {"gamma1": 0.8, "clip_weights": 0.5, **ALL}, states=1),
    *[
        Case(f"centered{c.name[7:]}", "rmsprop", {**c.options, "centered": True}, states=3)
        for c in _three("rmsprop", 3)
    ],
    Case(
        "centered_own",
        "rmsprop",
        {"gamma1": 0.8, "gamma2": 0.7, "epsilon": 1e-4, "centered": True, "clip_weights": 0.6},
        states=3,
    ),
    *_three("signum", 1),
    Case("signum_own", "signum", {"momentum": 0.5, "wd_lh": 0.1, **ALL}, states=1),
    Case("signsgd", "signum", {"momentum": 0.0, "learning_rate": 0.01, **ALL}),
    *_three("dcasgd", 1),
    Case("dcasgd_own", "dcasgd", {"lamda": 0.5, "learning_rate": 0.1, **ALL}, states=1),
    *_three("lars", 1, momentum=0.9),
    Case("lars_plain", "lars", {"learning_rate": 0.5, "eta": 0.1, "eps": 1e-3, "wd": 0.1}),
    Case("lars_bias", "lars", {"learning_rate": 0.05, "momentum": 0.9}, states=1, parameter="bias"),
    Case(
        "lars_corrected",
        "lars",
        {"momentum": 0.9, "eta": 0.5},
        ("FactorScheduler", {"step": 4, "factor": 0.5, "base_lr": 0.2}),
        states=1,
    ),
    *_three("lamb", 2),
    Case("lamb_bounds", "lamb", {"lower_bound": 0.5, "upper_bound": 2.0, **ALL}, states=2),
    Case("lamb_raw", "lamb", {"learning_rate": 0.05, "bias_correction": False}, states=2),
    *_three("lbsgd", 1, momentum=0.9),
    Case(
        "lbsgd_batches",
        "lbsgd",
        {"momentum": 0.9, "batch_scale": 3, "updates_per_epoch": 4, "learning_rate": 0.02, **ALL},
        states=2,
    ),
    *[
        Case(
            f"lbsgd_{strategy}",
            "lbsgd",
            {
                "warmup_strategy": strategy,
                "batch_scale": 2,
                "updates_per_epoch": 3,
                "begin_epoch": 1,
                "wd": 0.1,
            },
            states=1,
        )
        for strategy in ("power2", "sqrt", "lars")
    ],
    Case("groupadagrad", "groupadagrad", {"learning_rate": 0.05}, states=1),
    Case(
        "groupadagrad_all",
        "groupadagrad",
        {"learning_rate": 0.05, "eps": 1e-3, "rescale_grad": 0.5, "clip_gradient": 0.3},
        states=1,
    ),
    *_three("adamw", 2),
    Case("adamw_own", "adamw", {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-4, **ALL}, states=2),
    *_three("test", 1),
    *[
        Case(f"half_{c.name}", c.kind, {**c.options, "multi_precision": True}, **HALF)
        for c in (
            Case("sgd", "sgd", {"learning_rate": 0.05}),
            Case("momentum", "sgd", {"learning_rate": 0.05, "momentum": 0.9, **ALL}),
            Case("nag", "nag", {"learning_rate": 0.05, "momentum": 0.9, **ALL}),
            Case("adam", "adam", {"learning_rate": 0.05, **ALL}),
            Case("lamb", "lamb", {"learning_rate": 0.05, **ALL}),
            Case("lars", "lars", {"learning_rate": 0.05, "momentum": 0.9, "eta": 0.5}),
            Case("ftml", "ftml", {"learning_rate": 0.05}),
        )
    ],
    Case("double_adam", "adam", {"learning_rate": 0.05, **ALL}, dtype="float64", close=5e-6),
    Case("double_sgd", "sgd", {"momentum": 0.9, **ALL}, dtype="float64", close=5e-6),
]
BY_NAME = {case.name: case for case in CASES}
STEPS = 20
SHAPE = (5, 7)
#: (optimizer, arguments) with row-sparse gradients, of dense and of row-sparse weights
SPARSE: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"wd": 0.1}),
    ("sgd", {"wd": 0.1, "lazy_update": False}),
    ("sgd", {"wd": 0.1, "momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "lazy_update": False}),
    ("adam", {"wd": 0.1}),
    ("adam", {"lazy_update": False}),
    ("adagrad", {"clip_gradient": 0.5}),
    ("ftrl", {"wd": 0.1}),
    ("groupadagrad", {}),
    ("lars", {"momentum": 0.9, "eta": 0.1}),
    ("lamb", {}),
    ("nag", {"momentum": 0.9}),
    ("signum", {}),
    ("rmsprop", {}),
    ("adadelta", {}),
    ("nadam", {}),
    ("lbsgd", {"momentum": 0.9, "wd": 0.1}),
    ("ftml", {}),
]
