# SPDX-License-Identifier: Apache-2.0
"""Transforms of transforms, and of the dtype."""

from __future__ import annotations

import random
from typing import Any

from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.nn.basic_layers import HybridSequential, Sequential


class Compose(Sequential):
    """Transforms one after another; hybrid ones that follow each other become one block.

    Parameters
    ----------
    transforms : list of Block
    """

    def __init__(self, transforms: list[Any]) -> None:
        super().__init__()
        hybrid: list[Any] = []
        for transform in [*transforms, None]:
            if isinstance(transform, HybridBlock):
                hybrid.append(transform)
                continue
            if len(hybrid) == 1:
                self.add(hybrid[0])
            elif hybrid:
                chain = HybridSequential()
                chain.add(*hybrid)
                chain.hybridize()
                self.add(chain)
            hybrid = []
            if transform is not None:
                self.add(transform)


class Cast(HybridBlock):
    """Another dtype."""

    def __init__(self, dtype: Any = "float32") -> None:
        super().__init__()
        self._dtype = dtype

    def hybrid_forward(self, F: Any, *args: Any) -> Any:
        """All inputs in the dtype."""
        out = tuple(F.cast(x, dtype=self._dtype) for x in args)
        return out[0] if len(out) == 1 else out


class RandomApply(Sequential):
    """`transforms` with probability `p`, else nothing."""

    def __init__(self, transforms: Any, p: float = 0.5) -> None:
        super().__init__()
        self.transforms = transforms
        self.p = p

    def forward(self, x: Any, *args: Any) -> Any:
        """See the class."""
        return x if self.p < random.random() else self.transforms(x)
