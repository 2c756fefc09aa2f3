# SPDX-License-Identifier: Apache-2.0
"""Early folding: the first members of an open round as one sum (PROTOCOL R13).

A round is reduced in rank order, so what its first members have contributed may be summed
before the others come: the same order, the same bits, and less memory. It is a cache. When a
folded contribution is withdrawn (R26) the sum is discarded, and the other workers, who keep
their own until they are acknowledged (R1), are asked again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtrain.kernels import xp
from kvtrain.ps.core.memory import LentArray, intact
from kvtrain.ps.core.rounds import OpenRound, Part


def prefix(waiting: OpenRound, members: Sequence[int]) -> list[Part]:
    """Contributions of the first members that are all there."""
    found = []
    for rank in members:
        if rank not in waiting.parts:
            break
        found.append(waiting.parts[rank])
    return found


def fold(waiting: OpenRound, members: Sequence[int]) -> int:
    """Sum what the first members have contributed; returns the bytes that are free then.

    The sum lies in the first one's place. Contributions in their workers' own memory take none
    here; those with scales of their own are multiplied before they are summed: both stay.
    """
    if len({part.rescale_grad for part in waiting.parts.values()}) > 1:
        return 0
    parts = [part for part in prefix(waiting, members) if part.array is not None]
    arrays = [part.array for part in parts if part.array is not None]
    own = sum(a.nbytes for a in arrays if not isinstance(a, LentArray))
    if len(arrays) < 2 or own <= arrays[0].nbytes:
        return 0
    total = xp.sum_arrays(
        [np.asarray(a) for a in arrays], out=np.empty_like(arrays[0], subok=False)
    )
    if not all([intact(a) for a in arrays]):
        return 0
    for part in parts:
        part.array, part.folded = None, True
    parts[0].array = total
    return int(own - total.nbytes)
