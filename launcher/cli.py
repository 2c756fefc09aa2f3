# SPDX-License-Identifier: Apache-2.0
"""The command ``kvtrain``: parses, calls, prints, exits.

Nothing heavy is imported before a command needs it: ``kvtrain --help`` loads no NumPy.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from kvtrain import __version__
from kvtrain.config import Config
from kvtrain.errors import KVTrainError
from launcher import rundir, spec, worker
from launcher.checkpoint import checkpoint
from launcher.jobs import list_jobs, logs, status, stop
from launcher.spec import JobSpec

_CONTEXT = {"help_option_names": ["-h", "--help"]}
_PASS_ON = {**_CONTEXT, "ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="kvtrain")
def cli() -> None:
    """The parameter server for Python: start, watch and stop training jobs."""


for command in (checkpoint, list_jobs, logs, status, stop):
    cli.add_command(command)


def _job_options(function: Any) -> Any:
    """One option of the command line per field of JobSpec."""
    for field in reversed(spec.options()):
        names = [n for n in field.metadata["flags"] if n.startswith("-")]
        names = names or ["--" + field.name.replace("_", "-")]
        default = field.default
        extra: dict[str, Any] = {"help": field.metadata["help"], "default": None}
        if isinstance(default, bool):
            extra |= {"is_flag": True}
        elif isinstance(default, tuple):
            extra |= {"multiple": True}
        elif field.metadata["choices"]:
            extra["type"] = click.Choice(field.metadata["choices"])
        else:
            kind = {"int | None": int, "int": int, "float": float}.get(str(field.type), str)
            extra["type"] = kind
            if default is not None:
                extra["help"] += f" [default: {default}]"
        function = click.option(*names, field.name, **extra)(function)
    return function


@cli.command(context_settings=_PASS_ON)
@_job_options
@click.option("--config", "config", help="TOML file with a table [job] of these options.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def launch(command: tuple[str, ...], config: str | None, **given: Any) -> None:
    """Run a script as a job on this machine.

    COMMAND is a script that ends in .py, or a command; all that follows belongs to it.
    """
    from launcher import job

    held = spec.from_toml(config) if config else {}
    held |= {name: value for name, value in given.items() if value not in (None, ())}
    if held.get("transport", "auto") == "auto":
        held["transport"] = Config.from_environ().transport
    sys.exit(job.launch(JobSpec(command=command, **held)))


@cli.command(context_settings=_PASS_ON)
@click.option("--as-mxnet", is_flag=True, help="In the script, `import mxnet` gives kvtrain.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(command: tuple[str, ...], as_mxnet: bool) -> None:
    """Run a script in this process, without a job.

    COMMAND is a script that ends in .py, or a command; all that follows belongs to it. Inside a
    job: `kvtrain launch -n 4 kvtrain run --as-mxnet train.py`.
    """
    environment = dict(os.environ)
    sys.exit(
        worker.become(list(command), worker.as_mxnet(environment) if as_mxnet else environment)
    )


@cli.command(name="worker", context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_worker(arguments: tuple[str, ...]) -> None:
    """Join a job and run a script as one of its workers."""
    sys.exit(worker.main(list(arguments)))


def _role_options(function: Any) -> Any:
    function = click.option("--token-file", help="File with the job's token, mode 0600.")(function)
    return click.option("--rank", type=int, help="Rank wanted; any by default.")(function)


@cli.command(context_settings=_CONTEXT)
@click.option("--join", "address", required=True, help="Address of the scheduler.")
@click.option("--host", help="Address to listen at with tcp.")
@click.option("--import", "imports", multiple=True, help="Module to import first (repeatable).")
@_role_options
def server(
    address: str,
    host: str | None,
    imports: tuple[str, ...],
    rank: int | None,
    token_file: str | None,
) -> None:
    """Join a job as one of its servers."""
    worker.stay_with_launcher(os.environ.get("KVTRAIN_LIFELINE_FD"))
    if token_file is None and not os.environ.get("KVTRAIN_TOKEN_FILE"):
        found = rundir.token_of(address)
        token_file = None if found is None else str(found)
    roles = importlib.import_module("kvtrain.commands.roles")
    sys.exit(roles.server(address, host, imports, rank, token_file))


@cli.command(context_settings=_CONTEXT)
@click.option("--bind", "--join", "address", required=True, help="Address to listen at.")
@click.option("-n", "--workers", type=int, help="Number of workers of the job.")
@click.option("-s", "--servers", type=int, help="Number of servers of the job.")
@click.option("--token-file", help="File with the job's token, mode 0600.")
def scheduler(
    address: str, workers: int | None, servers: int | None, token_file: str | None
) -> None:
    """Be the scheduler of a job."""
    roles = importlib.import_module("kvtrain.commands.roles")
    sys.exit(roles.scheduler(address, workers, servers, token_file, rundir.remove))


@cli.command(context_settings=_CONTEXT)
@click.option("-n", "--workers", type=int, default=2, show_default=True, help="Workers.")
@click.option("-s", "--servers", type=int, help="Servers; as launch chooses by default.")
@click.option(
    "--sizes",
    default="1e3,1e6,resnet50",
    show_default=True,
    help="Numbers of elements of one key, or a model: mlp, resnet50, vgg16.",
)
@click.option("--params", help="A .params file, whose arrays are the keys of a further size.")
@click.option(
    "--transports", default="shm,ipc,tcp", show_default=True, help="Which of shm, ipc, tcp."
)
@click.option("--optimizer", default="none", show_default=True, help="On the servers; or none.")
@click.option("--rounds", type=int, default=7, show_default=True, help="Rounds that are timed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def bench(**options: Any) -> None:
    """Measure this machine and rounds of a job over each transport."""
    sys.exit(importlib.import_module("kvtrain.commands.bench").main(**options))


@cli.command(context_settings=_CONTEXT)
def doctor() -> None:
    """Show what this installation and machine can do."""
    importlib.import_module("kvtrain.commands.doctor").main()


def main(arguments: list[str] | None = None) -> None:
    """Entry point: our own errors are one line, never a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        cli.main(given, prog_name="kvtrain", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KVTrainError as error:
        click.echo(f"kvtrain: error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
