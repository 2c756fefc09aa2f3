# SPDX-License-Identifier: Apache-2.0
"""Counting tokens."""

from __future__ import annotations

import re
from collections import Counter


def count_tokens_from_str(
    source_str: str,
    token_delim: str = " ",
    seq_delim: str = "\n",
    to_lower: bool = False,
    counter_to_update: Counter[str] | None = None,
) -> Counter[str]:
    """How often each token occurs.

    Parameters
    ----------
    token_delim, seq_delim : str
        Regular expressions that separate tokens and sequences.
    to_lower : bool
        Count tokens in lower case.
    counter_to_update : Counter, optional
        Count on here; it is also what is returned.
    """
    tokens = [token for token in re.split(f"{token_delim}|{seq_delim}", source_str) if token]
    if to_lower:
        tokens = [token.lower() for token in tokens]
    counter = Counter() if counter_to_update is None else counter_to_update
    counter.update(tokens)
    return counter
