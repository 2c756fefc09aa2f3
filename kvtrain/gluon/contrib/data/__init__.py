# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.contrib.data``."""

from kvtrain.gluon.contrib.data.sampler import IntervalSampler

__all__ = ["IntervalSampler"]
