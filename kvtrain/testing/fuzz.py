# SPDX-License-Identifier: Apache-2.0
"""A byte-level fuzzer of the wire: ``python -m kvtrain.testing.fuzz --frames 1000000``.

Takes valid messages and damages them, from single bits to whole trees of the header; with the
right token, so that what passes the first check is looked at by all the others. Whatever comes
in, decoding gives a message whose every field is of its type, or a RemoteProtocolError.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import msgpack

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import NodeId
from kvtrain.ps.net import codec
from kvtrain.testing import samples

TOKEN = bytes(range(32))
#: headers that announce far more than they hold
BOMBS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 5000,
    b"\x81\xa1a" * 2000,
    b"\xc9\xff\xff\xff\xff\x01",
)
_JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    -(2**63),
    1.5,
    float("nan"),
    "",
    "x" * 70000,
    b"",
    b"\0" * 32,
    [],
    [[[[]]]],
    {},
    {"a": {"b": {"c": []}}},
    {1: 2},
    list(range(2000)),
)


class Mutator:
    """Damages messages, from a seed.

    Parameters
    ----------
    valid : list of list of bytes, optional
        Frames of messages with `token` to begin with; by default some of every class.
    rank : int
        Of the process that claims to send them.
    """

    def __init__(
        self,
        seed: int,
        valid: list[list[bytes]] | None = None,
        token: bytes = TOKEN,
        rank: int = 0,
    ) -> None:
        self.rng = random.Random(seed)
        self.token = token
        self._rank = rank
        self._valid = valid or [
            self._encoded(cls, n) for cls in m.MESSAGES.values() for n in range(3)
        ]

    def _encoded(self, cls: type[m.Message], seed: int) -> list[bytes]:
        message = samples.message(cls, seed)
        sender = samples.sender(cls, self._rank, 1)
        return [bytes(f) for f in codec.encode(message, sender, self.token)]

    def frames(self) -> list[bytes]:
        """One damaged message."""
        rng = self.rng
        frames = list(rng.choice(self._valid))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            how = rng.choice(
                (self._flip, self._cut, self._swap, self._tree, self._tree, self._splice)
            )
            frames = how(frames)
            if not frames:
                break
        if rng.random() < 0.01:
            frames = [rng.choice(BOMBS), *frames[1:]]
        return frames

    def _flip(self, frames: list[bytes]) -> list[bytes]:
        place = self.rng.randrange(len(frames))
        content = bytearray(frames[place])
        for _ in range(self.rng.randint(1, 4)):
            if content:
                content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        return [*frames[:place], bytes(content), *frames[place + 1 :]]

    def _cut(self, frames: list[bytes]) -> list[bytes]:
        place = self.rng.randrange(len(frames))
        content = frames[place]
        at = self.rng.randint(0, len(content))
        more = self.rng.randbytes(self.rng.randint(0, 20))
        end = content[self.rng.randint(at, len(content)) :]
        return [*frames[:place], content[:at] + more + end, *frames[place + 1 :]]

    def _swap(self, frames: list[bytes]) -> list[bytes]:
        frames = list(frames)
        match self.rng.randrange(3):
            case 0:
                frames.pop(self.rng.randrange(len(frames)))
            case 1:
                frames.insert(self.rng.randint(0, len(frames)), self.rng.choice(frames))
            case _:
                self.rng.shuffle(frames)
        return frames

    def _splice(self, frames: list[bytes]) -> list[bytes]:
        return [frames[0], *self.rng.choice(self._valid)[1:]]

    def _tree(self, frames: list[bytes]) -> list[bytes]:
        """Replace one node somewhere in the header."""
        try:
            head = msgpack.unpackb(frames[0], strict_map_key=False)
        except Exception:
            # damaged before: msgpack has many words for it
            return frames
        node = head
        for _ in range(self.rng.randint(1, 6)):
            if not isinstance(node, list) or not node:
                break
            place = self.rng.randrange(len(node))
            if isinstance(node[place], list) and node[place] and self.rng.random() < 0.7:
                node = node[place]
                continue
            match self.rng.randrange(4):
                case 0:
                    node.pop(place)
                case 1:
                    node.insert(place, self.rng.choice(node))
                case _:
                    node[place] = self.rng.choice(_JUNK)
            break
        try:
            return [msgpack.packb(head), *frames[1:]]
        except (ValueError, OverflowError, TypeError):
            return frames


def check(frames: list[bytes], token: bytes = TOKEN) -> m.Message | None:
    """Decode; the message, or None if it was refused. Anything else is an AssertionError."""
    try:
        sender, message = codec.decode(frames, token)
    except RemoteProtocolError:
        return None
    assert samples.conforms(sender, NodeId), sender
    hints = typing.get_type_hints(type(message))
    for field in fields(message):
        kind = hints[field.name]
        found = getattr(message, field.name)
        assert kind == m.Arrays or samples.conforms(found, kind), (field.name, found)
    head = msgpack.unpackb(frames[0], strict_map_key=False)
    assert head[2] == token, "accepted without the token"
    total = sum(a.nbytes for a in getattr(message, "arrays", ()))
    assert total <= sum(map(len, frames)), "more bytes of arrays than came"
    again = [bytes(f) for f in codec.encode(message, sender, token)]
    back = codec.decode(again, token)
    assert repr(back) == repr((sender, message)), "another message comes back"
    return message


def run(seed: int, count: int, valid: list[list[bytes]] | None = None) -> Iterator[m.Message]:
    """Damage and decode `count` messages; gives those that were taken."""
    mutator = Mutator(seed, valid)
    for _ in range(count):
        frames = mutator.frames()
        if frames:
            message = check(frames)
            if message is not None:
                yield message


def main(arguments: list[str] | None = None) -> int:
    """Run for as many messages as asked; prints what was taken by class."""
    parser = argparse.ArgumentParser(prog="python -m kvtrain.testing.fuzz")
    parser.add_argument("--frames", type=int, default=100_000, help="damaged messages")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    taken = Counter(type(message).__name__ for message in run(given.seed, given.frames))
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{given.frames} damaged messages in {seconds:.1f} s (seed {given.seed}): "
        f"{taken.total()} were still valid, all others refused; no crash\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
