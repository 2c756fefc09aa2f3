# SPDX-License-Identifier: Apache-2.0
"""The worker role; :class:`WorkerCore` in ``core`` is its table of contents."""

from kvtrain.ps.core.worker.core import WorkerCore
from kvtrain.ps.core.worker.state import JOIN

__all__ = ["JOIN", "WorkerCore"]
