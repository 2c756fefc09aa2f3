# SPDX-License-Identifier: Apache-2.0
"""``mx.metric``: how well a network does."""

from kvtrain.metric.base import (
    CompositeEvalMetric,
    CustomMetric,
    EvalMetric,
    alias,
    check_label_shapes,
    create,
    np_metric,
    register,
)
from kvtrain.metric.classification import (
    Accuracy,
    Caffe,
    CrossEntropy,
    Loss,
    NegativeLogLikelihood,
    Perplexity,
    TopKAccuracy,
    Torch,
)
from kvtrain.metric.confusion import F1, MCC, PCC
from kvtrain.metric.regression import MAE, MSE, RMSE, PearsonCorrelation

np = np_metric

__all__ = [
    "F1",
    "MAE",
    "MCC",
    "MSE",
    "PCC",
    "RMSE",
    "Accuracy",
    "Caffe",
    "CompositeEvalMetric",
    "CrossEntropy",
    "CustomMetric",
    "EvalMetric",
    "Loss",
    "NegativeLogLikelihood",
    "PearsonCorrelation",
    "Perplexity",
    "TopKAccuracy",
    "Torch",
    "alias",
    "check_label_shapes",
    "create",
    "np",
    "np_metric",
    "register",
]
