# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.loss``: one number per sample of the batch."""

from kvtrain.gluon.loss.base import Loss
from kvtrain.gluon.loss.classification import (
    CTCLoss,
    KLDivLoss,
    LogisticLoss,
    SigmoidBCELoss,
    SigmoidBinaryCrossEntropyLoss,
    SoftmaxCELoss,
    SoftmaxCrossEntropyLoss,
)
from kvtrain.gluon.loss.pair import CosineEmbeddingLoss, SDMLLoss, TripletLoss
from kvtrain.gluon.loss.regression import (
    HingeLoss,
    HuberLoss,
    L1Loss,
    L2Loss,
    PoissonNLLLoss,
    SquaredHingeLoss,
)

__all__ = [
    "CTCLoss",
    "CosineEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "L2Loss",
    "LogisticLoss",
    "Loss",
    "PoissonNLLLoss",
    "SDMLLoss",
    "SigmoidBCELoss",
    "SigmoidBinaryCrossEntropyLoss",
    "SoftmaxCELoss",
    "SoftmaxCrossEntropyLoss",
    "SquaredHingeLoss",
    "TripletLoss",
]
