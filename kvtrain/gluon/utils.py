# SPDX-License-Identifier: Apache-2.0
"""Splitting batches over contexts, clipping gradients by their norm."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from kvtrain import ndarray as nd
from kvtrain.context import Context
from kvtrain.errors import ConfigError
from kvtrain.gluon.block import Hook as HookHandle
from kvtrain.ndarray import NDArray

__all__ = [
    "HookHandle",
    "check_sha1",
    "clip_global_norm",
    "download",
    "replace_file",
    "shape_is_known",
    "split_and_load",
    "split_data",
]


def split_data(
    data: NDArray, num_slice: int, batch_axis: int = 0, even_split: bool = True
) -> list[NDArray]:
    """Cut `data` into `num_slice` parts along `batch_axis`.

    Raises
    ------
    ValueError
        The size is no multiple of `num_slice` and `even_split` is set.
    """
    size = data.shape[batch_axis]
    if even_split and size % num_slice:
        raise ValueError(
            f"data with shape {data.shape} cannot be evenly split into {num_slice} slices along "
            f"axis {batch_axis}. Use a batch size that's multiple of {num_slice} or set "
            "even_split=False to allow uneven partitioning of data."
        )
    each, longer = divmod(size, num_slice)
    cuts = [each * i + min(i, longer) for i in range(num_slice + 1)]
    if batch_axis == 0:
        return [data[a:b] for a, b in pairwise(cuts)]
    return [
        nd.slice_axis(data, axis=batch_axis, begin=a, end=b)  # type: ignore[attr-defined]
        for a, b in pairwise(cuts)
    ]


def split_and_load(
    data: Any, ctx_list: list[Context], batch_axis: int = 0, even_split: bool = True
) -> list[NDArray]:
    """Cut `data` into one part per context, each on its context."""
    array = data if isinstance(data, NDArray) else nd.array(data, ctx=ctx_list[0])
    if len(ctx_list) == 1:
        return [array.as_in_context(ctx_list[0])]
    parts = split_data(array, len(ctx_list), batch_axis, even_split)
    return [part.as_in_context(ctx) for part, ctx in zip(parts, ctx_list, strict=True)]


def clip_global_norm(
    arrays: list[NDArray], max_norm: float, check_isfinite: bool = True
) -> float | NDArray:
    """Scale the arrays in place so that their joint L2 norm is at most `max_norm`.

    Returns
    -------
    float
        The norm before; an NDArray if `check_isfinite` is False.
    """
    if not arrays:
        raise ValueError("clip_global_norm: no arrays were given")
    norm = math.sqrt(sum(float(np.square(a._read(), dtype=np.float64).sum()) for a in arrays))
    if check_isfinite and not math.isfinite(norm):
        warnings.warn("nan or inf is detected. Clipping results will be undefined.", stacklevel=2)
    scale = max_norm / (norm + 1e-8)
    if scale < 1.0:
        for array in arrays:
            raw = array._write()
            raw *= raw.dtype.type(scale)
    return norm if check_isfinite else nd.array([norm])


def shape_is_known(shape: tuple[int, ...] | None) -> bool:
    """Whether all sizes are known: none is 0 or -1."""
    return shape is not None and all(n > 0 for n in shape)


def check_sha1(filename: Any, sha1_hash: str) -> bool:
    """Whether the file's SHA-1 is `sha1_hash` (hexadecimal)."""
    found = hashlib.sha1(usedforsecurity=False)
    with open(filename, "rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest() == sha1_hash


def replace_file(src: Any, dst: Any) -> None:
    """Move a file over another in one step."""
    os.replace(src, dst)


def download(
    url: str,
    path: Any = None,
    overwrite: bool = False,
    sha1_hash: str | None = None,
    retries: int = 5,
    verify_ssl: bool = True,
) -> str:
    """Copy a local file (``file://``); nothing is fetched from the network.

    Parameters
    ----------
    url : str
    path : path, optional
        File or folder for it; default: the current folder.
    overwrite : bool
        Also if the file is there, with the right hash.
    sha1_hash : str, optional
        Checked before and after.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    ConfigError
        The file is not there and `url` is not ``file://``, or the hash is another.
    """
    name = url.rsplit("/", 1)[-1]
    if path is None:
        target = Path(name)
    else:
        target = Path(path).expanduser()
        target = target / name if target.is_dir() else target
    if not name and path is None:
        raise ConfigError(f"download: no file name can be told from {url!r}; give path=")
    if not overwrite and target.exists() and (not sha1_hash or check_sha1(target, sha1_hash)):
        return str(target)
    if not url.startswith("file://"):
        raise ConfigError(
            f"download: {url} is not fetched, for kvtrain does not use the network for data; get "
            f"it by other means and put it at {target}"
        )
    source = Path(url2pathname(urlsplit(url).path))
    if not source.is_file():
        raise ConfigError(f"download: there is no file {source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.copyfile(source, partial)
    if sha1_hash and not check_sha1(partial, sha1_hash):
        partial.unlink()
        raise ConfigError(f"download: {url} has another SHA-1 than {sha1_hash}")
    replace_file(partial, target)
    return str(target)
