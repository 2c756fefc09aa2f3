# SPDX-License-Identifier: Apache-2.0
"""Every error that kvtrain raises on purpose.

::

    KVTrainError (also called MXNetError; a RuntimeError, as that is)
    +-- UnknownName            a name that no registry holds; lists the known ones
    +-- ConfigError            an option, environment variable or file with a bad value
    +-- NotLaunched            a distributed store outside a job
    +-- OperatorError          wrong shape, dtype or attribute of an operator
    |   +-- DTypeError         a dtype that arrays cannot have
    +-- NotSupportedForSparseNDArray   an operation that only dense arrays have
    +-- AutogradError          backward without a graph, a freed graph, ...
    +-- DeferredInitializationError   a parameter whose shape is not known yet
    +-- ParameterStorageError  data() of a row-sparse parameter, row_sparse_data() of a dense one
    +-- FormatError            a file that cannot be read as what it claims to be
    |   +-- MissingFile        a file that is not there
    +-- CheckpointError        a checkpoint that cannot be written, used or found
    +-- KeyMismatch            a key with another shape, dtype or storage than before
    +-- KeyNotInitialized      push or pull of a key nobody initialised
    +-- KeyAlreadyInitialized  second init of a key by the same worker
    +-- NonFiniteGradient      NaN or infinity in a gradient (KVTRAIN_CHECK_FINITE=1)
    +-- JobError               the job cannot go on
    |   +-- JoinRefused        the scheduler refused a Hello
    |   +-- DeadlineExceeded   a wait ran into its deadline; names who is missing
    |   +-- WorkerLost         a worker died
    |   +-- ServerLost         a server died and nobody holds its shards
    |   +-- SchedulerLost      the scheduler cannot be reached
    |   +-- OutOfStep          a worker skipped a round
    |   +-- JobStopped         the job was ended by its launcher or a signal
    +-- ProtocolError
        +-- LocalProtocolError   this process broke the rules; nothing was changed
        +-- RemoteProtocolError  the other side broke the rules

Every error has attributes first and its sentence in ``__str__``; each survives pickling and
the wire (:func:`to_wire`, :func:`from_wire`), which carries the class name and plain fields
and never a pickle.
"""

from __future__ import annotations

from typing import Any


class KVTrainError(RuntimeError):
    """Base of all errors of kvtrain. Subclasses list their fields in ``fields``."""

    fields: tuple[str, ...] = ("message",)

    def __init__(self, *values: Any) -> None:
        given = values + ("",) * (len(self.fields) - len(values))
        super().__init__(*given)
        for name, value in zip(self.fields, given, strict=False):
            setattr(self, name, value)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


MXNetError = KVTrainError


class UnknownName(KVTrainError, ValueError):
    """A name that no registry holds."""

    fields = ("kind", "name", "known")

    def __str__(self) -> str:
        kind, name, known = self.args
        return f"unknown {kind} {name!r}; known: {', '.join(known)}"


class ConfigError(KVTrainError, ValueError):
    """An option, environment variable or file with a value that cannot be used."""


class NotLaunched(KVTrainError, RuntimeError):
    """A distributed store was asked for outside a job."""

    fields = ("store_type",)

    def __str__(self) -> str:
        return (
            f"kv.create({self.args[0]!r}) needs a running job, and this process is in none. "
            "Start the script with `kvtrain launch -n 4 script.py`; "
            "kvtrain.launched() tells a script whether it runs inside a job. "
            "In one process use kv.create('local')."
        )


class OperatorError(KVTrainError, ValueError):
    """An operator got a wrong shape, dtype, context or attribute."""


class DTypeError(OperatorError, TypeError):
    """A dtype that arrays cannot have."""


class NotSupportedForSparseNDArray(KVTrainError, NotImplementedError):
    """Only dense arrays can do this; ``tostype('default')`` makes one."""


class AutogradError(KVTrainError, RuntimeError):
    """The gradient graph cannot give what was asked."""


class DeferredInitializationError(KVTrainError, RuntimeError):
    """A parameter is used before its shape is known."""


class ParameterStorageError(KVTrainError, RuntimeError):
    """A parameter's values were asked for in a way that its storage does not have."""


class FormatError(KVTrainError, ValueError):
    """A file is not what it claims to be, or is damaged."""


class MissingFile(FormatError, FileNotFoundError):
    """There is no such file."""


class CheckpointError(KVTrainError, RuntimeError):
    """A checkpoint that cannot be written, found, or used by this job."""


class KeyMismatch(KVTrainError, ValueError):
    """A key was given with another shape, dtype, storage or setting than it has."""


class KeyNotInitialized(KVTrainError, KeyError):
    """A key was pushed or pulled before it was initialised."""

    __str__ = KVTrainError.__str__


class KeyAlreadyInitialized(KVTrainError, ValueError):
    """The same worker initialised one key twice."""


class NonFiniteGradient(KVTrainError, ArithmeticError):
    """A gradient holds NaN or infinity (checked with KVTRAIN_CHECK_FINITE=1)."""


class JobError(KVTrainError, RuntimeError):
    """The job cannot go on."""


class JoinRefused(JobError):
    """The scheduler refused this process."""


class DeadlineExceeded(JobError, TimeoutError):
    """A wait ran into its deadline. The message names who is missing."""


class WorkerLost(JobError):
    """A worker of the job died."""


class ServerLost(JobError):
    """A server died and no replica holds its shards."""


class SchedulerLost(JobError):
    """The scheduler cannot be reached."""


class OutOfStep(JobError):
    """A worker skipped a round that others wait for."""


class ServerMemoryExceeded(JobError):
    """A server's memory limit does not allow what was asked."""


class JobStopped(JobError):
    """The job was ended from outside."""


class ProtocolError(KVTrainError, RuntimeError):
    """The rules of the protocol were broken; see the two subclasses."""


class LocalProtocolError(ProtocolError):
    """This process broke the rules. Nothing was changed by the refused call."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the rules."""


def _subclasses(cls: type[KVTrainError]) -> dict[str, type[KVTrainError]]:
    found = {cls.__name__: cls}
    for sub in cls.__subclasses__():
        found.update(_subclasses(sub))
    return found


def to_wire(error: BaseException) -> tuple[str, list[Any]]:
    """``(class name, plain fields)``; anything that is not ours travels as its text."""
    if isinstance(error, KVTrainError):
        fields = [list(a) if isinstance(a, tuple) else a for a in error.args]
        if all(isinstance(a, str | int | float | list | type(None)) for a in fields):
            return type(error).__name__, fields
    return "KVTrainError", [f"{type(error).__name__}: {error}"]


def from_wire(name: str, fields: list[Any]) -> KVTrainError:
    """Rebuild an error sent by :func:`to_wire`; an unknown class becomes KVTrainError."""
    cls = _subclasses(KVTrainError).get(name)
    if cls is None or len(fields) != len(cls.fields):
        return KVTrainError(f"{name}: {', '.join(map(str, fields))}")
    return cls(*(tuple(f) if isinstance(f, list) else f for f in fields))
