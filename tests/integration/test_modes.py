# SPDX-License-Identifier: Apache-2.0
"""Jobs of real processes: codecs, consistency modes, row-sparse keys."""

from pathlib import Path

import pytest

from tests.integration.jobs import launch, left_over, write

pytestmark = pytest.mark.integration


def test_compressed_pushes_are_the_sum_of_what_each_worker_sent(
    run_base: Path, tmp_path: Path
) -> None:
    script = write(
        tmp_path,
        """
        import numpy as np
        from kvtrain.compression import ErrorFeedback, create
        size = 700_001  # several chunks of 262,144 values on two servers
        for given in ({"type": "2bit", "threshold": 0.25}, {"type": "topk", "ratio": 0.01},
                      {"type": "bf16"}, {"type": "1bit"}, {"type": "fp16"}):
            kv = mx.kv.create("dist_sync")
            kv.set_gradient_compression(given)
            kv.init(["w", "n"], [nd.zeros((size,)), nd.zeros((3,), dtype="int32")])
            try:
                kv.set_gradient_compression(given)
                raise SystemExit("set after init")
            except mx.errors.ConfigError as error:
                assert "between kv.create and the first init" in str(error)
            cuts = [(low, min(size, low + 262_144)) for low in range(0, size, 262_144)]
            model = [[ErrorFeedback(create(given)) for _ in cuts] for _ in range(3)]
            out = nd.zeros((size,))
            for step in range(3):
                grads = [np.random.default_rng([step, r]).standard_normal(size).astype("f4")
                         for r in range(3)]
                kv.push("w", nd.array(grads[kv.rank]), priority=step)
                kv.pull("w", out)
                kv.pushpull("n", nd.array([1, 2, kv.rank], dtype="int32"),
                            out=(n := nd.zeros((3,), dtype="int32")))
                expected = None
                for r in range(3):
                    part = np.empty(size, "f4")
                    for (low, high), feedback in zip(cuts, model[r]):
                        feedback.compressor.decompress(
                            feedback.compress(grads[r][low:high]), part[low:high])
                    expected = part if expected is None else expected + part
                np.testing.assert_array_equal(out.asnumpy(), expected)
                assert n.asnumpy().tolist() == [3, 6, 3]
                kv.tick()
            codec = create(given)
            sent = sum(s["bytes_in"] for s in kv.stats())
            wire = sum(codec.wire_bytes(high - low) for low, high in cuts)
            kv.barrier()
            if kv.rank == 0:
                assert 9 * wire < sent <= 9 * (wire + 12), (given, sent, 9 * wire)
        print("fine", kv.rank)
        """,
    )
    result = launch(run_base, "-n", "3", "-s", "2", script)
    assert result.code == 0, result.err
    for rank in range(3):
        assert result.lines(f"worker-{rank}") == [f"fine {rank}"]
    assert "costs more than it saves" in result.err
    assert left_over(run_base) == []


def test_workers_must_agree_on_the_codec(run_base: Path, tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        kv = mx.kv.create("dist_sync")
        kv.set_gradient_compression({"type": "2bit", "threshold": 0.5 + kv.rank})
        kv.init("w", nd.zeros((3,)))
        """,
    )
    result = launch(run_base, "-n", "2", script)
    assert result.code == 1
    assert "KeyMismatch" in result.err and '"threshold": 1.5' in result.err
    assert '"threshold": 0.5' in result.err
