# SPDX-License-Identifier: Apache-2.0
"""``mx.model``: files of parameters by epoch, ``prefix-0001.params``."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from kvtrain.context import cpu
from kvtrain.errors import FormatError
from kvtrain.ndarray import NDArray, load, save


class BatchEndParam(NamedTuple):
    """What a callback at the end of a batch is given."""

    epoch: int
    nbatch: int
    eval_metric: Any
    locals: dict[str, Any] | None = None


def save_checkpoint(
    prefix: str,
    epoch: int,
    symbol: Any,
    arg_params: dict[str, NDArray],
    aux_params: dict[str, NDArray],
    remove_amp_cast: bool = True,
) -> None:
    """Write ``prefix-symbol.json`` (if there is a symbol) and ``prefix-0001.params``.

    Parameters
    ----------
    prefix : str
        Path without the ending.
    epoch : int
        Number in the name of the file.
    symbol : Symbol or None
    arg_params, aux_params : dict of str to NDArray
        Parameters, and states such as running means.
    """
    if symbol is not None:
        symbol.save(f"{prefix}-symbol.json", remove_amp_cast=remove_amp_cast)
    held = {f"arg:{name}": value.as_in_context(cpu()) for name, value in arg_params.items()}
    held |= {f"aux:{name}": value.as_in_context(cpu()) for name, value in aux_params.items()}
    path = f"{prefix}-{epoch:04d}.params"
    save(path, held)
    logging.info('Saved checkpoint to "%s"', path)


def load_params(prefix: str, epoch: int) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Parameters and states from ``prefix-0001.params``.

    Raises
    ------
    FormatError
        The file holds a list, or names without ``arg:`` or ``aux:``.
    """
    path = f"{prefix}-{epoch:04d}.params"
    held = load(path)
    found: dict[str, dict[str, NDArray]] = {"arg": {}, "aux": {}}
    if not held:
        logging.warning("Params file '%s' is empty", path)
        return found["arg"], found["aux"]
    if not isinstance(held, dict):
        raise FormatError(f"{path}: a list of arrays without names")
    for key, value in held.items():
        kind, colon, name = key.partition(":")
        if not colon or kind not in found:
            raise FormatError(f"{path}: the name {key!r} starts with neither arg: nor aux:")
        found[kind][name] = value
    return found["arg"], found["aux"]
