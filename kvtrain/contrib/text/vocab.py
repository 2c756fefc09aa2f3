# SPDX-License-Identifier: Apache-2.0
"""Tokens and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from kvtrain.errors import ConfigError


class Vocabulary:
    """Numbers of tokens: first the unknown token, then the reserved ones, then by frequency.

    Parameters
    ----------
    counter : Counter, optional
        How often each token occurs; among equals the alphabet decides.
    most_freq_count : int, optional
        At most so many tokens of `counter`.
    min_freq : int
        Only tokens that occur at least so often.
    unknown_token : hashable
        Stands for every token that is not here; its number is 0.
    reserved_tokens : list, optional
        Others that are always here, such as padding.
    """

    def __init__(
        self,
        counter: Counter[Any] | None = None,
        most_freq_count: int | None = None,
        min_freq: int = 1,
        unknown_token: Hashable = "<unk>",
        reserved_tokens: Sequence[Hashable] | None = None,
    ) -> None:
        if min_freq < 1:
            raise ConfigError(f"Vocabulary: min_freq={min_freq}; at least 1 is needed")
        reserved = list(reserved_tokens) if reserved_tokens is not None else []
        if unknown_token in reserved:
            raise ConfigError(f"Vocabulary: reserved_tokens holds unknown_token={unknown_token!r}")
        if len(set(reserved)) != len(reserved):
            raise ConfigError(f"Vocabulary: reserved_tokens={reserved} holds a token twice")
        if counter is not None and not isinstance(counter, Counter):
            raise ConfigError(
                f"Vocabulary: counter must be a collections.Counter, not {type(counter).__name__}"
            )
        self._unknown_token = unknown_token
        self._reserved_tokens = reserved if reserved_tokens is not None else None
        self._idx_to_token: list[Any] = [unknown_token, *reserved]
        if counter is not None:
            ordered = sorted(sorted(counter.items(), key=lambda held: held[0]),
                             key=lambda held: held[1], reverse=True)  # fmt: skip
            special = {unknown_token, *reserved}
            wanted = [t for t, count in ordered if count >= min_freq and t not in special]
            self._idx_to_token += wanted[:most_freq_count]
        self._token_to_idx = {token: i for i, token in enumerate(self._idx_to_token)}

    def __len__(self) -> int:
        return len(self.idx_to_token)

    @property
    def token_to_idx(self) -> dict[Any, int]:
        """Token -> number."""
        return self._token_to_idx

    @property
    def idx_to_token(self) -> list[Any]:
        """Tokens in the order of their numbers."""
        return self._idx_to_token

    @property
    def unknown_token(self) -> Any:
        """What stands for tokens that are not here."""
        return self._unknown_token

    @property
    def reserved_tokens(self) -> list[Any] | None:
        """The reserved tokens."""
        return self._reserved_tokens

    def to_indices(self, tokens: Any) -> Any:
        """Number of a token, or of each token of a list; 0 for unknown ones."""
        if not isinstance(tokens, list):
            return self.token_to_idx.get(tokens, 0)
        return [self.token_to_idx.get(token, 0) for token in tokens]

    def to_tokens(self, indices: Any) -> Any:
        """Token of a number, or of each number of a list."""
        found = []
        for index in indices if isinstance(indices, list) else [indices]:
            if not isinstance(index, int) or not 0 <= index < len(self.idx_to_token):
                raise ValueError(
                    f"to_tokens: {index!r} is no number of a token; there are "
                    f"{len(self.idx_to_token)}"
                )
            found.append(self.idx_to_token[index])
        return found if isinstance(indices, list) else found[0]
