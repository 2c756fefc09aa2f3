# SPDX-License-Identifier: Apache-2.0
"""``mx.init``: first values of parameters, chosen by what a parameter's name ends in."""

from kvtrain.initializer.base import InitDesc, Initializer, alias, create, register
from kvtrain.initializer.choice import Load, Mixed
from kvtrain.initializer.recurrent import FusedRNN, LSTMBias
from kvtrain.initializer.values import (
    Bilinear,
    Constant,
    MSRAPrelu,
    Normal,
    One,
    Orthogonal,
    Uniform,
    Xavier,
    Zero,
)

__all__ = [
    "Bilinear",
    "Constant",
    "FusedRNN",
    "InitDesc",
    "Initializer",
    "LSTMBias",
    "Load",
    "MSRAPrelu",
    "Mixed",
    "Normal",
    "One",
    "Orthogonal",
    "Uniform",
    "Xavier",
    "Zero",
    "alias",
    "create",
    "register",
]
