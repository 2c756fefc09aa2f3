# SPDX-License-Identifier: Apache-2.0
"""Blocks: the pieces that networks are made of."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kvtrain import autograd
from kvtrain import ndarray as nd
from kvtrain.errors import ConfigError, DeferredInitializationError
from kvtrain.gluon import files
from kvtrain.gluon.infer import InferringNamespace, Unknown
from kvtrain.gluon.naming import BlockScope
from kvtrain.gluon.parameter import Parameter, ParameterDict
from kvtrain.gluon.summary import summarize
from kvtrain.ndarray import NDArray

#: MXNet's name
_BlockScope = BlockScope


class Hook:
    """A registered hook; ``detach()`` removes it."""

    def __init__(self, hooks: dict[int, Any], function: Any) -> None:
        self._hooks = hooks
        hooks[id(self)] = function

    def detach(self) -> None:
        """Remove the hook."""
        self._hooks.pop(id(self), None)

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.detach()


class Block:
    """Base of all layers and networks; write ``forward(self, x, ...)``.

    Blocks and parameters that are set as attributes become part of the block.

    Parameters
    ----------
    prefix : str, optional
        Begins the names of its parameters; made from the class name by default.
    params : ParameterDict, optional
        Parameters to share with another block.
    """

    #: only passes on what its children give: no row of its own in a summary
    _plain_stack = False

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None) -> None:
        self._empty_prefix = prefix == ""
        self._prefix, self._params = BlockScope.create(prefix, params, self._alias())
        self._name = self._prefix.removesuffix("_")
        self._scope = BlockScope(self._prefix, self._params, self._empty_prefix)
        self._children: OrderedDict[str, Block] = OrderedDict()
        self._reg_params: dict[str, Parameter] = {}
        self._forward_hooks: dict[int, Any] = {}
        self._forward_pre_hooks: dict[int, Any] = {}

    def _alias(self) -> str:
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        lines = "\n".join(
            f"  ({key}): " + repr(child).replace("\n", "\n  ")
            for key, child in self._children.items()
        )
        return f"{type(self).__name__}(\n{lines}\n)"

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        if isinstance(held, Parameter | Block) and not isinstance(value, type(held)):
            if not (isinstance(held, Block) and isinstance(value, Block)):
                raise TypeError(
                    f"Changing attribute type for {name} from {type(held)} to {type(value)} "
                    "is not allowed."
                )
        if isinstance(value, Block):
            self.register_child(value, name)
        elif isinstance(value, Parameter):
            self._reg_params[name] = value
        super().__setattr__(name, value)

    # ---- names and parameters -----------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """Begins the names of its parameters."""
        return self._prefix

    @property
    def name(self) -> str:
        """The prefix without its underscore."""
        return self._name

    def name_scope(self) -> BlockScope:
        """``with self.name_scope():`` name what is made inside under this block."""
        return self._scope

    @property
    def params(self) -> ParameterDict:
        """Its own parameters, without those of its children."""
        return self._params

    def collect_params(self, select: str | None = None) -> ParameterDict:
        """Its parameters and those of all blocks in it.

        Parameters
        ----------
        select : str, optional
            Regular expression that the names must match.
        """
        self._warn_of_hidden_blocks()
        found = ParameterDict(self._params.prefix)
        if select is None:
            found.update(self.params)
        else:
            pattern = re.compile(select)
            found._params.update({n: p for n, p in self.params.items() if pattern.match(n)})
        for child in self._children.values():
            found.update(child.collect_params(select))
        return found

    def _warn_of_hidden_blocks(self) -> None:
        """Blocks in a plain list, tuple or dict are no children: their parameters are missed."""
        children = set(map(id, self._children.values()))
        for name, value in self.__dict__.items():
            if name.startswith("_") or not isinstance(value, list | tuple | dict):
                continue
            held = value.values() if isinstance(value, dict) else value
            if any(isinstance(b, Block) and id(b) not in children for b in held):
                warnings.warn(
                    f'"{type(self).__name__}.{name}" is an unregistered container with Blocks. '
                    "Note that Blocks inside the list, tuple or dict will not be registered "
                    "automatically. Make sure to register them using register_child() or "
                    "switching to nn.Sequential/nn.HybridSequential instead.",
                    stacklevel=4,
                )

    def _collect_params_with_prefix(self, prefix: str = "") -> dict[str, Parameter]:
        """Parameters by their place in the structure, as ``0.weight``."""
        prefix = prefix + "." if prefix else ""
        found = {prefix + name: p for name, p in self._reg_params.items()}
        for name, child in self._children.items():
            found.update(child._collect_params_with_prefix(prefix + name))
        return found

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Make `block` a part of this one."""
        if not isinstance(block, Block):
            raise TypeError(f"{type(block).__name__} is no Block and cannot be a child of one")
        self._children[str(len(self._children)) if name is None else name] = block

    def register_forward_hook(self, hook: Callable[..., Any]) -> Hook:
        """Call ``hook(block, inputs, output)`` after each forward."""
        return Hook(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Hook:
        """Call ``hook(block, inputs)`` before each forward."""
        return Hook(self._forward_pre_hooks, hook)

    def register_op_hook(
        self, callback: Callable[[str, str, NDArray], Any], monitor_all: bool = False
    ) -> None:
        """Call ``callback(name, kind, array)`` for what each HybridBlock in it computes.

        Parameters
        ----------
        callback : callable
            Gets ``<block>_fwd_output``, the class of the block, and an output.
        monitor_all : bool
            Also the inputs, as ``<block>_fwd_data``.
        """

        def watch(block: Block) -> None:
            if not isinstance(block, HybridBlock):
                return

            def note(b: Block, inputs: Any, out: Any) -> None:
                seen = [("fwd_data", inputs)] if monitor_all else []
                for what, arrays in [*seen, ("fwd_output", out)]:
                    for array in arrays if isinstance(arrays, list | tuple) else [arrays]:
                        if isinstance(array, NDArray):
                            callback(f"{b.name}_{what}", type(b).__name__, array)

            block.register_forward_hook(note)

        self.apply(watch)

    def apply(self, fn: Callable[[Block], Any]) -> Block:
        """Call `fn` on every block in it, then on itself."""
        for child in self._children.values():
            child.apply(fn)
        fn(self)
        return self

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """Initialise all parameters; Uniform(0.07) by default."""
        self.collect_params().initialize(init, ctx, verbose, force_reinit)

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Passed on to children; see HybridBlock.hybridize."""
        for child in self._children.values():
            child.hybridize(active, **kwargs)

    def cast(self, dtype: Any) -> None:
        """Another dtype for all parameters."""
        for child in self._children.values():
            child.cast(dtype)
        for parameter in self.params.values():
            parameter.cast(dtype)

    def zero_grad(self) -> None:
        """All gradients to 0."""
        self.collect_params().zero_grad()

    # ---- files --------------------------------------------------------------------------------

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """Save values, named by structure, in MXNet's ``.params`` format."""
        files.save(self, filename, deduplicate)

    def load_parameters(
        self,
        filename: str,
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
    ) -> None:
        """Load values saved by :meth:`save_parameters`, MXNet's or ours.

        Raises
        ------
        KVTrainError
            A parameter is missing in the file, or the file holds another; names it.
        """
        files.load(self, filename, ctx, allow_missing, ignore_extra, cast_dtype, dtype_source)

    def save_params(self, filename: str) -> None:
        """Old name of the files that :meth:`ParameterDict.save` writes; use save_parameters."""
        warnings.warn("save_params is deprecated. Please use save_parameters.", stacklevel=2)
        self.collect_params().save(filename, strip_prefix=self.prefix)

    def load_params(
        self,
        filename: str,
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
    ) -> None:
        """Old name of :meth:`load_parameters`."""
        warnings.warn("load_params is deprecated. Please use load_parameters.", stacklevel=2)
        self.load_parameters(filename, ctx, allow_missing, ignore_extra)

    def save(self, prefix: str) -> None:
        """Save ``prefix-model.params`` and, for reading, the names of blocks as JSON."""
        with open(f"{prefix}-model.json", "w", encoding="utf-8") as file:
            json.dump({self.name: files.structure(self)}, file)
        self.save_parameters(f"{prefix}-model.params")

    def load(self, prefix: str) -> None:
        """Load what :meth:`save` saved into a network of the same structure."""
        self.load_parameters(f"{prefix}-model.params")

    # ---- calls --------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Hooks around :meth:`forward`."""
        for hook in list(self._forward_pre_hooks.values()):
            hook(self, args)
        out = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            hook(self, args, out)
        return out

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Outputs from inputs; written by a subclass."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def summary(self, *inputs: Any) -> None:
        """Print the blocks with output shapes and numbers of parameters.

        Parameters
        ----------
        inputs : NDArray
            A batch to run on.
        """
        sys.stdout.write(summarize(self, inputs))


def _first_array(values: Any) -> NDArray | None:
    for value in values:
        if isinstance(value, NDArray):
            return value
        if isinstance(value, list | tuple):
            found = _first_array(value)
            if found is not None:
                return found
    return None


class HybridBlock(Block):
    """A block whose forward is written against a namespace `F`.

    Write ``hybrid_forward(self, F, x, ..., weight, bias)``: parameters set as attributes arrive
    by keyword, as arrays. `F` is ``kvtrain.nd``.
    """

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None) -> None:
        super().__init__(prefix, params)
        self._active = False

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Accepted, remembered, and without effect on speed: every call runs eagerly.

        Parameters
        ----------
        static_alloc, static_shape, inline_limit, ... : optional
            MXNet's options; they change nothing either.
        """
        self._active = active
        super().hybridize(active, **kwargs)

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Make `block`, a HybridBlock, a part of this one."""
        if isinstance(block, Block) and not isinstance(block, HybridBlock):
            raise ValueError(
                f"Children of HybridBlock must also be HybridBlock, but {name or block} has type "
                f"{type(block)}."
            )
        super().register_child(block, name)

    def infer_shape(self, *args: Any) -> None:
        """Set unknown shapes of parameters from the inputs; layers that defer override it.

        By default the block runs once, outside any graph, and its operators tell the shapes.
        """
        with autograd.pause():
            self.forward(*args)

    def infer_type(self, *args: NDArray) -> None:
        """Set the dtype of parameters from the inputs; nothing is needed here."""

    def forward(self, x: Any, *args: Any) -> Any:
        """Calls hybrid_forward with ``kvtrain.nd`` and the parameters as arrays."""
        array = x if isinstance(x, NDArray) else _first_array((x, *args))
        if array is None:
            raise ConfigError(
                f"{type(self).__name__}: there must be one NDArray among the inputs; got "
                f"{', '.join(type(a).__name__ for a in (x, *args))}"
            )
        ctx = array._ctx
        try:
            params = {name: p.data(ctx) for name, p in self._reg_params.items()}
        except DeferredInitializationError:
            if type(self).infer_shape is HybridBlock.infer_shape:
                return self._forward_inferring(ctx, x, *args)
            self.infer_shape(x, *args)
            for parameter in self._reg_params.values():
                parameter._finish_deferred_init()
            params = {name: p.data(ctx) for name, p in self._reg_params.items()}
        return self.hybrid_forward(nd, x, *args, **params)

    def _forward_inferring(self, ctx: Any, x: Any, *args: Any) -> Any:
        params = {
            name: Unknown(p, ctx) if p._deferred_init else p.data(ctx)
            for name, p in self._reg_params.items()
        }
        return self.hybrid_forward(InferringNamespace(), x, *args, **params)

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> None:
        """Not available yet: it writes the network as a symbol.

        Raises
        ------
        NotImplementedError
            Always; names what works instead.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.export: networks are not traced into symbols yet; "
            "save_parameters() and load_parameters() keep the values"
        )

    def hybrid_forward(self, *args: Any, **kwargs: Any) -> Any:
        """``hybrid_forward(self, F, x, ..., weight)``: outputs from inputs; `F` is the namespace.

        Written by a subclass.
        """
        raise NotImplementedError(f"{type(self).__name__} must define hybrid_forward")
