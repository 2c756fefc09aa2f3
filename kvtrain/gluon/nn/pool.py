# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows or the whole extent, in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from kvtrain.gluon.block import HybridBlock
from kvtrain.gluon.nn.conv import LAYOUTS, channels_last, channels_second, check_layout, dims


class _Pooling(HybridBlock):
    """What all pooling layers share."""

    _rank = 2
    _kind = "max"
    _global = False

    def __init__(
        self,
        pool_size: Any,
        strides: Any,
        padding: Any,
        ceil_mode: bool,
        layout: str | None,
        count_include_pad: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        name, rank = type(self).__name__, self._rank
        layout = layout or LAYOUTS[rank][0]
        check_layout(layout, rank, name)
        size = dims(pool_size, rank, "pool_size", name)
        self._kwargs: dict[str, Any] = {
            "kernel": size,
            "stride": size if strides is None else dims(strides, rank, "strides", name),
            "pad": dims(padding, rank, "padding", name),
            "global_pool": self._global,
            "pool_type": self._kind,
            "layout": layout,
            "pooling_convention": "full" if ceil_mode else "valid",
        }
        if count_include_pad is not None:
            self._kwargs["count_include_pad"] = count_include_pad

    def _alias(self) -> str:
        return "pool"

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        usual = LAYOUTS[self._rank][0]
        if self._kwargs["layout"] == usual:
            return F.Pooling(x, **self._kwargs)
        out = F.Pooling(channels_second(F, x), **{**self._kwargs, "layout": usual})
        return channels_last(F, out)

    def __repr__(self) -> str:
        k = self._kwargs
        return (
            f"{type(self).__name__}(size={k['kernel']}, stride={k['stride']}, padding={k['pad']}, "
            f"ceil_mode={k['pooling_convention'] == 'full'}, global_pool={self._global}, "
            f"pool_type={self._kind}, layout={k['layout']})"
        )


class _MaxPool(_Pooling):
    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = 0,
        layout: str | None = None,
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, ceil_mode, layout, **kwargs)


class MaxPool1D(_MaxPool):
    """Maximum over windows; strides default to the window's size."""

    _rank = 1


class MaxPool2D(_MaxPool):
    """Maximum over windows; strides default to the window's size.

    Parameters
    ----------
    pool_size : int or pair of int
    strides : int or pair of int, optional
        Default: `pool_size`.
    padding : int or pair of int
    ceil_mode : bool
        Round the size of the output up.
    """


class MaxPool3D(_Pooling):
    """Maximum over windows; strides default to the window's size."""

    _rank = 3

    def __init__(
        self,
        pool_size: Any = (2, 2, 2),
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str = "NCDHW",
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, ceil_mode, layout, **kwargs)


class AvgPool1D(_Pooling):
    """Average over windows; padding counts unless `count_include_pad` is False."""

    _rank = 1
    _kind = "avg"

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = 0,
        layout: str = "NCW",
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, ceil_mode, layout, count_include_pad, **kwargs
        )


class _AvgPool(_Pooling):
    _kind = "avg"

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str | None = None,
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pool_size, strides, padding, ceil_mode, layout, count_include_pad, **kwargs
        )


class AvgPool2D(_AvgPool):
    """Average over windows; padding counts unless `count_include_pad` is False."""


class AvgPool3D(_AvgPool):
    """Average over windows; padding counts unless `count_include_pad` is False."""

    _rank = 3


class _GlobalPool(_Pooling):
    _global = True

    def __init__(self, layout: str | None = None, **kwargs: Any) -> None:
        super().__init__((1,) * self._rank, None, 0, True, layout, **kwargs)


class GlobalMaxPool1D(_GlobalPool):
    """Maximum over the whole width: (n, c, 1)."""

    _rank = 1


class GlobalMaxPool2D(_GlobalPool):
    """Maximum over the whole image: (n, c, 1, 1)."""


class GlobalMaxPool3D(_GlobalPool):
    """Maximum over the whole volume: (n, c, 1, 1, 1)."""

    _rank = 3


class GlobalAvgPool1D(_GlobalPool):
    """Average over the whole width: (n, c, 1)."""

    _rank = 1
    _kind = "avg"


class GlobalAvgPool2D(_GlobalPool):
    """Average over the whole image: (n, c, 1, 1)."""

    _kind = "avg"


class GlobalAvgPool3D(_GlobalPool):
    """Average over the whole volume: (n, c, 1, 1, 1)."""

    _rank = 3
    _kind = "avg"


class ReflectionPad2D(HybridBlock):
    """Pad height and width with their own reflection.

    Parameters
    ----------
    padding : int or tuple of 8 int
        One number for all four sides, or `pad_width` of ``nd.pad``.
    """

    def __init__(self, padding: Any = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(padding, int):
            padding = (0, 0, 0, 0, *(padding,) * 4)
        self._padding = dims(padding, 8, "padding", "ReflectionPad2D")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """See the class."""
        return F.pad(x, mode="reflect", pad_width=self._padding)
