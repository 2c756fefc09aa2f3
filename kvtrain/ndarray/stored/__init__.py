# SPDX-License-Identifier: Apache-2.0
"""Sparse arrays: their classes, how they are made, and operators that keep them sparse."""
