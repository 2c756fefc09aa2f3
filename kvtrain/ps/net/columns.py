# SPDX-License-Identifier: Apache-2.0
"""Lists of records to columns and back: what a message of many small chunks consists of.

A list of several travels as ``(count, column, ...)``, a column for each field: the value itself
where all records have the same one, else all values; a field that is a record again is a column
of columns. So records are taken apart, checked and put together by a few calls for each column,
not for each record. At least one column has all values, so that a short message cannot announce
a long list.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from kvtrain.ps.net.forms import MAX_ITEMS, Form, bad, form_of

#: values of these types equal only what has the same bytes
_SCALARS = (int, str, bool, bytes)


class _Scalars:
    """A column of numbers or strings."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def pack(self, values: Sequence[Any], whole: bool) -> Any:
        return values[0] if not whole and values.count(values[0]) == len(values) else values

    def is_constant(self, packed: Any) -> bool:
        return type(packed) is not tuple

    def unpack(self, packed: Any, count: int) -> Iterable[Any]:
        if type(packed) is self.kind:
            return repeat(packed, count)
        if type(packed) is tuple and len(packed) == count and set(map(type, packed)) == {self.kind}:
            return packed
        raise bad(f"{packed!r:.40} are no {count} values of {self.kind.__name__}")


class _Others:
    """A column of anything that is packed as it is: always all values."""

    def __init__(self, decode: Any) -> None:
        self.decode = decode

    def pack(self, values: Sequence[Any], whole: bool) -> Any:
        return values

    def is_constant(self, packed: Any) -> bool:
        return False

    def unpack(self, packed: Any, count: int) -> Iterable[Any]:
        if type(packed) is not tuple or len(packed) != count:
            raise bad(f"{packed!r:.40} are no {count} values")
        return [self.decode(value) for value in packed]


class _Records:
    """Columns of a named tuple; as a column of another one ``(record,)`` if all are the same."""

    def __init__(self, kind: Any, decode: Any) -> None:
        hints = typing.get_type_hints(kind)
        self.kind, self.decode = kind, decode
        self.columns: list[Any] = [_column(hints[name]) for name in kind._fields]

    def pack(self, values: Sequence[Any], whole: bool) -> Any:
        if not whole and values.count(values[0]) == len(values):
            return (values[0],)
        return self.apart(values)

    def is_constant(self, packed: Any) -> bool:
        return type(packed) is tuple and len(packed) == 1

    def unpack(self, packed: Any, count: int) -> Iterable[Any]:
        if self.is_constant(packed):
            return repeat(self.decode(packed[0]), count)
        return self.together(packed, count)

    def apart(self, values: Sequence[Any]) -> list[Any]:
        """One column for each field."""
        fields = list(zip(*values, strict=True))
        packed = [c.pack(part, False) for c, part in zip(self.columns, fields, strict=True)]
        if self._all_constant(packed):
            packed[0] = self.columns[0].pack(fields[0], True)
        return packed

    def together(self, packed: Any, count: int) -> list[Any]:
        """The records of columns."""
        if type(packed) is not tuple or len(packed) != len(self.columns):
            raise bad(f"{packed!r:.40} are no {len(self.columns)} columns")
        if self._all_constant(packed):
            raise bad(f"{count} equal records")
        parts = [c.unpack(part, count) for c, part in zip(self.columns, packed, strict=True)]
        return list(map(tuple.__new__, repeat(self.kind, count), zip(*parts, strict=True)))

    def _all_constant(self, packed: Sequence[Any]) -> bool:
        return all([c.is_constant(part) for c, part in zip(self.columns, packed, strict=True)])


def _column(kind: Any) -> Any:
    if kind in _SCALARS:
        return _Scalars(kind)
    encode, decode = form_of(kind)
    if encode is not None:
        raise TypeError(f"{kind!r} is not packed as it is")
    return _Records(kind, decode) if _is_record(kind) else _Others(decode)


def _is_record(kind: Any) -> bool:
    return hasattr(kind, "_fields") and len(kind._fields) > 1


def list_form_of(kind: Any) -> Form | None:
    """How a message's list of plain named tuples travels; None for any other type."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is not tuple or len(arguments) != 2 or arguments[1] is not Ellipsis:
        return None
    item = arguments[0]
    if not _is_record(item):
        return None
    encode, decode = form_of(item)
    if encode is not None:
        return None
    records = _Records(item, decode)

    def pack(values: Sequence[Any]) -> Any:
        # one record travels as it is
        return (len(values), *records.apart(values)) if len(values) > 1 else values

    def unpack(packed: Any) -> Any:
        if type(packed) is not tuple:
            raise bad(f"{packed!r:.40} is no list of {item.__name__}")
        if len(packed) < 2:
            return tuple([decode(record) for record in packed])
        if type(packed[0]) is not int or not 1 < packed[0] <= MAX_ITEMS:
            raise bad(f"a list of {packed[0]!r:.40} {item.__name__}")
        return tuple(records.together(packed[1:], packed[0]))

    return pack, unpack
