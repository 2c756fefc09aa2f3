# SPDX-License-Identifier: Apache-2.0
"""Commands that need more than the launcher may import; loaded by name when called."""
