# SPDX-License-Identifier: Apache-2.0
"""Thin shells: they poll ZeroMQ, decode, call a core and carry out its effects."""
