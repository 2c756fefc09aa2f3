# SPDX-License-Identifier: Apache-2.0
"""The command ``kvtrain`` and the launcher: starts processes, never imports what they run."""
