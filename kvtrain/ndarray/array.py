# SPDX-License-Identifier: Apache-2.0
"""The class NDArray: storage, dtype, context, indexing. Operators come from the registry.

An NDArray touches its buffer only through two doors. The read door (:meth:`NDArray._read`)
awaits a pending pull. The write door (:meth:`NDArray._write`) awaits it too and leaves a
buffer that is lent to the transport to its reader, going on with a copy. Basic slices and
``reshape`` share the storage, and so its pending state and its moves.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kvtrain.autograd.tape import Entry, Leaf, state
from kvtrain.context import Context, usable
from kvtrain.errors import AutogradError, OperatorError
from kvtrain.kernels.stored import dense
from kvtrain.ndarray.storage import Loan, Storage
from kvtrain.ops.attribute import dtype_of
from kvtrain.ops.shape import reshape_to

Array = np.ndarray[Any, Any]
IN_PLACE = (
    "an array of the computational graph cannot be written inside record(): its gradient would "
    "be wrong; write outside, or compute a new array"
)


class SparseOperand(Exception):
    """An operator met a sparse array; it starts again at the door for those."""


class NDArray:
    """An n-dimensional array on a context.

    Made by :func:`kvtrain.nd.array` and its siblings, not by calling the class.
    """

    __slots__ = (
        "__weakref__",
        "_ctx",
        "_entry",
        "_fresh_grad",
        "_generation",
        "_grad",
        "_path",
        "_raw",
        "_storage",
    )
    __array_priority__ = 1000.0
    _sparse = False
    # comparison gives arrays, but an array is still a key by identity
    __hash__ = object.__hash__

    #: set when the array gets a storage: of which generation `_raw` is, and which view of it
    _generation: int
    _path: tuple[Callable[[Array], Array], ...]
    #: set with a gradient: a backward has written it since the last Trainer.step
    _fresh_grad: bool

    def __init__(self, raw: Array, ctx: Context, storage: Storage | None = None) -> None:
        self._raw = raw
        self._ctx = ctx
        #: made when it is needed: by a view, a pending pull, a loan, a move
        self._storage = storage
        self._entry: Entry = None
        self._grad: NDArray | None = None
        if storage is not None:
            self._generation = storage.generation
            self._path = ()

    def _shared(self) -> Storage:
        """The storage, made at first need."""
        storage = self._storage
        if storage is None:
            storage = self._storage = Storage(self._raw)
            self._generation = storage.generation
            self._path = ()
        return storage

    # ---- the two doors -------------------------------------------------------------------

    def _read(self) -> Array:
        """The values, for reading; awaits a pending pull."""
        storage = self._storage
        if storage is None:
            return self._raw
        if storage.wait is not None:
            storage.settle()
        if self._generation != storage.generation:
            self._relocate()
        return self._raw

    def _write(self) -> Array:
        """The buffer, for writing; awaits a pending pull, leaves a lent buffer alone."""
        storage = self._storage
        if storage is None:
            return self._raw
        if storage.wait is not None:
            storage.settle()
        if storage.loans:
            storage.make_private()
        if self._generation != storage.generation:
            self._relocate()
        return self._raw

    def _write_all(self) -> Array:
        """The write door for an update of every value; a sparse array must store all its rows."""
        return self._write()

    def _operand(self) -> Array:
        """The values for an operator; a sparse array raises :class:`SparseOperand`."""
        return self._read()

    def _assign(self, values: Any) -> None:
        """Take over `values`: raw ones of the same shape, dense or stored, in this dtype."""
        self._refuse_in_graph()
        self._receive(values)

    def _receive(self, values: Any) -> None:
        """As :meth:`_assign`, also while recording: for gradients and pulls."""
        np.copyto(self._write(), dense(values), casting="unsafe")

    def _overwrite(self) -> Array:
        """The write door for whoever writes every element: a lent buffer is not copied."""
        storage = self._storage
        if storage is not None and storage.loans and storage.wait is None and not self._path:
            storage.make_private(keep=False)
        return self._write()

    def _relocate(self) -> None:
        storage = self._shared()
        raw = storage.buffer
        for step in self._path:
            raw = step(raw)
        self._raw = raw
        self._generation = storage.generation

    def _fill(self) -> Array:
        """The buffer as it is, for whoever fills a pending array."""
        if self._storage is not None and self._generation != self._storage.generation:
            self._relocate()
        return self._raw

    def _set_pending(self, wait: Callable[[], None]) -> None:
        """`wait` fills the buffer; it is called once, before the next use."""
        self._shared().set_pending(wait)

    def _lend(self) -> Loan:
        """Lend the present values to the transport; later writes go elsewhere."""
        return Loan(self._shared(), self._read())

    def _move_to(self, buffer: Array) -> None:
        """Move the whole storage into `buffer` (same shape, dtype); values are kept."""
        storage = self._shared()
        if self._path:
            raise OperatorError("a view cannot be moved; move the array it is a view of")
        np.copyto(buffer, self._read())
        storage.replace(buffer)

    def _view(self, step: Callable[[Array], Array]) -> NDArray:
        storage = self._shared()
        view = NDArray(step(self._read()), self._ctx, storage)
        view._path = (*self._path, step)
        return view

    # ---- what it is ----------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self._raw.shape

    @property
    def dtype(self) -> Any:
        """NumPy type, as ``numpy.float32``."""
        return self._raw.dtype.type

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._raw.size

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._raw.ndim

    @property
    def context(self) -> Context:
        """Where it lives."""
        return self._ctx

    ctx = context

    @property
    def stype(self) -> str:
        """Storage type: ``"default"``."""
        return "default"

    @property
    def T(self) -> NDArray:
        """Dimensions reversed."""
        return self.transpose()  # type: ignore[attr-defined, no-any-return]

    @property
    def grad(self) -> NDArray | None:
        """The gradient buffer made by :meth:`attach_grad`, else None."""
        return self._grad

    @property
    def handle(self) -> int:
        """A number that names this array in this process."""
        return id(self)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"\n{self.asnumpy()!s}\n<{type(self).__name__} {shape} @{self._ctx}>"

    def __bool__(self) -> bool:
        if self.size == 0:
            return False
        if self.size == 1:
            return bool(self.asscalar())
        raise ValueError("The truth value of an NDArray with multiple elements is ambiguous.")

    def __float__(self) -> float:
        return float(self.asscalar())

    def __int__(self) -> int:
        return int(self.asscalar())

    def __index__(self) -> int:
        if self._raw.dtype.kind not in "iu":
            raise TypeError("only integer arrays of one element can be used as an index")
        return int(self.asscalar())

    def __iter__(self) -> Iterator[NDArray]:
        for i in range(len(self)):
            yield self[i]

    def __contains__(self, value: Any) -> bool:
        raw = value._read() if isinstance(value, NDArray) else value
        return bool(np.any(self._read() == raw))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        raw = self.asnumpy()
        return raw if dtype is None else raw.astype(dtype, copy=False)

    # ---- copies and conversions ----------------------------------------------------------

    def asnumpy(self) -> Array:
        """A copy of the values as a NumPy array."""
        return self._read().copy()

    def asscalar(self) -> Any:
        """The only element as a Python number; ValueError if there are several."""
        if self.size != 1:
            raise ValueError("The current array is not a scalar")
        return self._read().reshape(-1)[0]

    def item(self) -> Any:
        """The only element as a Python number."""
        return self.asscalar().item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._read().tolist()

    def copy(self) -> NDArray:
        """A copy on the same context, outside the graph's buffers but part of the graph."""
        return self.copyto(self._ctx)

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Copy into another array, or to a new one on a context; returns it."""
        if isinstance(other, Context):
            if state.recording and self._entry is not None:
                out: NDArray = self.identity()  # type: ignore[attr-defined]
                out._ctx = usable(other)
                return out
            return NDArray(self._read().copy(), usable(other))
        if not isinstance(other, NDArray):
            raise TypeError(f"copyto: {type(other).__name__} is neither an NDArray nor a Context")
        if other is self:
            return other
        if other.shape != self.shape:
            raise OperatorError(f"copyto: shape {self.shape} does not fit {other.shape}")
        other._assign(self._read())
        return other

    def as_in_context(self, context: Context) -> NDArray:
        """This array if it lives on `context`, else a copy there."""
        return self if context == self._ctx else self.copyto(context)

    as_in_ctx = as_in_context

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """The values in another dtype; without `copy`, itself if it has that dtype."""
        kind = dtype_of(dtype, "astype")
        same = not copy and kind == self._raw.dtype
        return self if same else self._cast(kind.name)  # type: ignore[attr-defined, no-any-return]

    def as_nd_ndarray(self) -> NDArray:
        """Itself."""
        return self

    def tostype(self, stype: str) -> NDArray:
        """A copy in storage ``"default"``, ``"row_sparse"`` or ``"csr"``."""
        return self.cast_storage(stype)  # type: ignore[attr-defined, no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {"values": self.asnumpy(), "ctx": (self._ctx.device_type, self._ctx.device_id)}

    def __setstate__(self, held: dict[str, Any]) -> None:
        NDArray.__init__(self, held["values"], Context(*held["ctx"]))

    def __deepcopy__(self, memo: Any) -> NDArray:
        return NDArray(self.asnumpy(), self._ctx)

    __copy__ = copy

    # ---- waiting -------------------------------------------------------------------------

    def wait_to_read(self) -> None:
        """Await a pending pull; raises what made it fail."""
        self._read()

    def wait_to_write(self) -> None:
        """Await a pending pull before writing."""
        self._write()

    # ---- gradients -----------------------------------------------------------------------

    def attach_grad(self, grad_req: str = "write", stype: str | None = None) -> None:
        """Make this a variable with a zero gradient buffer; it leaves any graph it was in.

        Parameters
        ----------
        grad_req : {'write', 'add', 'null'}
            Whether a backward pass replaces the gradient, adds to it, or leaves it alone.
        stype : {'default', 'row_sparse', 'csr'}, optional
            Storage of the gradient; default: as the array.
        """
        grad: NDArray = self._new_grad(stype or "default")  # type: ignore[attr-defined]
        self._attach(grad, grad_req)

    def _attach(self, grad: NDArray | None, grad_req: str) -> None:
        if grad_req not in ("write", "add", "null"):
            raise AutogradError(f"grad_req={grad_req!r}; known: write, add, null")
        self._grad = grad
        self._fresh_grad = False
        # the variable does not keep its array alive by a cycle
        self._entry = Leaf(weakref.ref(self), grad_req)

    def detach(self) -> NDArray:
        """The same values (shared) outside the graph."""
        storage = self._shared()
        out = NDArray(self._read(), self._ctx, storage)
        out._path = self._path
        return out

    def _refuse_in_graph(self) -> None:
        """Arrays of the graph are not written while recording."""
        if state.recording and self._entry is not None:
            raise AutogradError(IN_PLACE)

    def _write_in_graph(self) -> Array:
        """The write door, closed for arrays of the graph while recording."""
        self._refuse_in_graph()
        return self._write()

    # ---- indexing and views --------------------------------------------------------------

    def __getitem__(self, key: Any) -> NDArray:
        key = plain_key(key)
        if state.recording and self._entry is not None:
            self._peek(key)
            return self._index(key)  # type: ignore[attr-defined, no-any-return]
        raw = self._peek(key)
        if raw.ndim == 0 and self._raw.ndim:
            return self[(*key, None)] if isinstance(key, tuple) else self[key, None]
        if raw.flags.c_contiguous and np.may_share_memory(raw, self._raw):
            return self._view(lambda a: a[key])
        return NDArray(np.array(raw, order="C"), self._ctx)

    def __setitem__(self, key: Any, value: Any) -> None:
        raw = self._write_in_graph()
        key = plain_key(key)
        if isinstance(value, NDArray):
            value = value._read()
        elif isinstance(value, int | float) and raw.dtype.kind in "iu":
            value = np.asarray(value).astype(raw.dtype)  # wraps around, as in C
        try:
            raw[key] = value
        except ValueError:
            shape, target = np.shape(value), np.shape(self._peek(key))
            extra = len(shape) - len(target)
            if extra <= 0 or any(n != 1 for n in shape[:extra]) or shape[extra:] != target:
                raise OperatorError(f"values of shape {shape} do not fit {target}") from None
            raw[key] = np.reshape(value, target)

    def _peek(self, key: Any) -> Array:
        """The raw values at `key`; an error that tells a bad kind of index from a bad place."""
        try:
            return self._read()[key]
        except IndexError:
            parts = key if isinstance(key, tuple) else (key,)
            for part in parts:
                if isinstance(part, str | float | dict | set):
                    raise ValueError(
                        f"an NDArray cannot be indexed with {part!r} of type {type(part).__name__}"
                    ) from None
            raise

    def reshape(self, *shape: Any, **kwargs: Any) -> NDArray:
        """A view in another shape (MXNet's codes 0, -1, -2, -3, -4); copied while recording."""
        if kwargs.keys() - {"shape", "reverse"}:
            raise TypeError(f"reshape: unknown arguments {sorted(kwargs.keys())}")
        reverse = bool(kwargs.get("reverse", False))
        given: Any = kwargs.get("shape", shape)
        given = given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given
        wanted = tuple(int(n) for n in given)
        if state.recording and self._entry is not None:
            return self._reshape(wanted, reverse)  # type: ignore[attr-defined, no-any-return]
        try:
            out = reshape_to(self.shape, wanted, reverse)
        except ValueError as error:
            raise OperatorError(str(error)) from None
        return self._view(lambda a: a.reshape(out))


def plain_key(key: Any) -> Any:
    """An index whose NDArrays are integer NumPy arrays."""
    if isinstance(key, NDArray):
        raw = key._read()
        return raw.astype(np.int64) if raw.dtype.kind == "f" else raw
    if isinstance(key, tuple):
        return tuple(plain_key(k) for k in key)
    if isinstance(key, list):
        return np.asarray(key)
    if isinstance(key, np.ndarray) and key.dtype.kind == "f":
        return key.astype(np.int64)
    return key
