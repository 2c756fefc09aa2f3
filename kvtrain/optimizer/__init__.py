# SPDX-License-Identifier: Apache-2.0
"""``mx.optimizer``: one record per optimizer, for workers and servers."""

from kvtrain.optimizer.adam import Adam
from kvtrain.optimizer.base import Hyper, Optimizer, Scope, create, register
from kvtrain.optimizer.sgd import SGD, Test
from kvtrain.optimizer.updater import Updater, get_updater

__all__ = [
    "SGD",
    "Adam",
    "Hyper",
    "Optimizer",
    "Scope",
    "Test",
    "Updater",
    "create",
    "get_updater",
    "register",
]
