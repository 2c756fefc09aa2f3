# SPDX-License-Identifier: Apache-2.0
import pytest

from kvtrain.errors import KVTrainError, UnknownName, from_wire, to_wire
from kvtrain.registry import Registry


def test_a_taken_name_is_refused_and_an_unknown_one_lists_the_known() -> None:
    registry: Registry[type] = Registry("shape")
    registry.register(int, "round", "ball")
    assert registry.get("BALL") is int
    with pytest.raises(ValueError, match="already registered"):
        registry.register(float, "Round")
    with pytest.raises(UnknownName, match="unknown shape 'cube'; known: ball, round"):
        registry.get("cube")


def _all(cls: type[KVTrainError]) -> list[type[KVTrainError]]:
    return [cls, *(x for sub in cls.__subclasses__() for x in _all(sub))]


@pytest.mark.parametrize("cls", _all(KVTrainError), ids=lambda c: c.__name__)
def test_every_error_survives_the_wire(cls: type[KVTrainError]) -> None:
    values = [("a", "b") if f == "known" else f"<{f}>" for f in cls.fields]
    error = cls(*values)
    back = from_wire(*to_wire(error))
    assert type(back) is cls
    assert str(back) == str(error)
    assert back.args == error.args
