# SPDX-License-Identifier: Apache-2.0
"""Gradient compression: bytes pushed and accuracy on the digits, each codec with and without
error feedback.

python benchmarks/compression.py
"""

import argparse
import json

from jobs import report, run, table

import kvtrain as mx
from kvtrain import gluon

WORKERS, BATCH, STEPS = 4, 16, 400
CODECS = [
    {"type": "none"},
    {"type": "fp16"},
    {"type": "bf16"},
    {"type": "2bit", "threshold": 0.5},
    {"type": "2bit", "threshold": 0.5, "error_feedback": False},
    {"type": "1bit"},
    {"type": "1bit", "error_feedback": False},
    {"type": "topk", "ratio": 0.01},
    {"type": "topk", "ratio": 0.01, "error_feedback": False},
]


def worker(given: dict) -> None:
    from digits import Digits, held_out, network, step

    kv = mx.kv.create("dist_sync")
    data, net = Digits(kv.rank, WORKERS, BATCH), network()
    trainer = gluon.Trainer(
        net.collect_params(),
        "sgd",
        {"learning_rate": 0.1},
        kvstore=kv,
        compression_params=given,
    )
    for _ in range(STEPS):
        step(net, trainer, data, WORKERS * BATCH)
    kv.barrier()
    pushed = sum(stats["bytes_in"] for stats in kv.stats())
    loss, accuracy = held_out(net, data)
    kv.barrier()
    report(bytes=pushed, loss=loss, accuracy=accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec")
    given = parser.parse_args()
    if mx.launched():
        worker(json.loads(given.codec))
        return
    rows, plain = [], None
    for codec in CODECS:
        found = run(__file__, ["--codec", json.dumps(codec)], WORKERS, 1)[0]
        plain = plain or found
        rows.append(
            [
                codec["type"],
                "-"
                if codec["type"] == "none"
                else "on"
                if codec.get("error_feedback", True)
                else "off",
                f"{found['bytes'] / 1e6:.2f}",
                f"1/{plain['bytes'] / found['bytes']:.1f}",
                f"{found['loss']:.4f}",
                f"{100 * found['accuracy']:.1f}",
                f"{100 * (found['accuracy'] - plain['accuracy']):+.1f}",
            ]
        )
    table(["codec", "error feedback", "MB pushed", "of none", "loss", "accuracy %", "points"], rows)


if __name__ == "__main__":
    main()
