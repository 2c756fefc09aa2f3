# SPDX-License-Identifier: Apache-2.0
"""Prefixes of blocks: ``dense0_``, and inside a ``name_scope()`` ``net0_dense0_``."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from kvtrain.gluon.parameter import ParameterDict
from kvtrain.name import NameManager


class _Current(threading.local):
    def __init__(self) -> None:
        self.scope: BlockScope | None = None


_current = _Current()


def _numbered(hint: str, counter: Counter[str]) -> str:
    counter[hint] += 1
    return f"{hint}{counter[hint] - 1}_"


class BlockScope:
    """``with block.name_scope():`` blocks made inside are named under this one."""

    def __init__(self, prefix: str, params: ParameterDict, bare: bool) -> None:
        self._prefix = prefix
        self._params = params
        #: the block was made with an empty prefix: the scope changes nothing
        self._bare = bare
        self._counter: Counter[str] = Counter()
        self._outer: list[BlockScope | None] = []

    def __enter__(self) -> BlockScope:
        self._outer.append(_current.scope)
        if not self._bare:
            _current.scope = self
        return self

    def __exit__(self, *exc: Any) -> None:
        _current.scope = self._outer.pop()

    @staticmethod
    def create(
        prefix: str | None, params: ParameterDict | None, hint: str
    ) -> tuple[str, ParameterDict]:
        """Prefix and parameter dictionary of a new block."""
        scope = _current.scope
        if scope is None:
            if prefix is None:
                prefix = NameManager.current.get(None, hint) + "_"
            if params is None:
                return prefix, ParameterDict(prefix)
            return prefix, ParameterDict(params.prefix, params)
        if prefix is None:
            prefix = _numbered(hint, scope._counter)
        if params is None:
            parent = scope._params
            return scope._prefix + prefix, ParameterDict(parent.prefix + prefix, parent._shared)
        return scope._prefix + prefix, ParameterDict(params.prefix, params)
