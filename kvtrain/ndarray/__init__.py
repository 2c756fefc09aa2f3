# SPDX-License-Identifier: Apache-2.0
"""``mx.nd``: arrays, functions on them, files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kvtrain.ndarray import (
    arithmetic,
    composed,
    control,
    deformable,
    dlpack,
    gradient,
    internal,
    methods,
    namespace,
    quantized,
    quantized_layers,
    random,
    rare,
    sparse,
    update,
)
from kvtrain.ndarray import image as image_random
from kvtrain.ndarray.array import NDArray
from kvtrain.ndarray.composed import (
    RNN,
    BatchNorm,
    Dropout,
    LeakyReLU,
    add_n,
    concatenate,
    histogram,
    log_sigmoid,
    moveaxis,
    split_v2,
)
from kvtrain.ndarray.creation import (
    arange,
    array,
    empty,
    eye,
    from_numpy,
    full,
    linspace,
    ones,
    zeros,
)
from kvtrain.ndarray.custom import Custom
from kvtrain.ndarray.dlpack import from_dlpack, to_dlpack_for_read, to_dlpack_for_write
from kvtrain.ndarray.serialization import load, load_frombuffer, save
from kvtrain.ndarray.storage import settle_all
from kvtrain.ndarray.update_many import (
    all_finite,
    multi_all_finite,
    multi_lars,
    multi_sum_sq,
    reset_arrays,
)

_functions = namespace.install()
family = namespace.family
arithmetic.install()
gradient.install()
dlpack.install()
methods.install()
_functions.update(arithmetic.FUNCTIONS)
_functions.update(update.FUNCTIONS)
_functions.update(random.FUNCTIONS)
_functions.update(rare.FUNCTIONS)
_functions.update({f"_contrib_{n}": f for n, f in rare.CONTRIB.items()})
for _function in (control.foreach, control.while_loop, control.cond):
    _functions[f"_contrib_{_function.__name__}"] = _function
_functions.update({f"_image_{n}": f for n, f in image_random.FUNCTIONS.items()})
_functions["_contrib_rand_zipfian"] = random.rand_zipfian
_functions.update({f"_contrib_{n}": f for n, f in update.CONTRIB.items()})
for _group in (deformable, quantized, quantized_layers):
    _functions.update({f"_contrib_{n}": f for n, f in _group.FUNCTIONS.items()})
ElementWiseSum = add_n
py_slice = slice
#: numbers of storages in files and in C
_STORAGE_TYPE_STR_TO_ID = {"undefined": -1, "default": 0, "row_sparse": 1, "csr": 2}


def waitall() -> None:
    """Await every pending pull; raises the first failure."""
    settle_all()


_functions.update(sparse.FUNCTIONS)
for _name, _function in _functions.items():
    if _name not in globals():
        globals()[_name] = _function
sparse.install(globals())
_functions["Custom"] = Custom
_functions.update({f.__name__: f for f in (BatchNorm, Dropout, LeakyReLU, RNN, add_n, histogram)})
BatchNorm_v1 = _functions["BatchNorm_v1"] = BatchNorm
_functions["_contrib_SyncBatchNorm"] = composed.SyncBatchNorm
_functions["_contrib_BatchNormWithReLU"] = composed.BatchNormWithReLU
op = SimpleNamespace(**_functions)
_internal = SimpleNamespace(**internal.functions(_functions))
linalg = family(_functions, "linalg")
contrib = family(_functions, "contrib")
image = family(_functions, "image")

__all__ = [
    "RNN",
    "BatchNorm",
    "Custom",
    "Dropout",
    "LeakyReLU",
    "NDArray",
    "add_n",
    "all_finite",
    "arange",
    "array",
    "concatenate",
    "empty",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "histogram",
    "linspace",
    "load",
    "load_frombuffer",
    "log_sigmoid",
    "moveaxis",
    "multi_all_finite",
    "multi_lars",
    "multi_sum_sq",
    "ones",
    "random",
    "reset_arrays",
    "save",
    "sparse",
    "split_v2",
    "to_dlpack_for_read",
    "to_dlpack_for_write",
    "waitall",
    "zeros",
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'kvtrain.nd' has no function {name!r}")
