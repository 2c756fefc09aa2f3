# SPDX-License-Identifier: Apache-2.0
"""``mx.optimizer``: one record per optimizer, for workers and servers."""

import sys

from kvtrain.optimizer import contrib
from kvtrain.optimizer.adagrad import FTML, AdaDelta, AdaGrad, Ftrl, GroupAdaGrad, RMSProp
from kvtrain.optimizer.adam import Adam, Adamax, AdamW, Nadam
from kvtrain.optimizer.base import Optimizer, create, register
from kvtrain.optimizer.layerwise import LAMB, LARS, LBSGD
from kvtrain.optimizer.record import Hyper, Scope
from kvtrain.optimizer.sgd import DCASGD, NAG, SGD, SGLD, Signum, Test, ccSGD
from kvtrain.optimizer.updater import Updater, get_updater

#: MXNet's name of the module with the classes
optimizer = sys.modules[__name__]

__all__ = [
    "DCASGD",
    "FTML",
    "LAMB",
    "LARS",
    "LBSGD",
    "NAG",
    "SGD",
    "SGLD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "GroupAdaGrad",
    "Hyper",
    "Nadam",
    "Optimizer",
    "RMSProp",
    "Scope",
    "Signum",
    "Test",
    "Updater",
    "ccSGD",
    "contrib",
    "create",
    "get_updater",
    "optimizer",
    "register",
]
