# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.contrib``: layers, cells, samplers and the estimator that MXNet calls experimental."""

from kvtrain.gluon.contrib import cnn, data, estimator, nn, rnn

__all__ = ["cnn", "data", "estimator", "nn", "rnn"]
