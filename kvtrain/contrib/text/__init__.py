# SPDX-License-Identifier: Apache-2.0
"""``mx.contrib.text``: vocabularies and vectors of tokens."""

from kvtrain.contrib.text import embedding, utils, vocab

__all__ = ["embedding", "utils", "vocab"]
