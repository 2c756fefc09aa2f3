# SPDX-License-Identifier: Apache-2.0
"""One record per operator: forward, gradient, names and documentation.

``forward(xp, *arrays, **attrs)`` and ``vjp(xp, g, out, *arrays, **attrs)`` are written side by
side. Array inputs are positional-only, attributes keyword-only: the signature is the
declaration. A vjp uses only operators of arrays and names that are registered, through `xp`;
given NumPy it is plain arithmetic, given a recording namespace it is itself recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvtrain.ops.attribute import Parser, parser_of

Forward = Callable[..., Any]
Vjp = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """An operator on raw arrays; knows nothing of NDArray, tape or network."""

    name: str
    forward: Forward
    #: None: not differentiable, said explicitly
    vjp: Vjp | None
    #: names of the array inputs; a last name with a star takes any number
    inputs: tuple[str, ...]
    #: attribute -> default (inspect.Parameter.empty: required)
    attrs: dict[str, Any]
    aliases: tuple[str, ...] = ()
    #: names of the NDArray methods that call it
    methods: tuple[str, ...] = ()
    #: False: the function is not listed in `nd`
    public: bool = True
    #: behaves differently in training: gets the attribute `training`
    modal: bool = False
    #: how many of the outputs the caller gets, from the attributes; None: all
    visible: Callable[[dict[str, Any]], int] | None = None
    #: names of the inputs that a last starred name collects; (): any number under that name
    optional: tuple[str, ...] = ()
    #: attribute -> how its values are read and checked
    parsers: dict[str, Parser] = field(default_factory=dict, repr=False)
    doc: str = field(default="", repr=False)

    @property
    def variadic(self) -> bool:
        """Whether it takes any number of arrays."""
        return bool(self.inputs) and self.inputs[-1].startswith("*")


def _declaration(
    forward: Forward,
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Parser]]:
    inputs: list[str] = []
    attrs: dict[str, Any] = {}
    parsers: dict[str, Parser] = {}
    for i, (name, parameter) in enumerate(inspect.signature(forward).parameters.items()):
        if i == 0:
            continue  # xp
        if parameter.kind is parameter.VAR_POSITIONAL:
            inputs.append("*" + name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            attrs[name] = parameter.default
            parsers[name] = parser_of(parameter.annotation, parameter.default)
        else:
            inputs.append(name)
    return tuple(inputs), attrs, parsers


def op(
    name: str,
    *,
    vjp: Vjp | None,
    aliases: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    public: bool = True,
    modal: bool = False,
    visible: Callable[[dict[str, Any]], int] | None = None,
    optional: tuple[str, ...] = (),
    renamed: dict[str, str] | None = None,
    doc: str = "",
) -> Callable[[Forward], Forward]:
    """Register the decorated forward function as operator `name`.

    `renamed` gives inputs other names than those of the function's parameters.
    """

    def add(forward: Forward) -> Forward:
        inputs, attrs, parsers = _declaration(forward)
        if renamed:
            inputs = tuple(renamed.get(name, name) for name in inputs)
        record = Op(
            name=name,
            forward=forward,
            vjp=vjp,
            inputs=inputs,
            attrs=attrs,
            parsers=parsers,
            aliases=aliases,
            methods=methods,
            public=public,
            modal=modal,
            visible=visible,
            optional=optional,
            doc=doc or inspect.getdoc(forward) or "",
        )
        for known in (name, *aliases):
            if known in _BY_NAME:
                raise ValueError(f"operator name {known!r} is taken")
            _BY_NAME[known] = record
        return forward

    return add


#: exact (case-sensitive) name or alias -> record
_BY_NAME: dict[str, Op] = {}


def find(name: str) -> Op:
    """The operator called `name`."""
    return _BY_NAME[name]


def all_names() -> dict[str, Op]:
    """Every name and alias with its record."""
    return dict(_BY_NAME)
