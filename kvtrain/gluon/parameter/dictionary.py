# SPDX-License-Identifier: Apache-2.0
"""A dictionary of parameters under one prefix."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

import numpy as np

from kvtrain import initializer as init_module
from kvtrain import ndarray as nd
from kvtrain.context import Context
from kvtrain.errors import ConfigError, KVTrainError
from kvtrain.gluon.parameter.constant import Constant
from kvtrain.gluon.parameter.single import Parameter, maker_of


class ParameterDict:
    """Parameters by name.

    Parameters
    ----------
    prefix : str
        Begins the name of everything made by :meth:`get`.
    shared : ParameterDict, optional
        Where names are looked up first.
    """

    def __init__(self, prefix: str = "", shared: ParameterDict | None = None) -> None:
        self._prefix = prefix
        self._params: dict[str, Parameter] = {}
        self._shared = shared

    @property
    def prefix(self) -> str:
        """Begins the names."""
        return self._prefix

    def __getitem__(self, key: str) -> Parameter:
        return self._params[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __contains__(self, key: object) -> bool:
        return key in self._params

    def keys(self) -> KeysView[str]:
        """Names."""
        return self._params.keys()

    def values(self) -> ValuesView[Parameter]:
        """Parameters."""
        return self._params.values()

    def items(self) -> ItemsView[str, Parameter]:
        """Names and parameters."""
        return self._params.items()

    def __repr__(self) -> str:
        lines = "\n".join(f"  {p!r}" for p in self.values())
        name = self._prefix + " " if self._prefix else ""
        return f"{name}(\n{lines}\n)"

    def _find(self, name: str) -> Parameter | None:
        if name in self._params:
            return self._params[name]
        if self._shared is not None:
            held = self._shared._find(name)
            if held is not None:
                self._params[name] = held
            return held
        return None

    def get(self, name: str, **kwargs: Any) -> Parameter:
        """The parameter ``prefix + name``, made if it is not there.

        Raises
        ------
        ConfigError
            It is there with other attributes.
        """
        full = self._prefix + name
        held = self._find(full)
        if held is None:
            held = self._params[full] = Parameter(full, **kwargs)
            return held
        for field, wanted in kwargs.items():
            stored = getattr(held, field, None)
            if wanted is None or stored is None:
                continue
            if field == "shape":
                wanted = (wanted,) if isinstance(wanted, int) else tuple(wanted)
                same = len(stored) == len(wanted) and all(
                    a == b or a <= 0 or b <= 0 for a, b in zip(stored, wanted, strict=True)
                )
                if same:
                    held.shape = tuple(max(a, b) for a, b in zip(stored, wanted, strict=True))
            elif field == "dtype":
                same = np.dtype(stored) == np.dtype(wanted)
            else:
                same = field != "grad_req" or stored == wanted
            if not same:
                raise ConfigError(
                    f"Cannot retrieve Parameter {full!r} because desired attribute does not match "
                    f"with stored for attribute {field!r}: desired {wanted!r}, stored {stored!r}"
                )
        return held

    def get_constant(self, name: str, value: Any = None) -> Constant:
        """The constant ``prefix + name``, made if it is not there."""
        full = self._prefix + name
        held = self._find(full)
        if held is None:
            if value is None:
                raise KeyError(f"no constant named {full!r}; pass a value to make it")
            held = self._params[full] = Constant(full, value)
        if not isinstance(held, Constant):
            raise ConfigError(f"parameter {full!r} is not a constant")
        if value is not None:
            raw = value.asnumpy() if hasattr(value, "asnumpy") else np.asarray(value)
            if not np.array_equal(raw, held.value.asnumpy()):
                raise ConfigError(f"constant {full!r} exists with another value")
        return held

    def update(self, other: ParameterDict) -> None:
        """Take in all of `other`."""
        for name, parameter in other.items():
            if self._params.setdefault(name, parameter) is not parameter:
                raise ConfigError(f"there are two different parameters named {name!r}")

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """Initialise all; `init` (Uniform by default) yields to a parameter's own."""
        default = init_module.Uniform() if init is None else maker_of(init)
        for parameter in self.values():
            parameter.initialize(None, ctx, default, force_reinit)

    def zero_grad(self) -> None:
        """All gradients to 0."""
        for parameter in self.values():
            parameter.zero_grad()

    def reset_ctx(self, ctx: Any) -> None:
        """All to other contexts."""
        for parameter in self.values():
            parameter.reset_ctx(ctx)

    def list_ctx(self) -> list[Context]:
        """Every context that one of them is on."""
        found: dict[Context, None] = {}
        for parameter in self.values():
            found.update(dict.fromkeys(parameter.list_ctx()))
        return list(found)

    def setattr(self, name: str, value: Any) -> None:
        """Set an attribute of all."""
        for parameter in self.values():
            setattr(parameter, name, value)

    def save(self, filename: str, strip_prefix: str = "") -> None:
        """Save values by name in a ``.params`` file."""
        arrays = {}
        for parameter in self.values():
            if not parameter.name.startswith(strip_prefix):
                raise ValueError(
                    f"prefix {strip_prefix!r} is to be stripped, but parameter "
                    f"{parameter.name!r} does not begin with it"
                )
            arrays[parameter.name[len(strip_prefix) :]] = parameter._reduce()
        nd.save(filename, arrays)

    def load(
        self,
        filename: str,
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        restore_prefix: str = "",
        cast_dtype: bool = False,
        dtype_source: str = "current",
    ) -> None:
        """Load values by name from a ``.params`` file."""
        loaded = nd.load(filename)
        if not isinstance(loaded, dict):
            raise KVTrainError(f"{filename}: holds arrays without names")
        self.load_dict(
            loaded,
            ctx,
            allow_missing,
            ignore_extra,
            restore_prefix,
            filename,
            cast_dtype,
            dtype_source,
        )

    def load_dict(
        self,
        param_dict: dict[str, Any],
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        restore_prefix: str = "",
        filename: str | None = None,
        cast_dtype: bool = False,
        dtype_source: str = "current",
    ) -> None:
        """Take values by name from a dictionary; ``arg:`` and ``aux:`` before names are dropped."""
        filename = filename or "the dictionary"
        arrays = {
            restore_prefix + name.removeprefix("arg:").removeprefix("aux:"): value
            for name, value in param_dict.items()
        }
        missing = [name for name in self.keys() if name not in arrays]
        if missing and not allow_missing:
            raise KVTrainError(
                f"{filename} lacks parameter {missing[0]!r} (and {len(missing) - 1} more); "
                "set allow_missing=True to keep their values"
            )
        for name, value in arrays.items():
            if name in self._params:
                self._params[name]._load_init(value, ctx, cast_dtype, dtype_source)
            elif not ignore_extra:
                raise KVTrainError(
                    f"{filename} holds {name!r}, which is no parameter here; set "
                    "ignore_extra=True to pass over it"
                )
