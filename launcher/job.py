# SPDX-License-Identifier: Apache-2.0
"""Runs one job: the plan, the supervisor and a backend put together."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from kvtrain import platform
from kvtrain.errors import ConfigError
from launcher import rundir
from launcher.backends import local
from launcher.backends.base import Backend, Caught, Control, Ended, Happening, Wrote
from launcher.logs import LIMIT, LogDirectory
from launcher.output import Output, Stream
from launcher.plan import Place, count, plan, process, scheduler_address
from launcher.spec import JobSpec, ProcessSpec
from launcher.supervisor import (
    Action,
    Event,
    Exited,
    Finish,
    Interrupted,
    Policy,
    Print,
    Signal,
    Start,
    Started,
    Supervisor,
    Tell,
    Tick,
    Told,
    Wanted,
    describe,
)

#: of a process that stands beside one of its rank, which hands over
MARK = "'"
#: longest sleep without a deadline
LONGEST = 5.0


class Job:
    """One job from the first process to the last."""

    def __init__(self, spec: JobSpec, backend: Backend, run_dir: Path, output: Output) -> None:
        self._spec = spec
        self._backend = backend
        self._run_dir = run_dir
        self._output = output
        self._supervisor = Supervisor(Policy(spec.replicas, spec.on_worker_loss))
        #: by label: what runs, or ran last, under it
        self._specs: dict[str, ProcessSpec] = {}
        self._pids: dict[str, int] = {}
        self._streams: dict[tuple[str, bool], Stream] = {}
        self._history = History()
        self._schedulers = 1
        #: label of a process that is to be started -> token of the one that it replaces
        self._replaces: dict[str, str] = {}
        self._waiting: list[ProcessSpec] = []
        self._place = Place(
            job=run_dir.name,
            run_dir=str(run_dir),
            token_file=str(rundir.mint_token(run_dir)),
            tokens=tuple(secrets.token_hex(8) for _ in range(count(spec))),
            cores=platform.cores(),
            tty=sys.stdout.isatty(),
            given=frozenset(os.environ),
            job_id=secrets.token_hex(8),
        )
        self._finish: Finish | None = None
        self._address = ""
        self._since = time.time()

    def run(self) -> int:
        """Start everything, watch it, return the job's exit code."""
        address = scheduler_address(self._spec, self._place)
        processes = plan(self._spec, self._place, address)
        self._start(processes[0])
        if self._spec.uses_tcp:
            self._waiting = processes  # their address is known once the scheduler is bound
        else:
            self._address = address
            for process_spec in processes[1:]:
                self._start(process_spec)
        self._describe()
        while self._finish is None:
            deadline = self._supervisor.deadline
            now = time.monotonic()
            wait = LONGEST if deadline is None else min(LONGEST, max(0.0, deadline - now))
            for happening in self._backend.happenings(wait):
                self._happened(happening)
            self._event(Tick())
        return self._conclude(self._finish)

    def _describe(self) -> None:
        rundir.describe(
            self._run_dir,
            job=self._place.job,
            command=list(self._spec.command),
            workers=self._spec.workers,
            servers=self._spec.server_count,
            replicas=self._spec.replicas,
            on_worker_loss=self._spec.on_worker_loss,
            address=self._address,
            since=self._since,
            processes=[
                {"label": label, "role": self._specs[label].role, "pid": pid}
                for label, pid in self._pids.items()
            ],
        )

    # ---- processes ------------------------------------------------------------------------

    def _start(self, spec: ProcessSpec) -> None:
        self._specs[spec.label] = spec
        pid = self._pids[spec.label] = self._backend.start(spec)
        for error, target in ((False, sys.stdout), (True, sys.stderr)):
            self._streams[spec.label, error] = Stream(self._output, spec.label, target, error)
        if spec.role == "scheduler":
            for line in self._history.lines():
                self._backend.tell(line)
        self._event(Started(spec.label, spec.role, pid))

    def _start_again(self, label: str) -> None:
        """In the place of a process that has ended; under another token."""
        role, _, number = label.partition("-")
        mark = MARK if number.endswith(MARK) else ""
        number = number.removesuffix(MARK)
        if role == "scheduler":
            self._schedulers += 1
        address = self._address or scheduler_address(self._spec, self._place)
        self._start(
            process(
                self._spec,
                self._place,
                address,
                role,
                int(number or 0),
                secrets.token_hex(8),
                self._schedulers,
                again=True,
                mark=mark,
            )
        )
        self._describe()

    def _happened(self, happening: Happening) -> None:
        match happening:
            case Wrote(label, error, data):
                stream = self._streams[label, error]
                if data:
                    stream.feed(data)
                else:
                    stream.close()
            case Ended(label, status):
                self._event(Exited(label, status))
            case Caught(number):
                self._event(Interrupted(number))
            case Control(line):
                self._control(json.loads(line))

    def _control(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "bound":
                self._bound(said["address"])
            case "start":
                label = f"{said['role']}-{said['rank']}"
                if said.get("beside") and self._backend.lives(label):
                    label += MARK
                if self._is_stale(label, said["replaces"]):
                    return
                self._replaces[label] = said["replaces"]
                self._event(Wanted(label))
            case event:
                self._event(Told(event, said.get("text", "")))

    def _is_stale(self, label: str, replaces: str) -> bool:
        """Asked for again by a scheduler that does not know that it was started already."""
        held = self._specs.get(label)
        return held is not None and held.token != replaces and self._backend.lives(label)

    def _bound(self, address: str) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._address = address
            for process_spec in plan(self._spec, self._place, address)[1:]:
                self._start(process_spec)
            self._describe()

    # ---- the supervisor's actions ---------------------------------------------------------

    def _event(self, event: Event) -> None:
        for action in self._supervisor.on(event, time.monotonic()):
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Tell(event, label, status, text):
                line: dict[str, Any] = {"event": event, "status": status, "reason": text}
                if label:
                    spec = self._specs[label]
                    line |= {"role": spec.role, "rank": spec.rank, "token": spec.token}
                    line |= {"pid": self._pids[label], "host": platform.host_name()}
                    if event == "started":
                        line["replaces"] = self._replaces.pop(label, "")
                encoded = json.dumps(line).encode()
                if label:
                    self._history.add(event, self._specs[label], encoded)
                self._backend.tell(encoded)
            case Start(label):
                self._start_again(label)
            case Signal(label, number):
                self._backend.signal(label, number)
            case Print(text):
                self._output.say(sys.stderr, text)
            case Finish():
                self._finish = action

    def _conclude(self, finish: Finish) -> int:
        """The first failure is shown last, where it is seen."""
        if finish.code:
            lines = self._output.traceback(finish.blame) if finish.blame else []
            self._output.say(sys.stderr, f"the job has failed: {finish.reason}")
            for line in lines:
                self._output.line(finish.blame, sys.stderr, line)
        return finish.code


class History:
    """What a scheduler was told of processes, to be repeated to its successor."""

    #: ended processes that are remembered
    KEPT = 100

    def __init__(self) -> None:
        self._told: dict[str, list[bytes]] = {}
        self._ended: list[str] = []

    def add(self, event: str, spec: ProcessSpec, line: bytes) -> None:
        """Remember a start or an end."""
        if spec.role == "scheduler":
            return
        self._told.setdefault(spec.token, []).append(line)
        if event == "exited":
            self._ended.append(spec.token)
            if len(self._ended) > self.KEPT:
                del self._told[self._ended.pop(0)]

    def lines(self) -> list[bytes]:
        """Everything, in the order of the starts."""
        return [line for lines in self._told.values() for line in lines]


def launch(spec: JobSpec) -> int:
    """Run a job on this machine; returns its exit code."""
    output = Output(max(len("scheduler"), len(f"worker-{spec.workers - 1}")), sys.stdout.isatty())
    if spec.log_dir is not None:
        log_dir = Path(spec.log_dir)
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--log-dir {spec.log_dir}: {error.strerror}") from None
        output.logs.append(LogDirectory(log_dir))
    backend = local.LocalBackend()
    run_dir: Path | None = None
    try:
        run_dir = rundir.create(spec.name, spec.command[0])
        output.logs.append(LogDirectory(run_dir / "logs", LIMIT))
        return Job(spec, backend, run_dir, output).run()
    finally:
        backend.close()
        output.close()
        if run_dir is not None:
            rundir.remove(run_dir)


__all__ = ["Job", "describe", "launch"]
