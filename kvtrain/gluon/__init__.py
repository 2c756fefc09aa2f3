# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon``: networks, losses, data, training."""

from kvtrain import metric
from kvtrain.errors import DeferredInitializationError
from kvtrain.gluon import contrib, data, loss, model_zoo, nn, rnn, utils
from kvtrain.gluon.block import Block, HybridBlock
from kvtrain.gluon.parameter import Constant, Parameter, ParameterDict
from kvtrain.gluon.trainer import Trainer

__all__ = [
    "Block",
    "Constant",
    "DeferredInitializationError",
    "HybridBlock",
    "Parameter",
    "ParameterDict",
    "Trainer",
    "contrib",
    "data",
    "loss",
    "metric",
    "model_zoo",
    "nn",
    "rnn",
    "utils",
]
