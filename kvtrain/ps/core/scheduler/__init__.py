# SPDX-License-Identifier: Apache-2.0
"""The scheduler role; :class:`SchedulerCore` in ``core`` is its table of contents."""

from kvtrain.ps.core.scheduler.core import SchedulerCore
from kvtrain.ps.core.scheduler.state import Phase

__all__ = ["Phase", "SchedulerCore"]
