# SPDX-License-Identifier: Apache-2.0
"""The NumPy backend: always there, complete."""

from kvtrain.kernels.numpy.codec import (
    bf16_decode,
    bf16_encode,
    fp16_encode,
    onebit_decode,
    onebit_encode,
    topk_decode,
    topk_encode,
    twobit_decode,
    twobit_encode,
)
from kvtrain.kernels.numpy.conv import conv2d, conv2d_data_grad, conv2d_weight_grad
from kvtrain.kernels.numpy.indexing import (
    depth_to_space,
    embedding_grad,
    index_grad,
    pick,
    pick_grad,
    slice_axis,
    space_to_depth,
)
from kvtrain.kernels.numpy.norm import (
    batch_norm_grad,
    batch_norm_stats,
    layer_norm_grad,
    log_softmax,
    softmax,
)
from kvtrain.kernels.numpy.pool import pool2d, pool2d_grad
from kvtrain.kernels.numpy.special import erf, gamma, gammaln
from kvtrain.kernels.numpy.update import adam_update, sgd_mom_update, sgd_update, sum_arrays

__all__ = [
    "adam_update",
    "batch_norm_grad",
    "batch_norm_stats",
    "bf16_decode",
    "bf16_encode",
    "conv2d",
    "conv2d_data_grad",
    "conv2d_weight_grad",
    "depth_to_space",
    "embedding_grad",
    "erf",
    "fp16_encode",
    "gamma",
    "gammaln",
    "index_grad",
    "layer_norm_grad",
    "log_softmax",
    "onebit_decode",
    "onebit_encode",
    "pick",
    "pick_grad",
    "pool2d",
    "pool2d_grad",
    "sgd_mom_update",
    "sgd_update",
    "slice_axis",
    "softmax",
    "space_to_depth",
    "sum_arrays",
    "topk_decode",
    "topk_encode",
    "twobit_decode",
    "twobit_encode",
]
