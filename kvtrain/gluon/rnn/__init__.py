# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.rnn``: recurrent cells and layers."""

from kvtrain.gluon.rnn import rnn_cell
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
from kvtrain.gluon.rnn.rnn_layer import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
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
    "rnn_cell",
]
