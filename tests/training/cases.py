# SPDX-License-Identifier: Apache-2.0
"""Metrics, schedules and initializers with arguments; plain data, read by the tests and by the
script that asks the real MXNet (tests/reference/generate_training.py)."""

from __future__ import annotations

from typing import Any

#: name -> (class, arguments, what it is fed: see `batches` of the script)
METRICS: dict[str, tuple[str, dict[str, Any], str]] = {
    "accuracy": ("acc", {}, "classes"),
    "accuracy_axis": ("Accuracy", {"axis": 2}, "sequences"),
    "accuracy_numbers": ("accuracy", {}, "numbers"),
    "top_3": ("top_k_accuracy", {"top_k": 3}, "classes"),
    "top_2": ("top_k_acc", {"top_k": 2}, "classes"),
    "f1": ("f1", {}, "binary"),
    "f1_micro": ("f1", {"average": "micro"}, "binary"),
    "mcc": ("mcc", {}, "binary"),
    "mcc_micro": ("mcc", {"average": "micro"}, "binary"),
    "pcc": ("pcc", {}, "classes"),
    "pcc_binary": ("pcc", {}, "binary"),
    "cross_entropy": ("ce", {}, "probabilities"),
    "cross_entropy_eps": ("CrossEntropy", {"eps": 0.01}, "probabilities"),
    "nll": ("nll_loss", {}, "probabilities"),
    "perplexity": ("perplexity", {"ignore_label": None}, "probabilities"),
    "perplexity_ignore": ("Perplexity", {"ignore_label": 0, "axis": -1}, "probabilities"),
    "mae": ("mae", {}, "regression"),
    "mse": ("mse", {}, "regression"),
    "rmse": ("rmse", {}, "regression"),
    "mse_flat": ("mse", {}, "flat"),
    "pearson": ("pearsonr", {}, "regression"),
    "pearson_micro": ("pearsonr", {"average": "micro"}, "regression"),
    "loss": ("loss", {}, "regression"),
    "torch": ("torch", {}, "regression"),
    "caffe": ("caffe", {}, "regression"),
}
WARM = {"warmup_steps": 5, "warmup_begin_lr": 0.01}
#: name -> (class, arguments); evaluated at 0 ... 49
SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "factor": ("FactorScheduler", {"step": 7, "factor": 0.5, "base_lr": 0.3}),
    "factor_stop": (
        "FactorScheduler",
        {"step": 2, "factor": 0.3, "stop_factor_lr": 1e-3, "base_lr": 1.0},
    ),
    "factor_warm": ("FactorScheduler", {"step": 3, "factor": 0.9, "base_lr": 0.3, **WARM}),
    "multi": ("MultiFactorScheduler", {"step": [3, 10, 30], "factor": 0.1, "base_lr": 0.3}),
    "multi_warm": ("MultiFactorScheduler", {"step": [2, 9], "factor": 0.5, **WARM}),
    "poly": ("PolyScheduler", {"max_update": 30, "base_lr": 0.3, "final_lr": 0.02}),
    "poly_warm": ("PolyScheduler", {"max_update": 40, "base_lr": 0.3, "pwr": 3, **WARM}),
    "cosine": ("CosineScheduler", {"max_update": 30, "base_lr": 0.3, "final_lr": 0.02}),
    "cosine_constant": (
        "CosineScheduler",
        {"max_update": 20, "base_lr": 0.3, "warmup_mode": "constant", **WARM},
    ),
}
#: name -> (class, arguments, name of the parameter, shape, dtype)
INITIALIZERS: dict[str, tuple[str, dict[str, Any], str, tuple[int, ...], str]] = {
    "zero": ("Zero", {}, "a_weight", (3, 4), "float32"),
    "one": ("One", {}, "a_weight", (3, 4), "float32"),
    "constant": ("Constant", {"value": 0.25}, "a_weight", (3, 4), "float32"),
    "uniform": ("Uniform", {}, "a_weight", (30, 40), "float32"),
    "uniform_half": ("Uniform", {"scale": 0.3}, "a_weight", (30, 4), "float16"),
    "uniform_double": ("Uniform", {"scale": 0.3}, "a_weight", (30, 4), "float64"),
    "normal": ("Normal", {"sigma": 0.3}, "a_weight", (80, 70), "float32"),
    "normal_half": ("Normal", {}, "a_weight", (30, 4), "float16"),
    "normal_double": ("Normal", {}, "a_weight", (30, 4), "float64"),
    "xavier": ("Xavier", {}, "a_weight", (20, 5, 3, 3), "float32"),
    "xavier_in": (
        "Xavier",
        {"factor_type": "in", "magnitude": 2.34},
        "a_weight",
        (8, 9),
        "float32",
    ),
    "xavier_out": (
        "Xavier",
        {"rnd_type": "gaussian", "factor_type": "out"},
        "a_weight",
        (70, 9),
        "float32",
    ),
    "msra": ("MSRAPrelu", {"slope": 0.1}, "a_weight", (20, 5, 3, 3), "float32"),
    "orthogonal": ("Orthogonal", {}, "a_weight", (6, 4), "float32"),
    "orthogonal_normal": (
        "Orthogonal",
        {"rand_type": "normal", "scale": 1.0},
        "a_weight",
        (3, 2, 4),
        "float32",
    ),
    "bilinear": ("Bilinear", {}, "a_weight", (2, 3, 4, 4), "float32"),
    "lstm_bias": ("LSTMBias", {"forget_bias": 2.0}, "a_weight", (12,), "float32"),
    "bias": ("Xavier", {}, "a_bias", (4,), "float32"),
    "gamma": ("Xavier", {}, "a_gamma", (4,), "float32"),
    "beta": ("Xavier", {}, "a_beta", (4,), "float32"),
    "min": ("Xavier", {}, "a_min", (4,), "float32"),
    "max": ("Xavier", {}, "a_max", (4,), "float32"),
}
#: name -> (initializer of the parts, mode, two directions, elements); 3 hidden units, 2 layers
FUSED: dict[str, tuple[tuple[str, dict[str, Any]] | None, str, bool, int]] = {
    "fused_lstm": (("Uniform", {"scale": 0.5}), "lstm", False, 228),
    "fused_gru_both": (("Normal", {"sigma": 0.5}), "gru", True, 378),
    "fused_rnn_global": (None, "rnn_tanh", False, 51),
}
