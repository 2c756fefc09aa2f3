# SPDX-License-Identifier: Apache-2.0
"""Messages to frames and back, derived from the dataclasses' fields.

Frame 0 is a msgpack array: protocol version, tag, job token, sender, store, step, request,
epoch, the message's own fields, and the arrays: how many, dtypes and elements (one number where
all are alike), and those that lie in memory which the receiver has mapped, as (which, segment,
slot, generation, offset). The others follow as raw little-endian bytes: together in one frame if
they are small, else one frame each; a received array is a read-only view. Decoding checks
everything before it allocates, casts or believes anything; nothing is ever unpickled.
"""

from __future__ import annotations

import hmac
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np

from kvtrain._version import PROTOCOL_VERSION
from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core.membership import Epoch, NodeId
from kvtrain.ps.core.messages import MESSAGES, Arrays, Message
from kvtrain.ps.core.shards import DTYPES
from kvtrain.ps.net.columns import list_form_of
from kvtrain.ps.net.forms import MAX_ITEMS, bad, form_of, getter
from kvtrain.ps.net.segments import SMALL, Place

#: messages whose arrays are at most this long travel with all arrays in one frame
TOGETHER = 64 * 1024
#: longest header
MAX_HEADER = 16 << 20
_CODES = {np.dtype(name): code for code, name in enumerate(DTYPES)}
_KINDS = [np.dtype(name) for name in DTYPES]
_HEAD = ("store", "step", "request", "epoch")
Array = np.ndarray[Any, Any]
Locate = Callable[[Array], Place | None]
Resolve = Callable[[NodeId, Place, np.dtype[Any], int], Array]


class WrongToken(RemoteProtocolError):
    """The message does not carry the job's token."""


class WrongVersion(RemoteProtocolError):
    """The message is of another protocol version."""


class _Form:
    """How one message class travels."""

    def __init__(self, cls: type[Message]) -> None:
        self.cls = cls
        hints = typing.get_type_hints(cls)
        self.has_arrays = False
        self.names: list[str] = []
        forms = []
        for field in fields(cls):
            if field.name in _HEAD:
                continue
            if hints[field.name] == Arrays:
                self.has_arrays = True
                continue
            self.names.append(field.name)
            forms.append(list_form_of(hints[field.name]) or form_of(hints[field.name]))
        self.decoders = [decode for _, decode in forms]
        self.values = getter(self.names, [encode for encode, _ in forms])


_FORMS = {tag: _Form(cls) for tag, cls in MESSAGES.items()}
_node = form_of(NodeId)[1]
_epoch = form_of(Epoch)[1]


def encode(
    message: Message, sender: NodeId, token: bytes, locate: Locate | None = None
) -> list[Any]:
    """Frames of `message`; arrays are not copied unless they travel together.

    `locate` finds arrays that lie in memory which the receiver has mapped.
    """
    form = _FORMS[message.TAG]
    arrays: Sequence[Array] = message.arrays if form.has_arrays else ()  # type: ignore[attr-defined]
    described: Any = ()
    rest = arrays
    if arrays:
        places = []
        if locate is not None:
            for i, array in enumerate(arrays):
                place = None if array.nbytes < SMALL else locate(array)
                if place is not None:
                    places.append((i, *place))
            if places:
                mapped = {place[0] for place in places}
                rest = [array for i, array in enumerate(arrays) if i not in mapped]
        if len(arrays) == 1 and not places:
            array = arrays[0]
            described = (1, _CODES[array.dtype], array.size, ())
        else:
            described = _described(arrays, places)
    header = msgpack.packb(
        [
            PROTOCOL_VERSION,
            message.TAG,
            token,
            sender,
            message.store,
            message.step,
            message.request,
            message.epoch,
            form.values(message),
            described,
        ]
    )
    if not rest:
        return [header]
    if len(rest) == 1 and rest[0].nbytes <= TOGETHER:
        return [header, rest[0].tobytes()]
    if sum(a.nbytes for a in rest) <= TOGETHER:
        return [header, b"".join([a.tobytes() for a in rest])]
    return [header, *(np.ascontiguousarray(a).data.cast("B") if a.size else b"" for a in rest)]


def _described(arrays: Sequence[Array], places: list[Any]) -> Any:
    codes, sizes = [_CODES[a.dtype] for a in arrays], [a.size for a in arrays]
    alike = sizes[0] and not places and sizes.count(sizes[0]) == len(sizes)
    return (
        len(arrays),
        codes[0] if codes.count(codes[0]) == len(codes) else codes,
        sizes[0] if alike else sizes,
        places,
    )


def decode(
    frames: Sequence[Any], token: bytes, resolve: Resolve | None = None
) -> tuple[NodeId, Message]:
    """Sender and message; `resolve` finds arrays in mapped memory of the sender.

    Raises
    ------
    WrongToken, WrongVersion
        It is not of this job, or of another protocol version.
    RemoteProtocolError
        It is malformed; says how.
    """
    if not frames or len(frames[0]) > MAX_HEADER:
        raise bad("no header, or one that is too long")
    try:
        head = msgpack.unpackb(
            frames[0],
            use_list=False,
            max_array_len=MAX_ITEMS,
            max_map_len=4096,
            max_str_len=1 << 20,
        )
    except Exception as error:
        # msgpack has a class of its own for each thing that can be wrong
        raise bad(f"the header is no msgpack ({type(error).__name__})") from None
    if type(head) is not tuple or len(head) < 3 or type(head[0]) is not int:
        raise bad("the header is no array of this protocol")
    if head[0] != PROTOCOL_VERSION:
        raise WrongVersion(
            f"the sender speaks protocol version {head[0]}, this process {PROTOCOL_VERSION}; "
            "install the same kvtrain everywhere"
        )
    if type(head[2]) is not bytes or not hmac.compare_digest(head[2], token):
        raise WrongToken("the job token is wrong")
    if len(head) != 10 or type(head[1]) is not int or head[1] not in _FORMS:
        raise bad("unknown tag or wrong number of header fields")
    if type(head[8]) is not tuple:
        raise bad("unknown tag or wrong number of header fields")
    form = _FORMS[head[1]]
    sender = _node(head[3])
    if form.cls.SENDERS and sender.role not in form.cls.SENDERS:
        raise bad(f"{sender} may not send {form.cls.__name__}")
    store, step, request = head[4:7]
    if type(store) is not int or type(step) is not int or type(request) is not int:
        raise bad("store, step and request are whole numbers")
    values = {"store": store, "step": step, "request": request, "epoch": _epoch(head[7])}
    if len(head[8]) != len(form.names):
        raise bad(f"{form.cls.__name__} has {len(form.names)} fields, {len(head[8])} came")
    for name, decode_field, value in zip(form.names, form.decoders, head[8], strict=True):
        values[name] = decode_field(value)
    arrays = _arrays(head[9], frames[1:], sender, resolve)
    if form.has_arrays:
        values["arrays"] = arrays
    elif arrays:
        raise bad(f"{form.cls.__name__} takes no arrays")
    return sender, form.cls(**values)


def _arrays(
    described: Any, frames: Sequence[Any], sender: NodeId, resolve: Resolve | None
) -> tuple[Array, ...]:
    if described == ():
        if frames:
            raise bad(f"{len(frames)} array frames where none were announced")
        return ()
    if type(described) is not tuple or len(described) != 4:
        raise bad("no list of arrays")
    count, codes, sizes, places = described
    if type(count) is not int or not 0 < count <= MAX_ITEMS or type(places) is not tuple:
        raise bad("no list of arrays")
    if type(codes) is int and type(sizes) is int and not places and len(frames) == 1:
        found = _alike(count, codes, sizes, frames[0])
        if found is not None:
            return found
    # one number for all where the list is as long as what came: nothing short announces it
    sizes = _numbers(sizes, count, 1 << 48, "size", alike=len(frames) == count and not places)
    codes = _numbers(codes, count, len(_KINDS) - 1, "dtype", alike=True)
    forms = [(_KINDS[code], size) for code, size in zip(codes, sizes, strict=True)]
    if not places:
        return tuple(_framed(forms, frames))
    if resolve is None:
        raise bad("an array in memory that is not mapped here")
    mapped: dict[int, Array] = {}
    for item in places:
        if type(item) is not tuple or len(item) != 5 or set(map(type, item)) != {int}:
            raise bad("an array in mapped memory that is not described by five numbers")
        if min(item) < 0 or item[0] >= count or item[0] in mapped:
            raise bad("an array in mapped memory that is not announced")
        mapped[item[0]] = resolve(sender, Place(*item[1:]), *forms[item[0]])
    framed = iter(_framed([form for i, form in enumerate(forms) if i not in mapped], frames))
    return tuple([mapped[i] if i in mapped else next(framed) for i in range(count)])


def _numbers(values: Any, count: int, most: int, what: str, alike: bool) -> Sequence[int]:
    """One number for each array; `alike`: it may be given once."""
    if type(values) is int and alike:
        values = (values,) * count
    if type(values) is not tuple or len(values) != count or set(map(type, values)) != {int}:
        raise bad(f"arrays without a {what} each")
    if min(values) < 0 or max(values) > most:
        raise bad(f"an array of {what} {max(values)}")
    return values


def _alike(count: int, code: int, size: int, frame: Any) -> tuple[Array, ...] | None:
    """Arrays of one form, in one frame; None: they are to be looked at one by one."""
    if not 0 <= code < len(_KINDS) or size < 1:
        return None
    kind = _KINDS[code]
    total = kind.itemsize * size * count
    if total > TOGETHER or len(frame) != total:
        return None
    whole = np.frombuffer(bytearray(frame), kind)
    whole.flags.writeable = False
    return (whole,) if count == 1 else tuple(whole.reshape(count, size))


def _framed(forms: list[tuple[np.dtype[Any], int]], frames: Sequence[Any]) -> list[Array]:
    """Arrays whose bytes came along."""
    total = sum([kind.itemsize * size for kind, size in forms])
    if forms and len(frames) == 1 and total <= TOGETHER:
        if len(frames[0]) != total:
            raise bad(f"{len(frames[0])} bytes of arrays where {total} were announced")
        # copied once, as a frame may lie anywhere; what follows odd sizes is copied again
        whole = _readonly(np.array(np.frombuffer(frames[0], np.uint8)))
        out, at = [], 0
        for kind, size in forms:
            end = at + kind.itemsize * size
            part = whole[at:end]
            out.append(part.view(kind) if not at % kind.itemsize else _aligned(part, kind))
            at = end
        return out
    if len(frames) != len(forms):
        raise bad(f"{len(frames)} array frames where {len(forms)} were announced")
    for frame, (kind, size) in zip(frames, forms, strict=True):
        if len(frame) != kind.itemsize * size:
            raise bad(f"{len(frame)} bytes for {size} elements of {kind}")
    return [
        _readonly(np.frombuffer(frame, kind) if size else np.empty(0, kind))
        for frame, (kind, size) in zip(frames, forms, strict=True)
    ]


def _aligned(part: Array, kind: np.dtype[Any]) -> Array:
    return _readonly(part.copy().view(kind))


def _readonly(array: Array) -> Array:
    array.flags.writeable = False
    return array


def is_hello(frames: Sequence[Any]) -> bool:
    """Whether undecodable frames claim to be a Hello, whose sender waits for an answer."""
    try:
        head = msgpack.unpackb(frames[0], max_array_len=64, max_map_len=64, max_str_len=4096)
        return bool(head[1] == 1)
    except Exception:
        return False


def claimed_token(frames: Sequence[Any]) -> bytes:
    """The token in a header that was not believed: the refusal is signed with it."""
    try:
        head = msgpack.unpackb(frames[0], max_array_len=64, max_map_len=64, max_str_len=4096)
        return bytes(head[2])
    except Exception:
        return b""
