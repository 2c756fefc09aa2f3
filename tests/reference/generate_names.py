# SPDX-License-Identifier: Apache-2.0
"""The public names of the real MXNet 1.9.1, as facts: ``{namespace: {name: kind}}``.

peer/bin/python tests/reference/generate_names.py tests/reference
(the environment `peer` is made as generate.py says)
"""

import importlib
import inspect
import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import mxnet as mx  # noqa: E402

#: namespace as users write it -> module; later ones are kept apart in the table
MODULES = {
    "": "mxnet",
    "nd": "mxnet.ndarray",
    "nd.random": "mxnet.ndarray.random",
    "nd.linalg": "mxnet.ndarray.linalg",
    "nd.sparse": "mxnet.ndarray.sparse",
    "nd.contrib": "mxnet.ndarray.contrib",
    "nd.image": "mxnet.ndarray.image",
    "autograd": "mxnet.autograd",
    "gluon": "mxnet.gluon",
    "gluon.nn": "mxnet.gluon.nn",
    "gluon.rnn": "mxnet.gluon.rnn",
    "gluon.loss": "mxnet.gluon.loss",
    "gluon.utils": "mxnet.gluon.utils",
    "gluon.data": "mxnet.gluon.data",
    "gluon.data.vision": "mxnet.gluon.data.vision",
    "gluon.data.vision.transforms": "mxnet.gluon.data.vision.transforms",
    "gluon.model_zoo": "mxnet.gluon.model_zoo",
    "gluon.model_zoo.vision": "mxnet.gluon.model_zoo.vision",
    "gluon.contrib": "mxnet.gluon.contrib",
    "gluon.contrib.nn": "mxnet.gluon.contrib.nn",
    "gluon.contrib.rnn": "mxnet.gluon.contrib.rnn",
    "gluon.contrib.cnn": "mxnet.gluon.contrib.cnn",
    "gluon.contrib.data": "mxnet.gluon.contrib.data",
    "gluon.contrib.estimator": "mxnet.gluon.contrib.estimator",
    "kv": "mxnet.kvstore",
    "optimizer": "mxnet.optimizer",
    "optimizer.contrib": "mxnet.optimizer.contrib",
    "metric": "mxnet.metric",
    "initializer": "mxnet.initializer",
    "lr_scheduler": "mxnet.lr_scheduler",
    "random": "mxnet.random",
    "context": "mxnet.context",
    "callback": "mxnet.callback",
    "recordio": "mxnet.recordio",
    "monitor": "mxnet.monitor",
    "operator": "mxnet.operator",
    "name": "mxnet.name",
    "attribute": "mxnet.attribute",
    "model": "mxnet.model",
    "util": "mxnet.util",
    "base": "mxnet.base",
    "runtime": "mxnet.runtime",
    "engine": "mxnet.engine",
    "profiler": "mxnet.profiler",
    "test_utils": "mxnet.test_utils",
    "sym": "mxnet.symbol",
    "io": "mxnet.io",
    "image": "mxnet.image",
    "viz": "mxnet.visualization",
    "mod": "mxnet.module",
    "rnn": "mxnet.rnn",
    "np": "mxnet.numpy",
    "np.random": "mxnet.numpy.random",
    "np.linalg": "mxnet.numpy.linalg",
    "npx": "mxnet.numpy_extension",
}
#: where else a module's own functions are written
HOMES = {"mxnet.random": ("mxnet.ndarray.random.",)}
#: classes whose methods and properties are listed too
CLASSES = {
    "nd.NDArray": mx.nd.NDArray,
    "nd.sparse.CSRNDArray": mx.nd.sparse.CSRNDArray,
    "nd.sparse.RowSparseNDArray": mx.nd.sparse.RowSparseNDArray,
    "autograd.Function": mx.autograd.Function,
    "gluon.Block": mx.gluon.Block,
    "gluon.HybridBlock": mx.gluon.HybridBlock,
    "gluon.Parameter": mx.gluon.Parameter,
    "gluon.Constant": mx.gluon.Constant,
    "gluon.ParameterDict": mx.gluon.ParameterDict,
    "gluon.Trainer": mx.gluon.Trainer,
    "kv.KVStore": mx.kv.KVStore,
    "kv.KVStoreBase": mx.kv.KVStoreBase,
    "optimizer.Optimizer": mx.optimizer.Optimizer,
    "optimizer.Updater": mx.optimizer.Updater,
    "metric.EvalMetric": mx.metric.EvalMetric,
    "initializer.Initializer": mx.init.Initializer,
    "context.Context": mx.Context,
    "operator.CustomOp": mx.operator.CustomOp,
    "operator.CustomOpProp": mx.operator.CustomOpProp,
    "recordio.MXRecordIO": mx.recordio.MXRecordIO,
    "recordio.MXIndexedRecordIO": mx.recordio.MXIndexedRecordIO,
}


def kind_of(value):
    if inspect.ismodule(value):
        return "module"
    if inspect.isclass(value):
        return "class"
    return "function" if callable(value) else "value"


def names_of(module):
    """Its ``__all__`` and what else it or a module below it defines, private names left out.

    Operators are made at import and say that they are of ``mxnet.<namespace>.register``.
    """
    found = {}
    listed = set(getattr(module, "__all__", ()))
    for name in sorted(set(dir(module)) | listed):
        if name.startswith("_") or not hasattr(module, name):
            continue
        value = getattr(module, name)
        home = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        own = isinstance(home, str) and f"{home}.".startswith(
            (*HOMES.get(module.__name__, ()), f"{module.__name__}.")
        )
        if name in listed or (own and not name.startswith("gen_")):
            found[name] = kind_of(value)
    return found


def methods_of(cls):
    return {
        name: "method" if callable(getattr(cls, name, None)) else "property"
        for name in sorted(dir(cls))
        if not name.startswith("_")
    }


#: namespaces of functions written in Python, whose signatures say something
WRITTEN = (
    "autograd gluon gluon.nn gluon.rnn gluon.loss gluon.utils gluon.data gluon.data.vision "
    "gluon.data.vision.transforms gluon.contrib.nn gluon.contrib.rnn gluon.contrib.data "
    "gluon.contrib.estimator kv optimizer optimizer.contrib metric initializer lr_scheduler "
    "context callback recordio monitor operator name attribute model runtime engine test_utils"
).split()


def signatures_of(names):
    """``{name: [[parameter, default or None]]}``; a default as its repr if it is plain."""
    found = {}
    for space in [*WRITTEN, *CLASSES]:
        if space.startswith("nd."):
            continue
        home = CLASSES.get(space) or importlib.import_module(MODULES[space])
        for name, kind in names[space].items():
            value = getattr(home, name, None)
            target = value.__init__ if kind == "class" else value
            if kind not in ("class", "function", "method") or not inspect.isroutine(target):
                continue
            parameters = inspect.signature(target).parameters.values()
            plain = (int, float, str, bool, type(None), tuple)
            found[f"{space}.{name}"] = [
                [p.name, repr(p.default) if isinstance(p.default, plain) else None]
                for p in parameters
                if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("self", "cls")
            ]
    return found


if __name__ == "__main__":
    found = {space: names_of(importlib.import_module(name)) for space, name in MODULES.items()}
    found |= {name: methods_of(cls) for name, cls in CLASSES.items()}
    facts = {"version": mx.__version__, "names": found, "signatures": signatures_of(found)}
    text = json.dumps(facts, indent=0, sort_keys=True)
    (Path(sys.argv[1]) / "mxnet_names.json").write_text(text + "\n")
