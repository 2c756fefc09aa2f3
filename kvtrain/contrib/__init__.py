# SPDX-License-Identifier: Apache-2.0
"""``mx.contrib``: the operators of ``nd.contrib`` under an older name, and text."""

from kvtrain.contrib import text
from kvtrain.ndarray import contrib as nd

ndarray = nd

__all__ = ["nd", "ndarray", "text"]
