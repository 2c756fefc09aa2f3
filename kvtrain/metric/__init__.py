# SPDX-License-Identifier: Apache-2.0
"""``mx.metric``: how well a network does."""

from kvtrain.metric.base import (
    CompositeEvalMetric,
    CustomMetric,
    EvalMetric,
    create,
    np_metric,
    register,
)
from kvtrain.metric.classification import (
    F1,
    Accuracy,
    CrossEntropy,
    Loss,
    NegativeLogLikelihood,
    Perplexity,
    TopKAccuracy,
)
from kvtrain.metric.regression import MAE, MSE, RMSE

np = np_metric

__all__ = [
    "F1",
    "MAE",
    "MSE",
    "RMSE",
    "Accuracy",
    "CompositeEvalMetric",
    "CrossEntropy",
    "CustomMetric",
    "EvalMetric",
    "Loss",
    "NegativeLogLikelihood",
    "Perplexity",
    "TopKAccuracy",
    "create",
    "np",
    "np_metric",
    "register",
]
