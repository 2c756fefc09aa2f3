# SPDX-License-Identifier: Apache-2.0
"""One row for each codec: a new codec is one file in kvtrain/compression and one row here."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    #: what set_gradient_compression is given
    given: dict[str, Any]
    #: wire bytes for sizes
    wire: dict[int, int]
    #: input -> output without feedback, exactly
    exact: tuple[tuple[list[float], list[float]], ...] = ()
    #: largest relative error of one pass on normal values (None: no such bound)
    error: float | None = None
    #: given -> part of the error text
    refused: tuple[tuple[dict[str, Any], str], ...] = ()
    #: with feedback, the mean of what was sent over 200 steps is this close to the gradient
    mean_error: float = 0.1
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.given["type"])


INF = float("inf")
CASES = (
    Case(
        given={"type": "fp16"},
        wire={0: 0, 1: 2, 7: 14},
        exact=(([1.0, -0.0, 65504.0, 1e6, -1e6], [1.0, -0.0, 65504.0, 65504.0, -65504.0]),),
        error=2**-11,
        refused=(({"threshold": 1}, "no parameter 'threshold'; known: error_feedback"),),
        mean_error=1e-4,
    ),
    Case(
        given={"type": "bf16"},
        wire={0: 0, 1: 2, 7: 14},
        exact=(
            ([1.0, -0.0, 1.00390625, 1.01171875, 3.4e38], [1.0, -0.0, 1.0, 1.015625, 3.3895314e38]),
            ([INF, -INF], [INF, -INF]),
        ),
        error=2**-8,
        mean_error=1e-3,
    ),
    Case(
        given={"type": "2bit", "threshold": 0.5},
        wire={0: 0, 1: 1, 4: 1, 5: 2, 1000: 250},
        exact=(([0.5, 0.4999, -0.5, -9.0, 7.0], [0.5, 0.0, -0.5, -0.5, 0.5]),),
        refused=(
            ({"threshold": 0}, "greater than 0"),
            ({"threshold": -1.0}, "greater than 0"),
            ({"threshold": "much"}, "'much' is no number"),
            ({"ratio": 1}, "no parameter 'ratio'; known: error_feedback, threshold"),
        ),
    ),
    Case(
        given={"type": "1bit"},
        wire={0: 0, 1: 5, 1024: 4 + 128, 1025: 8 + 129},
        exact=(([1.0, -3.0, 2.0, -2.0], [2.0, -2.0, 2.0, -2.0]),),
    ),
    Case(
        given={"type": "topk", "ratio": 0.25},
        wire={0: 0, 1: 6, 4: 6, 5: 12, 65536: 6 * 16384, 65537: 6 * 16385},
        exact=(([1.0, -3.0, 2.0, -2.0], [0.0, -3.0, 0.0, 0.0]),),
        refused=(({"ratio": 0}, "must be in (0, 1]"), ({"ratio": 1.5}, "must be in (0, 1]")),
    ),
)
