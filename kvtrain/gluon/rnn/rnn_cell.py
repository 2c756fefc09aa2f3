# SPDX-License-Identifier: Apache-2.0
"""All recurrent cells under MXNet's module name."""

from kvtrain.gluon.rnn.cell import (
    GRUCell,
    HybridRecurrentCell,
    LSTMCell,
    RecurrentCell,
    RNNCell,
)
from kvtrain.gluon.rnn.container import (
    BidirectionalCell,
    HybridSequentialRNNCell,
    SequentialRNNCell,
)
from kvtrain.gluon.rnn.modifier import DropoutCell, ModifierCell, ResidualCell, ZoneoutCell

__all__ = [
    "BidirectionalCell",
    "DropoutCell",
    "GRUCell",
    "HybridRecurrentCell",
    "HybridSequentialRNNCell",
    "LSTMCell",
    "ModifierCell",
    "RNNCell",
    "RecurrentCell",
    "ResidualCell",
    "SequentialRNNCell",
    "ZoneoutCell",
]
