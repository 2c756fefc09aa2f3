# SPDX-License-Identifier: Apache-2.0
"""Jobs of MXNet's own launchers, which tell processes a role, an address and two numbers.

Such a job has no token. On one machine its processes meet through the loopback interface and
share a token in the user's private run directory, whatever address of this machine the launcher
named. Beyond one machine it needs KVTRAIN_INSECURE=1 in every process, since nothing is
encrypted; KVTRAIN_TOKEN_FILE then still keeps strangers out.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path

from kvtrain import platform
from kvtrain.config import Config, run_base
from kvtrain.errors import ConfigError

TOKEN_NAME = "loopback.token"


def prepare(config: Config) -> Config:
    """`config` with addresses that can be used, and with a token file on one machine.

    Raises
    ------
    ConfigError
        The scheduler is on another machine, or is to listen beyond this one, and
        KVTRAIN_INSECURE is not set; a network interface does not exist.
    """
    if not config.foreign or config.scheduler is None:
        return config
    host, _, port = config.scheduler.removeprefix("tcp://").rpartition(":")
    local = platform.is_own_address(host)
    if local and (platform.is_loopback(host) or not config.insecure):
        token = config.token_file or str(shared_token(run_base()))
        return replace(
            config, scheduler=f"tcp://127.0.0.1:{port}", host="127.0.0.1", token_file=token
        )
    if not config.insecure:
        raise ConfigError(
            f"DMLC_PS_ROOT_URI={host} is another machine, and this job's messages would not be "
            "encrypted. If the network is trusted set KVTRAIN_INSECURE=1 for every process of the "
            "job, the scheduler too (and KVTRAIN_TOKEN_FILE to a file of mode 0600 with the same "
            "hexadecimal secret everywhere, to keep strangers out); or start it with "
            "`kvtrain launch`"
        )
    if config.interface is not None:
        mine = platform.interface_address(config.interface)
        if mine is None:
            raise ConfigError(f"DMLC_INTERFACE={config.interface!r}: no such interface, or no IPv4")
    else:
        mine = host if local else platform.address_towards(host, int(port))
    return replace(config, host=mine)


def listening_address(config: Config) -> str:
    """Where the scheduler listens: its own address, or all if its name belongs to a proxy."""
    assert config.scheduler is not None
    host, _, port = config.scheduler.removeprefix("tcp://").rpartition(":")
    if platform.is_own_address(host):
        return f"tcp://{platform.resolve(host)}:{port}"
    return f"tcp://0.0.0.0:{port}"


def shared_token(directory: Path) -> Path:
    """The file with this user's token for jobs on one machine; made by whoever comes first.

    Raises
    ------
    ConfigError
        The directory belongs to somebody else, or others may read it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise ConfigError(f"{directory} must belong to you alone, with mode 0700")
    path = directory / TOKEN_NAME
    if not path.exists():
        fresh = directory / f"{TOKEN_NAME}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(fresh, path)  # whole from the first moment, and only once
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path
