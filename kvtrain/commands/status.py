# SPDX-License-Identifier: Apache-2.0
"""``kvtrain status``: asks a running job's scheduler and puts the answer into words."""

from __future__ import annotations

from typing import Any

from kvtrain.config import Config
from kvtrain.ps.net.asking import ask_status
from kvtrain.ps.net.token import read_token


def ask(address: str, token_file: str) -> dict[str, Any]:
    """The state of the job; raises KVTrainError if the scheduler does not answer."""
    return ask_status(address, read_token(Config(token_file=token_file)))


def describe(state: dict[str, Any], processes: list[dict[str, Any]]) -> list[str]:
    """Lines for a terminal: the job, its nodes, what waits, processes that are not in it."""
    if "phase" not in state:
        lines = [f"the scheduler does not answer: {state.get('error', 'no reason known')}"]
        return lines + [_process(p) for p in processes]
    lines = [
        f"{state['phase']}, epoch {'.'.join(map(str, state['epoch']))}, {state['replicas']} "
        f"replicas, on worker loss: {state['on_worker_loss']}"
    ]
    if state["failure"]:
        lines.append(f"failed: {state['failure']}")
    lines += [_node(node) for node in state["nodes"]]
    pids = {node["pid"] for node in state["nodes"]}
    lines += [_process(p) for p in processes if p["pid"] not in pids]
    lines += [f"missing: {text}" for text in state["missing"]]
    for wait in state["waits"]:
        line = f"waits: {wait['what']}"
        if wait["for"]:
            line += f" waits {wait['seconds']:.1f} s for {', '.join(wait['for'])}"
        lines.append(line)
    return lines


def _node(node: dict[str, Any]) -> str:
    name = f"{node['role']}-{node['rank']}"
    parts = [
        f"host {node['host']}",
        f"pid {node['pid']}",
        f"last seen {node['last_seen']:.1f} s ago",
    ]
    if node["incarnation"] > 1:
        parts.append(f"incarnation {node['incarnation']}")
    for store, step in node["steps"].items():
        parts.append(f"step {step}" if len(node["steps"]) == 1 else f"step {step} of store {store}")
    if any(node.get("from_steps", {}).values()):
        parts.append(f"joined at step {max(node['from_steps'].values())}")
    if "primary_of" in node:
        parts.append(f"primary of {node['primary_of']} shards")
        for kind in ("backup", "learner"):
            if node[f"{kind}_of"]:
                parts.append(f"{kind} of {node[f'{kind}_of']}")
    if node["last"] and node["role"] == "worker":
        parts.append(node["last"])
    return f"  {name:<12} {node['state']:<8} " + ", ".join(parts)


def _process(process: dict[str, Any]) -> str:
    return f"  {process['label']:<12} {process['state']:<8} pid {process['pid']}"
