# SPDX-License-Identifier: Apache-2.0
"""The parameter server: pure protocol cores and the shells that drive them."""
