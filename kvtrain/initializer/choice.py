# SPDX-License-Identifier: Apache-2.0
"""Choices between initializers: by file, by pattern."""

from __future__ import annotations

import logging
import re
from typing import Any

from kvtrain.errors import ConfigError
from kvtrain.initializer.base import Initializer
from kvtrain.ndarray import NDArray, load


class Load:
    """Takes values from a file or a dict; the rest goes to `default_init`.

    Parameters
    ----------
    param : str or dict of str to NDArray
        A ``.params`` file, or its contents; ``arg:`` and ``aux:`` before names are dropped.
    default_init : Initializer, optional
    verbose : bool
        Log what was done for each name.
    """

    def __init__(self, param: Any, default_init: Any = None, verbose: bool = False) -> None:
        held = load(param) if isinstance(param, str) else param
        if not isinstance(held, dict):
            raise ConfigError(f"Load: {param!r} holds no names")
        self.param = {re.sub("^(arg|aux):", "", name): value for name, value in held.items()}
        self.default_init = default_init
        self.verbose = verbose

    def __call__(self, name: str, arr: NDArray) -> None:
        """Fill `arr`."""
        if name in self.param:
            if arr.shape != self.param[name].shape:
                raise ConfigError(
                    f"Parameter {name} cannot be initialized from loading. Shape mismatch, target "
                    f"{arr.shape} vs loaded {self.param[name].shape}"
                )
            arr[:] = self.param[name]
        elif self.default_init is None:
            raise ConfigError(
                f"Cannot Initialize {name}. Not found in loaded param and no default "
                "Initializer is provided."
            )
        else:
            self.default_init(name, arr)
        if self.verbose:
            how = "loading" if name in self.param else "default"
            logging.info("Initialized %s by %s", name, how)


class Mixed:
    """Several initializers, chosen by the first regular expression that a name matches."""

    def __init__(self, patterns: list[str], initializers: list[Initializer]) -> None:
        if len(patterns) != len(initializers):
            raise ConfigError(f"Mixed: {len(patterns)} patterns, {len(initializers)} initializers")
        self.map = list(zip((re.compile(p) for p in patterns), initializers, strict=True))

    def __call__(self, name: str, arr: NDArray) -> None:
        """Fill `arr`."""
        for pattern, initializer in self.map:
            if pattern.match(name):
                initializer(name, arr)
                return
        raise ConfigError(f"Mixed: no pattern matches {name!r}; add '.*' as the last one")
