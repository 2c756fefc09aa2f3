# SPDX-License-Identifier: Apache-2.0
"""Trained values of known networks, from local files; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = "~/.mxnet/models"


def get_model_file(name: str, root: Any = ROOT) -> str:
    """Path of the trained values of `name`: ``<name>.params`` or ``<name>-<hash>.params``.

    Raises
    ------
    FileNotFoundError
        There is none in `root`.
    """
    folder = Path(root).expanduser()
    found = [folder / f"{name}.params", *sorted(folder.glob(f"{name}-*.params"))]
    for path in found:
        if path.is_file():
            return str(path)
    raise FileNotFoundError(
        f"trained values of {name}: neither {name}.params nor {name}-<hash>.params is in {folder}. "
        "Nothing is downloaded: put MXNet's file there, or give another root="
    )


def load_trained(net: Any, name: str, pretrained: bool, ctx: Any, root: Any) -> Any:
    """`net`, with its trained values if `pretrained`."""
    if pretrained:
        net.load_parameters(get_model_file(name, root), ctx=ctx)
    return net
