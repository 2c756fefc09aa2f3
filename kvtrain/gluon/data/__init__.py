# SPDX-License-Identifier: Apache-2.0
"""``mx.gluon.data``: datasets, samplers, loading."""

from kvtrain.gluon.data import batchify, vision
from kvtrain.gluon.data.dataloader import DataLoader, default_batchify_fn
from kvtrain.gluon.data.dataset import ArrayDataset, Dataset, RecordFileDataset, SimpleDataset
from kvtrain.gluon.data.sampler import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SplitSampler,
)

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "RecordFileDataset",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "SplitSampler",
    "batchify",
    "default_batchify_fn",
    "vision",
]
