# SPDX-License-Identifier: Apache-2.0
"""The job's token: minted per job, kept in a file that only its owner can read."""

from __future__ import annotations

from pathlib import Path

from kvtrain.config import Config
from kvtrain.errors import ConfigError

#: of jobs that were allowed to run without authentication
_NO_SECRET = b"kvtrain: insecure"


def read_token(config: Config) -> bytes:
    """The token from the file that the configuration names.

    Raises
    ------
    ConfigError
        No file is named, it cannot be read, or it holds no hexadecimal text.
    """
    if config.token_file is None and config.foreign and config.insecure:
        return _NO_SECRET
    if config.token_file is None:
        raise ConfigError(
            "KVTRAIN_TOKEN_FILE is not set: the file that holds the job's token (written by "
            "`kvtrain launch`, or by hand with mode 0600)"
        )
    try:
        token = bytes.fromhex(Path(config.token_file).read_text().strip())
    except OSError as error:
        raise ConfigError(
            f"the token file {config.token_file} cannot be read: {error.strerror}"
        ) from None
    except ValueError:
        raise ConfigError(f"the token file {config.token_file} holds no hexadecimal text") from None
    if len(token) < 16:
        raise ConfigError(f"the token in {config.token_file} is shorter than 16 bytes")
    return token
