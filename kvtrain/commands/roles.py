# SPDX-License-Identifier: Apache-2.0
"""``kvtrain server`` and ``kvtrain scheduler``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvtrain.config import Config
from kvtrain.errors import ConfigError
from kvtrain.optimizer import Optimizer
from kvtrain.ps.net.node import run_server
from kvtrain.ps.net.scheduling import run_scheduler


def _given(config: Config, **fields: Any) -> Config:
    return replace(config, **{name: value for name, value in fields.items() if value is not None})


def import_named(config: Config, more: tuple[str, ...] = ()) -> None:
    """Import the modules that make a user's classes known.

    Raises
    ------
    ConfigError
        One cannot be imported.
    """
    named = [name for name in (config.imports or "").split(",") if name]
    sys.path.insert(0, "")
    for module in (*named, *more):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"--import {module}: {error}") from None


def scheduler(
    address: str,
    workers: int | None,
    servers: int | None,
    token_file: str | None,
    cleanup: Callable[[Path], None],
) -> int:
    """Be the scheduler at `address`; returns the exit status."""
    config = _given(
        Config.from_environ(), num_workers=workers, num_servers=servers, token_file=token_file
    )
    return run_scheduler(config, address, cleanup)


def server(
    address: str,
    host: str | None,
    imports: tuple[str, ...],
    rank: int | None,
    token_file: str | None,
) -> int:
    """Be a server of the job whose scheduler is at `address`; returns the exit status."""
    config = _given(
        Config.from_environ(), scheduler=address, host=host, rank=rank, token_file=token_file
    )
    import_named(config, imports)
    return run_server(config, Optimizer.from_config)
