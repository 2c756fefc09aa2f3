# SPDX-License-Identifier: Apache-2.0
"""Gradient codecs, pure: one file each. See :class:`Compressor` for how to add one.

======  ==============================================  ==================
type    what is sent                                    bits a value
======  ==============================================  ==================
fp16    float16                                         16
bf16    the upper half of float32                       16
2bit    threshold, -threshold or 0; MXNet's arithmetic  2
1bit    sign, and the mean magnitude of 1,024 values    1.03
topk    the largest values and their places             48 * ratio
======  ==============================================  ==================
"""

from kvtrain.compression.base import Compressor, compressors, create, from_text, register
from kvtrain.compression.bf16 import BF16
from kvtrain.compression.feedback import ErrorFeedback
from kvtrain.compression.fp16 import FP16
from kvtrain.compression.onebit import OneBit
from kvtrain.compression.topk import TopK
from kvtrain.compression.twobit import TwoBit

__all__ = [
    "BF16",
    "FP16",
    "Compressor",
    "ErrorFeedback",
    "OneBit",
    "TopK",
    "TwoBit",
    "compressors",
    "create",
    "from_text",
    "register",
]
