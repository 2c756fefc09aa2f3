# SPDX-License-Identifier: Apache-2.0
"""Every codec by one table, and 2-bit against the real MXNet."""

from pathlib import Path

import numpy as np
import pytest

from kvtrain import compression
from kvtrain.compression import ErrorFeedback
from kvtrain.errors import ConfigError, RemoteProtocolError, UnknownName
from tests.compression.cases import CASES, Case

BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
SIZES = (1, 3, 8, 1023, 1024, 65536, 65536 + 1027)


def make(case: Case, **more: object) -> compression.Compressor:
    found = compression.create({**case.given, **more})
    assert found is not None
    return found


def through(codec: compression.Compressor, values: np.ndarray) -> np.ndarray:
    wire = codec.compress(values)
    assert wire.dtype == np.uint8 and wire.size == codec.wire_bytes(values.size)
    codec.check_wire(wire, values.size)
    out = np.full(values.size, np.nan, np.float32)
    codec.decompress(wire, out)
    return out


def test_every_codec_has_a_row_and_a_wire_code_of_its_own() -> None:
    assert sorted(compression.compressors) == sorted(case.name for case in CASES)
    codes = [compression.compressors.get(case.name).code for case in CASES]
    assert len(set(codes)) == len(codes) and 0 not in codes


@BY_NAME
def test_wire_sizes_and_exact_values(case: Case) -> None:
    codec = make(case)
    for size, expected in case.wire.items():
        assert codec.wire_bytes(size) == expected
        assert codec.compress(np.ones(size, np.float32)).size == expected
    for given, expected in case.exact:
        values = np.array(given, np.float32)
        kept = values.copy()
        out = through(codec, values)
        assert out.tobytes() == np.array(expected, np.float32).tobytes()
        assert values.tobytes() == kept.tobytes(), "the input was changed"


@BY_NAME
@pytest.mark.parametrize("size", SIZES)
def test_a_pass_of_any_size(case: Case, size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    out = through(make(case), values)
    assert np.isfinite(out).all()
    if case.error is not None:
        assert np.abs(out - values).max() <= case.error * np.abs(values).max()
    else:
        assert ((out == 0) | (np.sign(out) == np.sign(values))).all()
    # what is not sent stays: both together are the gradient
    total = values.copy()
    wire = make(case).compress_total(total)
    make(case).decompress(wire, out)
    np.testing.assert_allclose(total + out, values, rtol=1e-6, atol=1e-6)


@BY_NAME
def test_feedback_sends_everything_in_the_end(case: Case) -> None:
    rng = np.random.default_rng(3)
    gradient = (rng.uniform(-0.3, 0.3, 2000)).astype(np.float32)
    sent = {}
    for on in (True, False):
        codec = make(case, error_feedback=on)
        feedback = ErrorFeedback(codec)
        total = np.zeros(2000)
        out = np.empty(2000, np.float32)
        for _ in range(200):
            codec.decompress(feedback.compress(gradient), out)
            total += out
        sent[on] = np.abs(total / 200 - gradient).max()
    assert sent[True] <= case.mean_error
    if case.error is None:
        assert sent[False] > 2 * sent[True]


@BY_NAME
def test_nan_and_infinity_do_not_stay_in_the_residual(case: Case) -> None:
    feedback = ErrorFeedback(make(case))
    feedback.compress(np.array([np.nan, np.inf, -np.inf, 1.0], np.float32))
    assert feedback.residual is not None and np.isfinite(feedback.residual).all()


@BY_NAME
def test_what_was_dropped_is_given_back(case: Case) -> None:
    gradient = np.linspace(-2, 2, 50, dtype=np.float32)
    feedback = ErrorFeedback(make(case))
    feedback.give_back(feedback.compress(gradient))
    assert feedback.residual is not None
    np.testing.assert_allclose(feedback.residual, gradient, rtol=1e-6)


@BY_NAME
def test_a_wire_of_the_wrong_size_is_refused(case: Case) -> None:
    codec = make(case)
    wire = codec.compress(np.ones(100, np.float32))
    for bad in (wire[:-1], np.append(wire, wire[:1]), wire.view(np.int8), wire[None]):
        with pytest.raises(RemoteProtocolError, match=case.name):
            codec.check_wire(bad, 100)


def test_a_place_past_the_end_is_refused() -> None:
    codec = compression.create({"type": "topk", "ratio": 0.1})
    assert codec is not None
    wire = codec.compress(np.ones(100, np.float32))
    wire[-2:] = (100, 0)
    with pytest.raises(RemoteProtocolError, match="place 100 in a block of 100"):
        codec.check_wire(wire, 100)


@BY_NAME
def test_descriptions_and_parameters(case: Case) -> None:
    codec = make(case)
    again = compression.from_text(codec.describe())
    assert again is not None and type(again) is type(codec) and again.config() == codec.config()
    as_text = compression.create({k: str(v) for k, v in codec.config().items()})
    assert as_text is not None and as_text.config() == codec.config()
    for more, text in case.refused:
        with pytest.raises(ConfigError) as caught:
            make(case, **more)
        assert text in str(caught.value)


def test_unknown_types_list_the_known_and_none_is_none() -> None:
    with pytest.raises(UnknownName, match=r"compression .3bit.; known: 1bit, 2bit"):
        compression.create({"type": "3bit"})
    with pytest.raises(ConfigError, match="has no 'type'; known: none, 1bit"):
        compression.create({"threshold": 0.5})
    with pytest.raises(ConfigError, match="expected a dict"):
        compression.create("2bit")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="neither True nor False"):
        compression.create({"type": "2bit", "error_feedback": 3})
    assert compression.create({"type": "none"}) is None and compression.from_text("") is None


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_two_bits_equal_mxnet(name: str) -> None:
    held = np.load(Path(__file__).parents[1] / "reference" / "compression.npz")
    threshold = float(held[f"{name}_threshold"])
    codec = compression.create({"type": "2bit", "threshold": threshold})
    assert codec is not None
    residuals = [ErrorFeedback(codec) for _ in range(2)]
    for grads, expected in zip(held[f"{name}_grads"], held[f"{name}_sums"], strict=True):
        parts = []
        for feedback, grad in zip(residuals, grads, strict=True):
            out = np.empty_like(grad)
            codec.decompress(feedback.compress(grad), out)
            parts.append(out)
        np.testing.assert_array_equal(parts[0] + parts[1], expected)


def test_two_bit_codes_on_the_wire() -> None:
    codec = compression.create({"type": "2bit", "threshold": 1.0})
    assert codec is not None
    wire = codec.compress(np.array([1, -1, 0, 2, -3, 0.5], np.float32))
    assert [f"{byte:08b}" for byte in wire] == ["11100011", "10000000"]
    out = np.empty(4, np.float32)
    codec.decompress(np.array([0b01111000], np.uint8), out)
    assert out.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_the_largest_are_found_when_the_sample_misleads() -> None:
    codec = compression.create({"type": "topk", "ratio": 0.01})
    assert codec is not None
    values = np.zeros(65536, np.float32)
    values[::61] = 5.0  # all that the sample sees
    values[7] = 9.0
    for given in (values, -values, np.zeros(65536, np.float32)):
        out = np.empty_like(given)
        codec.decompress(codec.compress(given), out)
        count = codec.wire_bytes(65536) // 6
        best = np.sort(np.abs(given))[-count:]
        assert np.abs(out).sum() == best.sum()
