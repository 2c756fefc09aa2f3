# SPDX-License-Identifier: Apache-2.0
"""Operators on raw arrays; importing the package registers all of them."""

from kvtrain.ops import conv, elementwise, indexing, linalg, nn, reduce, shape

__all__ = ["conv", "elementwise", "indexing", "linalg", "nn", "reduce", "shape"]
