# SPDX-License-Identifier: Apache-2.0
"""``kvtrain worker``: becomes the user's script or command, in the same process.

Kept free of imports that cost time: every worker of every job passes through here.
"""

from __future__ import annotations

import os
import select
import signal
import sys

import kvtrain
from kvtrain import platform
from launcher import rundir

USAGE = "usage: kvtrain worker --join ADDRESS [--rank N] [--token-file FILE] [--] script.py ..."


def main(arguments: list[str]) -> int:
    """Parse, set the environment, and replace this process; returns only on bad usage."""
    options = {
        "--join": "KVTRAIN_SCHEDULER",
        "--rank": "KVTRAIN_RANK",
        "--token-file": "KVTRAIN_TOKEN_FILE",
    }
    environment = dict(os.environ)
    environment["KVTRAIN_ROLE"] = "worker"
    rest = list(arguments)
    while rest and rest[0] != "--":
        name, _, value = rest[0].partition("=")
        if name in ("-h", "--help"):
            sys.stdout.write(
                f"{USAGE}\n\nJoins a job, which may be running, and runs the script as one of its "
                "workers.\n"
                "ADDRESS is the scheduler's, or the name of a job of this machine.\n"
            )
            return 0
        if name not in options:
            break
        rest.pop(0)
        if not value:
            if not rest:
                sys.stderr.write(f"kvtrain: {name} needs a value\n{USAGE}\n")
                return 2
            value = rest.pop(0)
        environment[options[name]] = value
    if rest and rest[0] == "--":
        rest.pop(0)
    if not rest or not environment.get("KVTRAIN_SCHEDULER"):
        missing = "no script was given" if not rest else "--join ADDRESS is missing"
        sys.stderr.write(f"kvtrain: {missing}\n{USAGE}\n")
        return 2
    address = environment["KVTRAIN_SCHEDULER"]
    if "://" not in address:
        named = rundir.address_of(address)
        if not named:
            sys.stderr.write(
                f"kvtrain: --join {address}: neither an address (tcp://HOST:PORT, ipc:///PATH) nor "
                "the name of a job that runs here (see kvtrain ps)\n"
            )
            return 2
        environment["KVTRAIN_SCHEDULER"] = named
    stay_with_launcher(environment.get("KVTRAIN_LIFELINE_FD"))
    if not environment.get("KVTRAIN_LAUNCH_TOKEN"):
        environment.setdefault("KVTRAIN_RESUMED", "1")  # the job may be running already
    if not environment.get("KVTRAIN_TOKEN_FILE"):
        token_file = rundir.token_of(environment["KVTRAIN_SCHEDULER"])
        if token_file is not None:
            environment["KVTRAIN_TOKEN_FILE"] = str(token_file)
    return become(rest, environment)


def become(rest: list[str], environment: dict[str, str]) -> int:
    """Replace this process by a script or command; returns only if that cannot be run."""
    command = [sys.executable, *rest] if rest[0].endswith(".py") else rest
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        sys.stderr.write(f"kvtrain: cannot run {command[0]!r}: {error.strerror}\n")
        return 127


def as_mxnet(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which ``import mxnet`` gives kvtrain, in child processes too."""
    folder = os.path.join(os.path.dirname(kvtrain.__file__), "aliases")
    path = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{path}" if path else folder}


def stay_with_launcher(lifeline: str | None) -> None:
    """Die with the launcher: by the kernel's signal, or now if it is dead already."""
    if not lifeline:
        return

    platform.die_with_parent(signal.SIGKILL)
    descriptor = int(lifeline)
    os.set_inheritable(descriptor, True)
    readable, _, _ = select.select([descriptor], [], [], 0)
    if readable:
        os.kill(os.getpid(), signal.SIGKILL)
