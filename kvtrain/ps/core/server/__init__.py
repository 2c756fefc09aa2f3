# SPDX-License-Identifier: Apache-2.0
"""The server role; :class:`ServerCore` in ``core`` is its table of contents."""

from kvtrain.ps.core.server.core import ServerCore

__all__ = ["ServerCore"]
