# SPDX-License-Identifier: Apache-2.0
"""Ways of starting processes."""
