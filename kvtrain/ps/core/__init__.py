# SPDX-License-Identifier: Apache-2.0
"""The protocol as pure state machines: no socket, clock, thread, file or environment."""
