# SPDX-License-Identifier: Apache-2.0
"""Calls whose answers by the real MXNet 1.9.1 are kept: one module per kind of operator."""
