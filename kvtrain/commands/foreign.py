# SPDX-License-Identifier: Apache-2.0
"""A process that MXNet's own launcher started as scheduler or server becomes that role."""

from __future__ import annotations

import sys
from typing import NoReturn

from kvtrain.commands.roles import import_named
from kvtrain.config import Config
from kvtrain.errors import KVTrainError
from kvtrain.optimizer import Optimizer
from kvtrain.ps.net.foreign import listening_address, prepare
from kvtrain.ps.net.node import run_server
from kvtrain.ps.net.scheduling import run_scheduler


def become() -> NoReturn:
    """Run the role that DMLC_ROLE names until the job ends, then exit."""
    try:
        config = prepare(Config.from_environ())
        if config.role == "scheduler":
            status = run_scheduler(config, listening_address(config))
        else:
            import_named(config)
            status = run_server(config, Optimizer.from_config)
    except KVTrainError as error:
        sys.stderr.write(f"kvtrain: {type(error).__name__}: {error}\n")
        status = 1
    sys.exit(status)
