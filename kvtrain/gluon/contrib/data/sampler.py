# SPDX-License-Identifier: Apache-2.0
"""Samplers under MXNet's module name."""

from kvtrain.gluon.data.sampler import IntervalSampler

__all__ = ["IntervalSampler"]
