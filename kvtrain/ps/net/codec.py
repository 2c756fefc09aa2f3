# SPDX-License-Identifier: Apache-2.0
"""Messages to frames and back, derived from the dataclasses' fields.

Frame 0 is a msgpack array: protocol version, tag, job token, sender, store, step, request,
epoch, the message's own fields, and (dtype, elements) of each array. Arrays follow as raw
little-endian bytes: together in one frame if they are small, else one frame each; a received
array is a read-only view of its frame. An array in memory that the receiver has mapped has no
bytes here: its description goes on with (segment, slot, generation, offset). Decoding checks
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
from kvtrain.ps.net.forms import MAX_ITEMS, bad, form_of, getter
from kvtrain.ps.net.segments import Place

#: messages whose arrays are at most this long travel with all arrays in one frame
TOGETHER = 64 * 1024
#: arrays below this size are sent as bytes where a descriptor could be: it costs as much
SMALL = 2048
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
            forms.append(form_of(hints[field.name]))
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
    described: list[Any] = []
    rest: list[Array] = []
    for array in arrays:
        place = None if locate is None or array.nbytes < SMALL else locate(array)
        if place is None:
            described.append((_CODES[array.dtype], array.size))
            rest.append(array)
        else:
            described.append((_CODES[array.dtype], array.size, *place))
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
    if sum(a.nbytes for a in rest) <= TOGETHER:
        return [header, b"".join([a.tobytes() for a in rest])]
    return [header, *(np.ascontiguousarray(a).data.cast("B") if a.size else b"" for a in rest)]


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
    if type(described) is not tuple:
        raise bad("no list of arrays")
    found: list[Array | None] = []
    forms: list[tuple[np.dtype[Any], int]] = []
    for item in described:
        if type(item) is not tuple or len(item) not in (2, 6):
            raise bad("an array that is described neither by two numbers nor by six")
        for number in item:
            if type(number) is not int or number < 0:
                raise bad("an array that is not described by numbers")
        code, size = item[0], item[1]
        if code >= len(_KINDS):
            raise bad("an array of unknown dtype")
        if size > 1 << 48:
            raise bad(f"an array of {size} elements")
        if len(item) == 2:
            forms.append((_KINDS[code], size))
            found.append(None)
        elif resolve is None:
            raise bad("an array in memory that is not mapped here")
        else:
            found.append(resolve(sender, Place(*item[2:]), _KINDS[code], size))
    framed = iter(_framed(forms, frames))
    return tuple([next(framed) if array is None else array for array in found])


def _framed(forms: list[tuple[np.dtype[Any], int]], frames: Sequence[Any]) -> list[Array]:
    """Arrays whose bytes came along."""
    if len(forms) == 1 and len(frames) == 1:
        kind, size = forms[0]
        nbytes = kind.itemsize * size
        if 0 < nbytes <= TOGETHER and len(frames[0]) == nbytes:
            # as below, without what many arrays need
            return [_readonly(np.array(np.frombuffer(frames[0], np.uint8))).view(kind)]
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
