# SPDX-License-Identifier: Apache-2.0
"""``mx.optimizer.contrib``: optimizers that MXNet keeps apart."""

from kvtrain.optimizer.adagrad import GroupAdaGrad
from kvtrain.optimizer.adam import AdamW

__all__ = ["AdamW", "GroupAdaGrad"]
