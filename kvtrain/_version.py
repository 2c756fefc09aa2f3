# SPDX-License-Identifier: Apache-2.0
"""The package version and the version of the wire protocol."""

__version__ = "0.1.0"
#: Integer version of the wire protocol; a join refuses any other.
PROTOCOL_VERSION = 2
