# SPDX-License-Identifier: Apache-2.0
"""Readers of files on truncated and flipped bytes: an error by name, or whole arrays."""

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvtrain as mx
from kvtrain import nd
from kvtrain.errors import FormatError, KVTrainError
from kvtrain.ndarray.serialization import dumps, load_frombuffer

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def _params() -> bytes:
    return dumps({"weight": nd.array(np.arange(600).reshape(20, 30)), "b": nd.ones((3,))})


def _states() -> bytes:
    optimizer = mx.optimizer.create("adam", learning_rate=0.1)
    updater = mx.optimizer.get_updater(optimizer)
    weight = nd.ones((40,))
    updater(0, nd.ones((40,)), weight)
    return bytes(updater.get_states(dump_optimizer=True))


def _read_params(content: bytes) -> None:
    found = load_frombuffer(content, "damaged.params")
    for array in found.values() if isinstance(found, dict) else found:
        array.asnumpy()


def _read_states(content: bytes) -> None:
    mx.optimizer.get_updater(mx.optimizer.create("adam")).set_states(content)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """One truncated, flipped, or otherwise damaged copy."""
    match rng.randrange(4):
        case 0:
            return whole[: rng.randrange(len(whole))]
        case 1:
            at = rng.randrange(len(whole))
            return whole[:at] + rng.randbytes(rng.randint(1, 9)) + whole[at:]
        case 2:
            at = rng.randrange(max(1, len(whole) - 8))
            size = rng.choice((2**63 - 1, 2**64 - 1, 2**40, 2**31, 0)).to_bytes(8, "little")
            return whole[:at] + size + whole[at + 8 :]
    content = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        content[rng.randrange(min(len(content), rng.choice((80, len(content)))))] ^= (
            1 << rng.randrange(8)
        )
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (_params, _read_params),
        ((REFERENCE / "dict.params").read_bytes, _read_params),
        ((REFERENCE / "list.params").read_bytes, _read_params),
        (_states, _read_states),
    ],
    ids=["params", "mxnet-dict", "mxnet-list", "states"],
)
def test_damaged_files(content: Callable[[], bytes], read: Callable[[bytes], None]) -> None:
    whole = content()
    read(whole)
    rng = random.Random(7)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(1500):
            broken = damaged(whole, rng)
            try:
                read(broken)
            except FormatError as error:
                refused += 1
                assert str(error)
            except KVTrainError as error:
                # states: the configuration of an optimizer that this version does not know
                refused += 1
                assert "optimizer" in str(error)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused > 300
    assert peak < 30 * len(whole) + (1 << 20), f"{peak} bytes for a file of {len(whole)}"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    for read in (_read_params, _read_states):
        with pytest.raises(FormatError):
            read(content)
