# SPDX-License-Identifier: Apache-2.0
"""``mx.runtime``: what this installation can do, under MXNet's names."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from typing import Any, NamedTuple

from kvtrain.kernels import backend

#: MXNet's names; the rest is off
_KNOWN = (
    "CUDA CUDNN NCCL CUDA_RTC TENSORRT CPU_SSE CPU_SSE2 CPU_SSE3 CPU_SSE4_1 CPU_SSE4_2 CPU_SSE4A "
    "CPU_AVX CPU_AVX2 OPENMP SSE F16C JEMALLOC BLAS_OPEN BLAS_ATLAS BLAS_MKL BLAS_APPLE LAPACK "
    "MKLDNN OPENCV CAFFE PROFILER DIST_KVSTORE CXX14 INT64_TENSOR_SIZE SIGNAL_HANDLER DEBUG TVM_OP"
).split()


class Feature(NamedTuple):
    """A name, and whether it is there."""

    name: str
    enabled: bool

    def __repr__(self) -> str:
        return f"{'✔' if self.enabled else '✖'} {self.name}"


def feature_list() -> list[Feature]:
    """All features that MXNet knows."""
    enabled = {"LAPACK", "DIST_KVSTORE", "INT64_TENSOR_SIZE", "SIGNAL_HANDLER"}
    if backend() == "onednn":
        enabled.add("MKLDNN")
    if importlib.util.find_spec("PIL") is not None:  # reads images, as OpenCV does in MXNet
        enabled.add("OPENCV")
    return [Feature(name, name in enabled) for name in _KNOWN]


class Features(OrderedDict[str, Feature]):
    """Features by name.

    Examples
    --------
    >>> mx.runtime.Features().is_enabled("DIST_KVSTORE")
    True
    """

    def __init__(self) -> None:
        super().__init__((feature.name, feature) for feature in feature_list())

    def __repr__(self) -> str:
        return str(list(self.values()))

    def is_enabled(self, feature_name: str) -> Any:
        """Whether a feature is there; RuntimeError for an unknown one."""
        name = feature_name.upper()
        if name not in self:
            raise RuntimeError(
                f"Feature '{name}' is unknown, known features are: {list(self.keys())}"
            )
        return self[name].enabled
