# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.data.vision``: image datasets and transforms."""

from kvtrain.gluon.data.vision import transforms
from kvtrain.gluon.data.vision.datasets import (
    CIFAR10,
    CIFAR100,
    MNIST,
    FashionMNIST,
    ImageFolderDataset,
    ImageRecordDataset,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "FashionMNIST",
    "ImageFolderDataset",
    "ImageRecordDataset",
    "transforms",
]
