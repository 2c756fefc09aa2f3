# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, what pure code may not touch, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "kvtrain").rglob("*.py"), *(ROOT / "launcher").rglob("*.py")])

#: longest matching prefix wins: module -> prefixes of our own modules that it may import
BASE = (
    "kvtrain.errors",
    "kvtrain.registry",
    "kvtrain.config",
    "kvtrain.platform",
    "kvtrain._version",
)
ENGINE = (*BASE, "kvtrain.context", "kvtrain.generators", "kvtrain.kernels", "kvtrain.ops")
TAPE = (*ENGINE, "kvtrain.autograd.tape")
ARRAYS = (*TAPE, "kvtrain.ndarray")
MODELS = (
    *ARRAYS,
    "kvtrain.lr_scheduler",
    "kvtrain.optimizer",
    "kvtrain.initializer",
    "kvtrain.metric",
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "kvtrain": ("kvtrain._version", "kvtrain.config"),
    "kvtrain.__main__": ("launcher",),
    "kvtrain._version": (),
    "kvtrain.errors": (),
    "kvtrain.platform": (),
    "kvtrain.registry": ("kvtrain.errors",),
    "kvtrain.config": ("kvtrain.errors", "kvtrain.platform"),
    "kvtrain.context": BASE,
    "kvtrain.logf": (),
    "kvtrain.generators": (*BASE, "kvtrain.context", "kvtrain.generators", "kvtrain.logf"),
    "kvtrain.random": ARRAYS,
    "kvtrain.kernels": (*BASE, "kvtrain.kernels"),
    "kvtrain.compression": (*BASE, "kvtrain.kernels", "kvtrain.compression"),
    "kvtrain.ops": (*BASE, "kvtrain.ops"),
    "kvtrain.autograd": (),
    "kvtrain.autograd.tape": ENGINE,
    "kvtrain.autograd.api": ARRAYS,
    "kvtrain.autograd.function": (*ARRAYS, "kvtrain.autograd.api"),
    "kvtrain.ndarray": ARRAYS,
    "kvtrain.lr_scheduler": ("kvtrain.registry",),
    "kvtrain.optimizer": (*ARRAYS, "kvtrain.lr_scheduler", "kvtrain.optimizer"),
    "kvtrain.initializer": (*ARRAYS, "kvtrain.initializer"),
    "kvtrain.operator": ARRAYS,
    "kvtrain.metric": (*ARRAYS, "kvtrain.metric"),
    "kvtrain.recordio": ("kvtrain.errors",),
    "kvtrain.image": (*ARRAYS, "kvtrain.recordio", "kvtrain.image"),
    "kvtrain.alias": ("kvtrain.errors",),
    "kvtrain.aliases": (),
    "kvtrain.attribute": (),
    "kvtrain.base": BASE,
    "kvtrain.callback": ("kvtrain.model",),
    "kvtrain.contrib": (*ARRAYS, "kvtrain.registry", "kvtrain.contrib"),
    "kvtrain.engine": (),
    "kvtrain.model": ARRAYS,
    "kvtrain.monitor": ARRAYS,
    "kvtrain.name": (),
    "kvtrain.runtime": ("kvtrain.kernels",),
    "kvtrain.test_utils": (*ARRAYS, "kvtrain.test_utils"),
    "kvtrain.util": (*BASE, "kvtrain.context"),
    "kvtrain.ps.core": ("kvtrain.errors", "kvtrain._version", "kvtrain.ps.core"),
    "kvtrain.ps.core.codecs": ("kvtrain.errors", "kvtrain.compression", "kvtrain.ps.core"),
    "kvtrain.ps.core.posting": ("kvtrain.errors", "kvtrain.compression", "kvtrain.ps.core"),
    "kvtrain.ps.core.folding": ("kvtrain.errors", "kvtrain.kernels", "kvtrain.ps.core"),
    "kvtrain.ps.core.row_arithmetic": ("kvtrain.errors", "kvtrain.kernels", "kvtrain.ps.core"),
    "kvtrain.ps.core.row_table": ("kvtrain.errors", "kvtrain.kernels", "kvtrain.ps.core"),
    "kvtrain.ps.core.rows": ("kvtrain.errors", "kvtrain.kernels", "kvtrain.ps.core"),
    "kvtrain.ps.core.store": ("kvtrain.errors", "kvtrain.kernels", "kvtrain.ps.core"),
    "kvtrain.checkpoint": (*ARRAYS, "kvtrain.ps.core", "kvtrain.checkpoint"),
    "kvtrain.ps.net": (*BASE, "kvtrain.checkpoint", "kvtrain.kernels", "kvtrain.ps"),
    "kvtrain.kvstore": (
        *MODELS,
        "kvtrain.compression",
        "kvtrain.ps",
        "kvtrain.checkpoint",
        "kvtrain.kvstore",
    ),
    "kvtrain.gluon": (
        *MODELS,
        "kvtrain.name",
        "kvtrain.autograd",
        "kvtrain.kvstore",
        "kvtrain.image",
        "kvtrain.recordio",
        "kvtrain.gluon",
    ),
    "kvtrain.commands.bench_worker": (*MODELS, "kvtrain.commands", "kvtrain.kvstore"),
    "kvtrain.commands": (
        "kvtrain.commands",
        *MODELS,
        "kvtrain.ps",
        "kvtrain.checkpoint",
        "kvtrain.commands",
    ),
    "kvtrain.testing": ("kvtrain",),
    "launcher": (*BASE, "launcher"),
}
PURE = ("time", "random", "os", "socket", "threading", "zmq", "subprocess", "asyncio")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found |= {
                f"{node.module}.{a.name}" if _is_module(node.module, a.name) else node.module
                for a in node.names
            }
    return found


def _is_module(package: str, name: str) -> bool:
    base = ROOT.joinpath(*package.split("."))
    return (base / f"{name}.py").exists() or (base / name / "__init__.py").exists()


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


def rule(module: str) -> tuple[str, ...]:
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in ALLOWED:
            return ALLOWED[".".join(parts[:n])]
    raise AssertionError(f"no rule for {module}")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports(path: Path) -> None:
    module = name_of(path)
    for used in imports(path):
        if within(used, ("kvtrain", "launcher")):
            # the package itself is only asked for its version and lazy names
            allowed = (*rule(module), module)
            assert used == "kvtrain" or within(used, allowed), f"{module} imports {used}"
        elif within(module, ("kvtrain.ps.core",)):
            assert used.split(".")[0] not in PURE, f"{module} imports {used}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_print_no_pickle_and_an_spdx_line(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exec", "eval"), f"{path}:{node.lineno}"
    assert "pickle" not in {used.split(".")[0] for used in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 450, f"{lines} lines"


def test_only_config_reads_the_environment_and_only_platform_calls_the_platform() -> None:
    for path in FILES:
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        if name not in ("kvtrain/config.py", "launcher/worker.py", "launcher/cli.py") and not (
            name.startswith("launcher/")
        ):
            assert "os.environ" not in text, name
        if name != "kvtrain/platform.py":
            assert "ctypes.CDLL" not in text and "prctl" not in text, name


def test_no_import_cycles() -> None:
    graph = {
        name_of(p): {u for u in imports(p) if within(u, ("kvtrain", "launcher"))} for p in FILES
    }
    done: set[str] = set()

    def visit(module: str, road: tuple[str, ...]) -> None:
        assert module not in road, " -> ".join([*road[road.index(module) :], module])
        if module in done or module not in graph:
            return
        for used in graph[module] - {module, "kvtrain"}:
            visit(used, (*road, module))
        done.add(module)

    for module in graph:
        visit(module, ())
