# SPDX-License-Identifier: Apache-2.0
"""``import mxnet`` gives kvtrain, where that was asked for."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import kvtrain
from kvtrain import alias

ROOT = Path(__file__).resolve().parents[2]
#: as somebody else's module has it
THEIRS = """
import mxnet as mx
import mxnet.ndarray as F
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from mxnet.gluon.data import ArrayDataset, DataLoader
from mxnet.gluon.nn import HybridSequential
from mxnet.base import MXNetError
from mxnet.contrib import nd as contrib
from mxnet.initializer import Xavier
from mxnet.ndarray.ndarray import NDArray
from mxnet.optimizer.optimizer import SGD
import mxnet.gluon.rnn.rnn_cell as cells

def train():
    mx.random.seed(1)
    net = nn.Dense(1, in_units=2)
    net.initialize(Xavier())
    data = DataLoader(ArrayDataset(nd.ones((8, 2)), nd.ones((8, 1))), batch_size=4)
    trainer = gluon.Trainer(net.collect_params(), SGD(learning_rate=0.1))
    for _ in range(20):
        for x, y in data:
            with autograd.record():
                loss = gluon.loss.L2Loss()(net(x), y)
            loss.backward()
            trainer.step(4)
    return float(loss.mean().asscalar())
"""


@pytest.fixture
def installed() -> Iterator[ModuleType]:
    assert "mxnet" not in sys.modules
    try:
        yield kvtrain.install_as_mxnet()
    finally:
        alias.uninstall()


def test_modules_and_names_are_ours(installed: ModuleType, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = importlib.import_module("theirs")
    try:
        assert theirs.train() < 1e-3
        assert theirs.nn is kvtrain.gluon.nn and theirs.F is kvtrain.nd
        assert theirs.MXNetError is kvtrain.MXNetError
        assert theirs.mx is installed is kvtrain.install_as_mxnet()
        assert theirs.mx.__version__ == "1.9.1" != kvtrain.__version__
        assert theirs.mx.nd.ones is kvtrain.nd.ones and "gluon" in dir(theirs.mx)
        assert pickle.loads(pickle.dumps(theirs.SGD)) is kvtrain.optimizer.SGD
    finally:
        del sys.modules["theirs"]
    alias.uninstall()
    assert not hasattr(kvtrain.nd, "ndarray")  # nothing is left of the import
    # their modules keep the identity that they have here
    assert kvtrain.gluon.nn.__spec__ is not None
    assert kvtrain.gluon.nn.__spec__.name == "kvtrain.gluon.nn"
    assert kvtrain.gluon.nn.__name__ == "kvtrain.gluon.nn"


def test_what_is_not_there_says_so(installed: ModuleType) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'mxnet\.gluon\.nosuch'"):
        importlib.import_module("mxnet.gluon.nosuch")
    with pytest.raises(AttributeError, match="'mxnet' has no attribute 'nosuch'"):
        _ = installed.nosuch
    with pytest.raises(ImportError):
        exec("from mxnet import nosuch")


def test_nothing_happens_unasked_and_never_over_another_one() -> None:
    assert "mxnet" not in sys.modules
    sys.modules["mxnet"] = other = ModuleType("mxnet")
    try:
        with pytest.raises(kvtrain.errors.ConfigError, match="another mxnet is imported already"):
            kvtrain.install_as_mxnet()
        alias.uninstall()
        assert sys.modules["mxnet"] is other
    finally:
        del sys.modules["mxnet"]


def test_run_as_mxnet_with_arguments_children_and_exit_status(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import mxnet as mx\n"
        "from mxnet import nd\n"
        "def child(queue):\n"
        "    queue.put(float(nd.ones((3,)).sum().asscalar()))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=child, args=(queue,))\n"
        "    process.start()\n"
        "    print(mx.__version__, sys.argv[1:], queue.get(), flush=True)\n"
        "    process.join()\n"
        "    sys.exit(3)\n"
    )
    command = [sys.executable, "-m", "kvtrain", "run", "--as-mxnet", str(script), "-n", "4"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "1.9.1 ['-n', '4'] 3.0\n"), done.stderr
    plain = [sys.executable, "-m", "kvtrain", "run", "nosuchcommand"]
    done = subprocess.run(plain, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 127 and "cannot run 'nosuchcommand'" in done.stderr
