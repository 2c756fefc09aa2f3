# SPDX-License-Identifier: Apache-2.0
"""Which consistency mode a key has: the store's own, or one chosen by a pattern."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from kvtrain.errors import ConfigError
from kvtrain.ps.core.backup import backups_of
from kvtrain.ps.core.clocks import mode


class Consistency:
    """Modes of a store's keys (PROTOCOL R43): fixed when a key is initialised.

    Parameters
    ----------
    default : str
        What keys have that no pattern names, as :func:`kvtrain.ps.core.clocks.mode` spells it.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self._patterns: list[tuple[str, str]] = []

    def set(self, pattern: str, name: str, staleness: int | None, keys: Iterable[str]) -> None:
        """Choose a mode for keys to come that match; `keys` are there already.

        Raises
        ------
        ConfigError
            An unknown mode, or a key that matches was initialised.
        """
        if not isinstance(pattern, str):
            raise ConfigError(f"set_consistency: the pattern {pattern!r} is no str")
        spelled = mode(name, staleness)
        if spelled == "sync" and backups_of(self.default):
            raise ConfigError(
                f"set_consistency({pattern!r}, 'sync'): the store has backup workers, who jump "
                "over steps; a key that waits for everybody belongs in a store without them"
            )
        late = [key for key in keys if fnmatchcase(key, pattern)]
        if late:
            raise ConfigError(
                f"set_consistency({pattern!r}, {name!r}): key {late[0]!r} matches and was "
                "initialised already; choose the consistency of a key before its init"
            )
        self._patterns.append((pattern, spelled))

    @property
    def mixed(self) -> bool:
        """Whether some pattern chose a mode for keys."""
        return bool(self._patterns)

    def of(self, key: str) -> str:
        """The mode of a key; of several patterns that match the last one set counts."""
        for pattern, spelled in reversed(self._patterns):
            if fnmatchcase(key, pattern):
                return spelled
        return self.default
