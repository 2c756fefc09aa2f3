# SPDX-License-Identifier: Apache-2.0
"""Lists of chunks as columns: what comes back, and what is refused."""

from typing import Any

import msgpack
import pytest

from kvtrain.errors import RemoteProtocolError
from kvtrain.ps.core import messages as m
from kvtrain.ps.core.membership import Epoch, Round
from kvtrain.ps.core.shards import ChunkId
from kvtrain.ps.net.columns import list_form_of

E1, E2 = Epoch(1, 1), Epoch(1, 2)


def through(kind: Any, values: Any) -> Any:
    form = list_form_of(tuple[kind, ...])
    assert form is not None
    encode, decode = form
    assert encode is not None
    return decode(msgpack.unpackb(msgpack.packb(encode(values)), use_list=False))


@pytest.mark.parametrize(
    "values",
    [
        (),
        (m.Verdict(ChunkId(1, 0), E1, Round(0, 0), True, 7),),
        tuple(m.Verdict(ChunkId(i, 0), E1, Round(0, 0), True, 7) for i in range(5)),
        tuple(m.Verdict(ChunkId(1, i), (E1, E2)[i % 2], Round(i, 0), i > 2, i) for i in range(5)),
        (m.Verdict(ChunkId(1, 0), E1, Round(0, 0), True, 7),) * 3,
        (m.ChunkRead(ChunkId(1, 0), E1), m.ChunkRead(ChunkId(1, 0), E1, Round(1, 2), 3, 4)),
        (ChunkId(3, 4), ChunkId(3, 5)),
        (ChunkId(3, 4), ChunkId(2**63, -5)),
    ],
)
def test_the_same_records_come_back(values: Any) -> None:
    kind = type(values[0]) if values else m.Verdict
    back = through(kind, values)
    assert repr(back) == repr(values) and type(back) is tuple


CHUNKS = list_form_of(tuple[ChunkId, ...])


@pytest.mark.parametrize(
    "packed",
    [
        None,
        3,
        (3,),
        ((1,),),
        ((1, 2, 3),),
        ((1, True),),
        (2, (1, 2)),
        (2, (1, 2), (1, 2), 0),
        (2, 1, 1),
        (1 << 20, 1, 1),
        ((1 << 20) + 1, 1, (1, 2)),
        (-2, 1, (1, 2)),
        (0, 1, (1, 2)),
        (True, 1, (1, 2)),
        ("2", 1, (1, 2)),
        (2, 1, (1, 2, 3)),
        (2, 1, (1, None)),
        (2, 1, (1, True)),
        (2, 1.0, (1, 2)),
        (2, "1", (1, 2)),
        (2, (), (1, 2)),
    ],
    ids=repr,
)
def test_other_forms_are_refused(packed: Any) -> None:
    assert CHUNKS is not None
    with pytest.raises(RemoteProtocolError, match="malformed message"):
        CHUNKS[1](packed)


@pytest.mark.parametrize("kind", [int, tuple[int, ...], tuple[str, ...], m.Push], ids=str)
def test_everything_else_travels_as_before(kind: Any) -> None:
    assert list_form_of(kind) is None
