# SPDX-License-Identifier: Apache-2.0
"""The single-precision logarithm of C libraries, to the last bit.

NumPy's own is a different approximation. Table and polynomial are those of the public
"optimized routines" that glibc (from 2.27), musl and newlib use: with x = 2**k z,
``log(x) = log1p(z/c - 1) + log(c) + k log(2)``, c near the middle of one of 16 intervals, all
in double precision and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: 1/c and log(c)
_TABLE = np.array(
    [
        [float.fromhex(inverse), float.fromhex(logarithm)]
        for inverse, logarithm in (
            ("0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"),
            ("0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"),
            ("0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"),
            ("0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"),
            ("0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"),
            ("0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"),
            ("0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"),
            ("0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"),
            ("0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"),
            ("0x1p+0", "0x0p+0"),
            ("0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"),
            ("0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"),
            ("0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"),
            ("0x1.9c2d163a1aa2dp-1", "0x1.bc2860d22477p-3"),
            ("0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"),
            ("0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"),
        )
    ]
)
_A = tuple(
    float.fromhex(text)
    for text in ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")
)
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_OFFSET = np.int32(0x3F330000)


def logf(x: Array) -> Array:
    """Natural logarithm of positive, normal float32 numbers."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32)
    moved = bits - _OFFSET
    inverse, logarithm = _TABLE[(moved >> 19) & 15].T
    exponent = moved >> 23
    z = (bits - (exponent << 23)).view(np.float32).astype(np.float64)
    r = z * inverse - 1.0
    r2 = r * r
    y = (_A[0] * r2 + (_A[1] * r + _A[2])) * r2
    return (y + (logarithm + exponent * _LN2 + r)).astype(np.float32)
