# SPDX-License-Identifier: Apache-2.0
"""``mx.contrib``: the operators of ``nd.contrib`` under an older name."""

from kvtrain.ndarray import contrib as nd

ndarray = nd

__all__ = ["nd", "ndarray"]
