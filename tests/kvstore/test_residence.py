# SPDX-License-Identifier: Apache-2.0
"""Gradients in the transport's memory: two slots, by turns, never written while lent."""

import numpy as np

from kvtrain import nd
from kvtrain.kvstore.residence import Residence, lend
from kvtrain.testing.memory import ScribblingMemory


def test_a_lent_gradient_is_written_elsewhere_and_comes_home() -> None:
    memory = ScribblingMemory()
    array = nd.array(np.arange(6.0).reshape(2, 3))
    Residence(memory, array)
    assert array.asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]], "moving keeps the values"
    releases, views = [], []
    for turn in range(3):
        loan = lend(array)
        if turn == 2:
            assert loan is None, "both slots are lent: the third is copied"
            break
        assert loan is not None
        view, release = loan
        assert view.tolist() == (np.arange(6.0) + turn).tolist()
        views.append(view)
        releases.append(release)
        array += 1  # through the write door
    assert views[0].tolist() == list(range(6)) and views[1].tolist() == list(range(1, 7))
    assert not np.shares_memory(views[0], views[1])
    assert array.asnumpy().reshape(-1).tolist() == list(range(2, 8)), "in private memory now"
    releases[0]()
    again = lend(array)
    assert again is not None and np.shares_memory(again[0], views[0]), "it came home"
    assert views[1].tolist() == list(range(1, 7)), "the other slot is still lent"
    again[1]()
    releases[1]()
    array[:] = 9
    assert np.shares_memory(array._read(), views[0]), "nothing is lent: written in place"


def test_an_overwritten_gradient_is_not_copied_and_a_slot_of_a_failure_stays_lent() -> None:
    memory = ScribblingMemory()
    array = nd.zeros((4,))
    Residence(memory, array)
    first = lend(array)
    assert first is not None
    raw = array._overwrite()
    assert not np.shares_memory(raw, first[0])
    raw[:] = 1
    second = lend(array)
    assert second is not None
    # the first request failed and never releases its slot (R33)
    second[1]()
    for value in range(5):
        array._overwrite()[:] = value
        loan = lend(array)
        assert loan is not None and np.shares_memory(loan[0], second[0])
        loan[1]()
    assert first[0].tolist() == [0, 0, 0, 0]


def test_the_end_of_a_loan_voids_references() -> None:
    memory = ScribblingMemory()
    array = nd.zeros((4,))
    Residence(memory, array)
    loan = lend(array)
    assert loan is not None
    there = memory.lent(loan[0])
    assert there.intact()
    loan[1]()
    assert not there.intact()
    assert lend(array[1:3]) is None, "a view has no home of its own"
    assert lend(nd.zeros((2,))) is None
