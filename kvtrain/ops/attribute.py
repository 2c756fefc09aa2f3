# SPDX-License-Identifier: Apache-2.0
"""Values of attributes, checked against the type that the operator's signature declares.

Every attribute may be given as text, as MXNet's own files and old scripts give them:
``kernel="(3, 3)"``, ``axis="1"``, ``no_bias="True"``.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from kvtrain.errors import DTypeError, OperatorError

#: an int, or several of them; None in a place where the operator has a default
Shape = Any
#: a number, or several of them
Numbers = Any
#: checks one value (owner, attribute, value) and returns it as the operator takes it
Parser = Callable[[str, str, Any], Any]
_INTEGER = re.compile(r"[+-]?\d+")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


#: the dtypes of MXNet's arrays; other integers are held too
_DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")


def dtype_of(value: Any, owner: str = "array", name: str = "dtype") -> np.dtype[Any]:
    """`value` as a dtype that arrays can have.

    Raises
    ------
    DTypeError
        It is none of those; also a TypeError.
    """
    try:
        kind = np.dtype(value)
    except TypeError:
        kind = None
    if kind is None or (kind.name not in _DTYPES and kind.kind not in "iu"):
        raise DTypeError(f"{owner}: {name}={value!r}; known: {', '.join(_DTYPES)}")
    return kind.newbyteorder("=")


def _refuse(owner: str, name: str, value: Any, wanted: str) -> OperatorError:
    return OperatorError(f"{owner.strip('_')}: {name}={value!r}; {wanted} is needed")


def _integer(owner: str, name: str, value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise _refuse(owner, name, value, "an integer")


def _number(owner: str, name: str, value: Any) -> Any:
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _refuse(owner, name, value, "a number") from None
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return value
    raise _refuse(owner, name, value, "a number")


def _switch(owner: str, name: str, value: Any) -> Any:
    if value is True or value is False:
        return value
    if isinstance(value, str | int | np.bool_ | np.integer):
        known = _SWITCH.get(str(value).strip().lower())
        if known is not None:
            return known
    raise _refuse(owner, name, value, "True or False")


def _literal(value: str) -> Any:
    """What a text stands for; itself, if nothing."""
    # MXNet's own texts have a trailing L after long numbers
    text = re.sub(r"(?<=\d)L\b", "", value.strip())
    if "," in text and text[0] not in "([":
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return value


def _several(one: Parser, wanted: str) -> Parser:
    def parse(owner: str, name: str, value: Any) -> Any:
        held = _literal(value) if isinstance(value, str) else value
        if held is None:
            return None
        if isinstance(held, list | tuple):
            try:
                return tuple(None if v is None else one(owner, name, v) for v in held)
            except OperatorError:
                raise _refuse(owner, name, value, wanted) from None
        if isinstance(held, str | np.ndarray):
            raise _refuse(owner, name, value, wanted)
        try:
            return one(owner, name, held)
        except OperatorError:
            raise _refuse(owner, name, value, wanted) from None

    return parse


def _text(owner: str, name: str, value: Any) -> Any:
    if name.endswith("dtype"):
        return value if value == "None" else dtype_of(value, owner, name).name
    if isinstance(value, str):
        return value
    raise _refuse(owner, name, value, "a text")


def _anything(owner: str, name: str, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_PARSERS: dict[str, Parser] = {
    "int": _integer,
    "float": _number,
    "bool": _switch,
    "str": _text,
    "Shape": _several(_integer, "an integer or a tuple of them"),
    "Numbers": _several(_number, "a number or a tuple of them"),
    "Any": _anything,
}


def _or_none(parse: Parser) -> Parser:
    def parse_optional(owner: str, name: str, value: Any) -> Any:
        if value is None or value == "None":
            return None
        return parse(owner, name, value)

    return parse_optional


def parser_of(annotation: Any, default: Any) -> Parser:
    """How values of an attribute with this annotation (its text) and default are read."""
    kind, _, rest = str(annotation).partition(" | ")
    parse = _PARSERS.get(kind, _anything)
    return _or_none(parse) if rest == "None" or default is None else parse


def read_number(owner: str, name: str, value: Any) -> Any:
    """A number from its text; anything else as it is."""
    return _number(owner, name, value) if isinstance(value, str) else value


def read_shape(owner: str, name: str, value: Any) -> Any:
    """An int or a tuple of ints from its text; anything else as it is."""
    return _PARSERS["Shape"](owner, name, value) if isinstance(value, str) else value


def read_like(owner: str, name: str, value: Any, default: Any) -> Any:
    """A value read from its text as the type of `default`; anything else as it is."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if isinstance(default, bool):
        return _switch(owner, name, value)
    return (
        _literal(value)
        if default is None or isinstance(default, tuple)
        else _number(owner, name, value)
    )


def declared(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose named arguments are read as its annotations declare them."""
    parsers = {
        p.name: parser_of(p.annotation, p.default)
        for p in inspect.signature(function).parameters.values()
        if str(p.annotation).partition(" | ")[0] in _PARSERS and p.annotation != "Any"
    }

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        for name, value in kwargs.items():
            parse = parsers.get(name)
            if parse is not None:
                kwargs[name] = parse(function.__name__, name, value)
        return function(*args, **kwargs)

    return run
