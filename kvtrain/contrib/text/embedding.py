# SPDX-License-Identifier: Apache-2.0
"""Vectors of tokens, read from files that are on this machine: nothing is downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kvtrain.contrib.text.names import FASTTEXT, GLOVE
from kvtrain.contrib.text.vocab import Vocabulary
from kvtrain.errors import ConfigError, FormatError, MissingFile
from kvtrain.ndarray import NDArray, array, zeros
from kvtrain.registry import Registry

_embeddings: Registry[Any] = Registry("token embedding")
_ROOT = str(Path("~", ".mxnet", "embeddings"))


def register(embedding_cls: Any) -> Any:
    """Make a class of embeddings known by its name in lower case."""
    _embeddings.register(embedding_cls, embedding_cls.__name__)
    return embedding_cls


def create(embedding_name: str, **kwargs: Any) -> Any:
    """An embedding by the name of its class."""
    return _embeddings.get(embedding_name.lower())(**kwargs)


def get_pretrained_file_names(embedding_name: str | None = None) -> Any:
    """Names of published files: of one kind of embedding, or a dict of all kinds."""
    if embedding_name is None:
        return {"glove": list(GLOVE), "fasttext": list(FASTTEXT)}
    kinds = {"glove": GLOVE, "fasttext": FASTTEXT}
    if embedding_name.lower() not in kinds:
        raise KeyError(f"{embedding_name!r} has no published files; known: {', '.join(kinds)}")
    return list(kinds[embedding_name.lower()])


class _TokenEmbedding(Vocabulary):
    """A vocabulary whose tokens have vectors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._vec_len = 0
        self._idx_to_vec: NDArray | None = None

    @property
    def vec_len(self) -> int:
        """Length of a vector."""
        return self._vec_len

    @property
    def idx_to_vec(self) -> NDArray | None:
        """(tokens, vec_len): the vectors in the order of the tokens' numbers."""
        return self._idx_to_vec

    def _read_file(
        self, path: Path, elem_delim: str, init_unknown_vec: Callable[..., Any], encoding: str
    ) -> None:
        if not path.is_file():
            raise MissingFile(f"{path}: there is no such file of token vectors")
        rows: list[list[float]] = []
        unknown: list[float] | None = None
        known = {*self._idx_to_token} - {self._unknown_token}
        with path.open(encoding=encoding) as lines:
            for number, line in enumerate(lines, start=1):
                token, vector = self._line(path, number, line, elem_delim)
                if token == self._unknown_token and unknown is None:
                    unknown = vector
                elif token in known or token == self._unknown_token:
                    warnings.warn(
                        f"{path}:{number}: token {token!r} again; its first vector is kept",
                        stacklevel=4,
                    )
                elif len(vector) == 1:
                    warnings.warn(
                        f"{path}:{number}: {token!r} has one number; taken for a header, skipped",
                        stacklevel=4,
                    )
                else:
                    if rows and len(vector) != len(rows[0]):
                        raise FormatError(
                            f"{path}:{number}: token {token!r} has {len(vector)} numbers, the "
                            f"tokens before {len(rows[0])}"
                        )
                    rows.append(vector)
                    known.add(token)
                    self._idx_to_token.append(token)
                    self._token_to_idx[token] = len(self._idx_to_token) - 1
        if not rows:
            raise FormatError(f"{path}: holds no vectors")
        self._vec_len = len(rows[0])
        first = init_unknown_vec(shape=self._vec_len).asnumpy() if unknown is None else unknown
        specials = [[0.0] * self._vec_len] * (len(self._idx_to_token) - len(rows) - 1)
        self._idx_to_vec = array(np.array([list(first), *specials, *rows], np.float32))

    def _line(self, path: Path, number: int, line: str, elem_delim: str) -> tuple[str, list[float]]:
        token, *elements = line.rstrip().split(elem_delim)
        try:
            vector = [float(element) for element in elements]
        except ValueError:
            vector = []
        if not vector:
            raise FormatError(
                f"{path}:{number}: a token and numbers between {elem_delim!r} are needed"
            )
        return token, vector

    def _only(self, vocabulary: Vocabulary | None) -> None:
        """Keep the tokens of a vocabulary."""
        if vocabulary is None:
            return
        if not isinstance(vocabulary, Vocabulary):
            raise ConfigError(f"vocabulary must be a Vocabulary, not {type(vocabulary).__name__}")
        self._take(vocabulary, [self])

    def _take(self, vocabulary: Vocabulary, sources: Sequence[_TokenEmbedding]) -> None:
        tokens = list(vocabulary.idx_to_token)
        # index 0 is whatever the source takes for unknown tokens
        parts = [source.get_vecs_by_tokens(tokens).asnumpy() for source in sources]
        for part, source in zip(parts, sources, strict=True):
            part[0] = source._vectors()[0].asnumpy()
        whole = np.concatenate(parts, axis=1)
        self._unknown_token = vocabulary.unknown_token
        self._reserved_tokens = vocabulary.reserved_tokens
        self._idx_to_token = tokens
        self._token_to_idx = {token: i for i, token in enumerate(tokens)}
        self._vec_len = whole.shape[1]
        self._idx_to_vec = array(whole)

    def _vectors(self) -> NDArray:
        if self._idx_to_vec is None:
            raise ConfigError(f"{type(self).__name__}: no vectors are loaded")
        return self._idx_to_vec

    def get_vecs_by_tokens(self, tokens: Any, lower_case_backup: bool = False) -> NDArray:
        """Vector (vec_len,) of a token, or (n, vec_len) of a list of them.

        Parameters
        ----------
        lower_case_backup : bool
            Look for the token in lower case where it is not here as it is.
        """
        given = tokens if isinstance(tokens, list) else [tokens]
        places = []
        for token in given:
            place = self.token_to_idx.get(token)
            if place is None and lower_case_backup:
                place = self.token_to_idx.get(token.lower())
            places.append(place or 0)
        found = self._vectors().asnumpy()[places]
        return array(found if isinstance(tokens, list) else found[0])

    def update_token_vectors(self, tokens: Any, new_vectors: NDArray) -> None:
        """Give tokens other vectors: (n, vec_len), or (vec_len,) for a single token."""
        given = tokens if isinstance(tokens, list) else [tokens]
        wanted = (len(given), self.vec_len)
        if not isinstance(new_vectors, NDArray):
            raise ConfigError(f"new_vectors must be an NDArray, not {type(new_vectors).__name__}")
        vectors = new_vectors
        if vectors.ndim == 1 and len(given) == 1:
            vectors = vectors.expand_dims(0)  # type: ignore[attr-defined]
        if vectors.shape != wanted:
            raise ConfigError(f"new_vectors has shape {new_vectors.shape}; {wanted} is needed")
        places = []
        for token in given:
            if token not in self.token_to_idx:
                raise ValueError(
                    f"token {token!r} is unknown; to change the vector of unknown tokens, name "
                    f"{self.unknown_token!r}"
                )
            places.append(self.token_to_idx[token])
        raw = self._vectors().asnumpy()
        raw[places] = vectors.asnumpy()
        self._vectors()[:] = raw


class _Published(_TokenEmbedding):
    """Vectors from one of the published files, under ``embedding_root/<name of the class>``."""

    names: ClassVar[list[str]] = []

    def __init__(
        self,
        pretrained_file_name: str,
        embedding_root: str,
        init_unknown_vec: Callable[..., Any],
        vocabulary: Vocabulary | None,
        **kwargs: Any,
    ) -> None:
        if pretrained_file_name not in self.names:
            raise KeyError(
                f"{type(self).__name__}: {pretrained_file_name!r} is not published; known: "
                f"{', '.join(self.names)}"
            )
        super().__init__(**kwargs)
        folder = Path(embedding_root).expanduser() / type(self).__name__.lower()
        path = folder / pretrained_file_name
        if not path.is_file():
            raise MissingFile(f"{path} is not there. Nothing is downloaded: put the file there")
        self._read_file(path, " ", init_unknown_vec, "utf8")
        self._only(vocabulary)


@register
class GloVe(_Published):
    """Global vectors (Pennington, Socher and Manning, 2014)."""

    names = GLOVE

    def __init__(
        self,
        pretrained_file_name: str = "glove.840B.300d.txt",
        embedding_root: str = _ROOT,
        init_unknown_vec: Callable[..., Any] = zeros,
        vocabulary: Vocabulary | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pretrained_file_name, embedding_root, init_unknown_vec, vocabulary, **kwargs
        )


@register
class FastText(_Published):
    """Vectors from subwords (Bojanowski et al., 2017)."""

    names = FASTTEXT

    def __init__(
        self,
        pretrained_file_name: str = "wiki.simple.vec",
        embedding_root: str = _ROOT,
        init_unknown_vec: Callable[..., Any] = zeros,
        vocabulary: Vocabulary | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pretrained_file_name, embedding_root, init_unknown_vec, vocabulary, **kwargs
        )


@register
class CustomEmbedding(_TokenEmbedding):
    """Vectors from a file with a token and its numbers on each line.

    Parameters
    ----------
    pretrained_file_path : str
    elem_delim : str
        What separates the token and the numbers.
    init_unknown_vec : callable
        ``init_unknown_vec(shape=n)``: vector of unknown tokens, if the file has none.
    vocabulary : Vocabulary, optional
        Keep vectors of its tokens only, under its numbers.
    """

    def __init__(
        self,
        pretrained_file_path: str,
        elem_delim: str = " ",
        encoding: str = "utf8",
        init_unknown_vec: Callable[..., Any] = zeros,
        vocabulary: Vocabulary | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        path = Path(pretrained_file_path).expanduser()
        self._read_file(path, elem_delim, init_unknown_vec, encoding)
        self._only(vocabulary)


class CompositeEmbedding(_TokenEmbedding):
    """For each token of a vocabulary the vectors of several embeddings, one after the other."""

    def __init__(self, vocabulary: Vocabulary, token_embeddings: Any) -> None:
        super().__init__()
        sources = token_embeddings if isinstance(token_embeddings, list) else [token_embeddings]
        if not isinstance(vocabulary, Vocabulary):
            raise ConfigError(f"vocabulary must be a Vocabulary, not {type(vocabulary).__name__}")
        for source in sources:
            if not isinstance(source, _TokenEmbedding):
                raise ConfigError(f"{type(source).__name__} is no token embedding")
        self._take(vocabulary, sources)
