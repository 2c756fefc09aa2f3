# SPDX-License-Identifier: Apache-2.0
"""Every message of the protocol, once (PROTOCOL section 2).

A message is a frozen dataclass with a wire tag and the roles that receive it; the codec is
derived from the fields. Field types are limited to int, float, str, bool, bytes, optional
values, named tuples, frozen dataclasses, tuples of one of these, ``Plain`` for small trees
of plain data, and ``Arrays``: flat arrays that travel as raw frames beside the header and
are never compared. ``store``, ``step``, ``request`` and ``epoch`` are in every header; job
token and sender are added by the shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from kvtrain.ps.core.membership import NO_EPOCH, Epoch, Role

Plain = dict[str, Any]
Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What every message carries."""

    TAG: ClassVar[int] = 0
    RECEIVERS: ClassVar[tuple[Role, ...]] = ()
    #: roles that may send it; empty: any
    SENDERS: ClassVar[tuple[Role, ...]] = ()

    store: int = 0
    step: int = 0
    request: int = 0
    epoch: Epoch = NO_EPOCH


M = TypeVar("M", bound=type[Message])
#: wire tag -> message class
MESSAGES: dict[int, type[Message]] = {}


def message(tag: int, *receivers: Role, by: tuple[Role, ...] = ()) -> Any:
    """Enter a class under its wire tag, with the roles that receive it and that may send it."""

    def add(cls: M) -> M:
        if tag in MESSAGES:
            raise ValueError(f"message tag {tag} is taken by {MESSAGES[tag].__name__}")
        cls.TAG = tag
        cls.RECEIVERS = receivers
        cls.SENDERS = by
        MESSAGES[tag] = cls
        return cls

    return add
