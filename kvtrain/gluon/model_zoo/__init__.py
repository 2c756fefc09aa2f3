# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.model_zoo``: known networks."""

from kvtrain.gluon.model_zoo import model_store, vision

__all__ = ["model_store", "vision"]
