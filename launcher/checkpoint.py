# SPDX-License-Identifier: Apache-2.0
"""The group ``kvtrain checkpoint``."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click


@click.group(name="checkpoint", context_settings={"help_option_names": ["-h", "--help"]})
def checkpoint() -> None:
    """Look at checkpoints, check them, take the weights out.

    DIRECTORY is a job's checkpoint directory; a single checkpoint-N.json in it is taken too.
    """


def _commands() -> Any:
    return importlib.import_module("kvtrain.commands.checkpoint")


@checkpoint.command(name="list")
@click.argument("directory")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(directory: str, as_json: bool) -> None:
    """List checkpoints, oldest first."""
    sys.exit(_commands().list_(directory, as_json))


@checkpoint.command()
@click.argument("directory")
@click.option("--json", "as_json", is_flag=True, help="The manifest itself.")
def inspect(directory: str, as_json: bool) -> None:
    """Show keys, optimizer and cut of the newest one."""
    sys.exit(_commands().inspect(directory, as_json))


@checkpoint.command()
@click.argument("directory")
def verify(directory: str) -> None:
    """Read every byte; the exit status is 1 if anything is damaged."""
    sys.exit(_commands().verify(directory))


@checkpoint.command()
@click.argument("directory")
@click.argument("target")
@click.option("--store", default=0, show_default=True, help="Which kv.create of the script.")
def export(directory: str, target: str, store: int) -> None:
    """Write the weights to TARGET, a .params or .safetensors file."""
    sys.exit(_commands().export_(directory, target, store))
