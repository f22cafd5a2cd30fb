"""Starts, watches, disturbs and ends the processes of a cluster on this machine.

One implementation for `objstore up`, `objstore demo` and `LocalCluster`. Every member is a process of its own
(`python -m objstore serve ...`) that says on stdout, in one JSON line, that it is ready and where; its stderr
goes to a log file. Not here: what the cluster is made of (`launch`), the protocol, any asyncio.

Invariants: a member dies with the supervisor, however that ends. A member that ended stays ended until
somebody starts it: this is the tool one kills nodes with, so it must not heal them behind one's back.
Every change is in state.json before the caller hears of it, unless the disk is full.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from objstore.local.folder import Folder, MemberState, State, is_alive, process_ticks
from objstore.model.errors import InvalidRequest, ObjstoreError

LOG_TAIL_LINES = 20
LOG_BYTES_MAX = 16 << 20  # a log larger than this at a start is moved aside (one old one is kept)
STOP_TIMEOUT_S = 8.0
_TICK_S = 0.02
_CHECK_BYTES_PER_S = 8 << 20  # of a slow disk that other processes read too

Report = Callable[[MemberState, str], None]  # a member and what just happened to it


class StartFailed(ObjstoreError):
    """A process ended, or said nothing, before it was ready. The text has the last lines of its log."""


class ReadyLine(msgspec.Struct):
    """What `objstore serve` prints once it serves. It may say more."""

    address: str


@dataclass(frozen=True, slots=True)
class Member:
    """How to run one process."""

    name: str
    role: str
    listen: str = "127.0.0.1:0"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Process:
    member: Member
    state: MemberState
    child: subprocess.Popen[bytes] | None = None
    line: bytes = b""  # of stdout, until it is whole
    expected: bool = False  # its end was asked for
    started: float = 0.0


class Supervisor:
    """Thread-safe: each public method holds one lock, except while it waits for a process."""

    def __init__(self, folder: Folder, state: State, *, report: Report, start_timeout_s: float) -> None:
        self._folder = folder
        self._state = state
        self._report = report
        self._start_timeout_s = start_timeout_s
        self._processes: dict[str, _Process] = {}
        self._lock = threading.RLock()
        self._environment: dict[str, str] = {}
        self._unsaved = False

    @property
    def state(self) -> State:
        return self._state

    def listen(self, report: Report) -> None:
        """From now on `report` hears what happens, instead of the one before."""
        self._report = report

    def share(self, environment: Mapping[str, str]) -> None:
        """Environment for every member started from now on."""
        self._environment.update(environment)

    def start_all(self, members: Iterable[Member]) -> None:
        """Start them at once and wait until each is ready; StartFailed names the first that is not."""
        with self._lock:
            fresh = [self._add(member) for member in members]
            for process in fresh:
                self._spawn(process)
            self._save()
        self._wait_ready(fresh)

    def act(self, action: str, name: str) -> str:
        """Carry out one of ACTIONS on a member. Returns one sentence on what was done."""
        if action not in ACTIONS:
            raise InvalidRequest(f"{action!r} is not one of {', '.join(ACTIONS)}")
        process = self._find(name)
        with self._lock:
            self._reap(process)
            text = ACTIONS[action](self, process)
            self._save()
        if process.state.condition == "starting":
            self._wait_ready([process])
            text += f" at {process.state.address}" if process.state.address else ""
        return text

    def forget(self, name: str) -> None:
        """End a member and have nothing to do with it any more."""
        process = self._find(name)
        with self._lock:
            if process.child is not None:
                self._stop(process)
            del self._processes[name]
            self._state.members.remove(process.state)
            self._save()

    def poll(self) -> None:
        """Notice members that ended. Call it often; `report` hears of each end that nobody asked for."""
        with self._lock:
            if any([self._reap(process) for process in self._processes.values()]) or self._unsaved:
                self._save()

    def close(self, *, force: bool = False) -> None:
        """End all members: gateways first, the coordinator last; what does not end in time is killed."""
        with self._lock:
            self._state.phase = "stopping"
            self._save()
            deadline = time.monotonic() + (0.0 if force else STOP_TIMEOUT_S)
            for role in ("gateway", "repairer", "node", "coordinator"):
                group = [p for p in self._processes.values() if p.state.role == role and p.child is not None]
                for process in group:
                    process.expected = True
                    self._signal(process, signal.SIGKILL if force else signal.SIGTERM)
                    self._signal(process, signal.SIGCONT)  # a paused process hears SIGTERM only then
                while any(_is_running(p) for p in group) and time.monotonic() < deadline:
                    time.sleep(_TICK_S)
                for process in group:
                    self._end(process)
            self._save()

    # --- actions ------------------------------------------------------------------------------------------

    def _kill(self, process: _Process) -> str:
        pid = self._need_running(process)
        self._end(process)
        return f"{process.state.name} killed (SIGKILL, pid {pid})"

    def _stop(self, process: _Process) -> str:
        pid = self._need_running(process)
        process.expected = True
        self._signal(process, signal.SIGTERM)
        self._signal(process, signal.SIGCONT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_running(process) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        in_time = not _is_running(process)
        self._end(process)
        return f"{process.state.name} stopped (SIGTERM, pid {pid})" + ("" if in_time else "; it had to be killed")

    def _pause(self, process: _Process) -> str:
        pid = self._need_running(process)
        self._signal(process, signal.SIGSTOP)
        process.state.condition = "paused"
        return f"{process.state.name} paused (SIGSTOP, pid {pid})"

    def _resume(self, process: _Process) -> str:
        pid = self._need_running(process)
        self._signal(process, signal.SIGCONT)
        process.state.condition = "ready"
        return f"{process.state.name} resumed (SIGCONT, pid {pid})"

    def _start(self, process: _Process) -> str:
        if process.child is not None:
            raise InvalidRequest(
                f"{process.state.name} already runs (pid {process.child.pid}); to start it anew: restart"
            )
        data = ""  # gateways and repairers have none
        if self._folder.data_of(process.state.name).exists():
            data = " with its old data"
        elif process.state.role == "node":
            data = " as a new, empty node"
        process.state.restarts += 1
        self._spawn(process)
        return f"{process.state.name} started{data} (pid {process.state.pid})"

    def _restart(self, process: _Process) -> str:
        if process.child is not None:
            self._stop(process)
        return self._start(process)

    def _wipe(self, process: _Process) -> str:
        name = process.state.name
        if process.state.role != "node":
            raise InvalidRequest(f"{name} is a {process.state.role}: only the data of a node can be wiped")
        if process.child is not None:
            self._end(process)
        shutil.rmtree(self._folder.data_of(name), ignore_errors=True)
        return f"{name} killed and its data erased; started again it is a new, empty node"

    # --- processes ----------------------------------------------------------------------------------------

    def _find(self, name: str) -> _Process:
        process = self._processes.get(name)
        if process is None:
            raise InvalidRequest(f"there is no {name!r} here; there are {', '.join(self._processes)}")
        return process

    def _need_running(self, process: _Process) -> int:
        if process.child is None:
            raise InvalidRequest(f"{process.state.name} is not running; start it with: start {process.state.name}")
        return process.child.pid

    def _add(self, member: Member) -> _Process:
        assert member.name not in self._processes
        process = _Process(member, MemberState(member.name, member.role))
        self._processes[member.name] = process
        self._state.members.append(process.state)
        return process

    def _spawn(self, process: _Process) -> None:
        member, state = process.member, process.state
        # The others know these two by their address; a node publishes its new one with its lease.
        listen = state.address if state.address and member.role in ("coordinator", "gateway") else member.listen
        log = self._folder.log_of(member.name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as stderr:
            process.child = subprocess.Popen(
                [sys.executable, "-P", "-m", "objstore", "serve", "--role", member.role, "--name", member.name,
                 "--config", str(self._folder.config), "--data", str(self._folder.data_of(member.name)),
                 "--listen", listen, "--die-with-parent", str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, cwd=self._folder.path,
                env=_environment({**self._environment, **member.environment}),
                process_group=0,  # Ctrl-C in a terminal reaches the supervisor alone, which ends them in order
            )  # fmt: skip
        assert process.child.stdout is not None
        os.set_blocking(process.child.stdout.fileno(), False)
        process.line = b""
        process.expected = False
        process.started = time.monotonic()
        state.pid = process.child.pid
        state.ticks = process_ticks(state.pid)
        state.condition = "starting"
        self._report(state, f"starting (pid {state.pid})")

    def _wait_ready(self, processes: list[_Process]) -> None:
        waiting = list(processes)
        timeout_s = self._start_timeout_s + sum(map(self._checking_s, processes))
        deadline = time.monotonic() + timeout_s
        while waiting:
            with self._lock:
                for process in list(waiting):
                    if self._hear(process):
                        waiting.remove(process)
                        self._save()
            if waiting and time.monotonic() > deadline:
                names = ", ".join(p.state.name for p in waiting)
                raise StartFailed(
                    f"{names} did not become ready within {timeout_s:.0f} s\n{self.tail(waiting[0].state.name)}"
                )
            if waiting:
                time.sleep(_TICK_S)

    def _checking_s(self, process: _Process) -> float:
        """What its disk may need: a process reads all of its index before it is ready."""
        stores = self._folder.data_of(process.state.name).glob("*/data.mdb")
        return sum(store.stat().st_size for store in stores) / _CHECK_BYTES_PER_S

    def _hear(self, process: _Process) -> bool:
        """Whether the process has said that it is ready; StartFailed if it ended instead."""
        state, child = process.state, process.child
        if child is None:
            raise StartFailed(f"{state.name} was ended before it was ready")
        assert child.stdout is not None
        process.line += child.stdout.read() or b""
        if b"\n" not in process.line:
            if child.poll() is None:
                return False
            code = child.returncode
            self._end(process)
            self._save()
            raise StartFailed(f"{state.name} {_ended(code)} before it was ready\n{self.tail(state.name)}")
        try:
            state.address = msgspec.json.decode(process.line.partition(b"\n")[0], type=ReadyLine).address
        except msgspec.MsgspecError as error:
            raise StartFailed(
                f"{state.name} printed {process.line[:200]!r} instead of its ready line: {error}"
            ) from None
        state.condition = "ready"
        where = f" at {state.address}" if state.address else ""
        self._report(state, f"ready in {time.monotonic() - process.started:.1f} s{where}")
        return True

    def _reap(self, process: _Process) -> bool:
        """Whether the process turned out to have ended."""
        child = process.child
        if child is None:
            return False
        if child.poll() is None:
            if process.state.condition != "starting":
                assert child.stdout is not None
                child.stdout.read()  # whatever else it says there must not fill the pipe
            return False
        expected = process.expected
        self._end(process)
        if not expected:
            self._report(process.state, _ended(child.returncode))
        return True

    def _end(self, process: _Process) -> None:
        """Gone for certain on return."""
        child = process.child
        if child is None:
            return
        process.expected = True
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
        process.child = None
        process.state.pid = process.state.ticks = 0
        process.state.condition = "ended"

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        assert process.child is not None
        with contextlib.suppress(ProcessLookupError):
            process.child.send_signal(number)

    def _save(self) -> None:
        """The file only tells others what runs: a full disk must not end what it tells of. `poll` tries again."""
        try:
            self._folder.write_state(self._state)
            self._unsaved = False
        except OSError:
            self._unsaved = True

    def tail(self, name: str) -> str:
        """The last lines that a member logged, for a person."""
        path = self._folder.log_of(name)
        lines = _last_lines(path)
        if not lines:
            return f"  ({path} is empty)"
        return "\n".join([f"  last lines of {path}:", *(f"    {line}" for line in lines)])


ACTIONS: Mapping[str, Callable[[Supervisor, _Process], str]] = {
    "kill": Supervisor._kill,
    "stop": Supervisor._stop,
    "pause": Supervisor._pause,
    "resume": Supervisor._resume,
    "start": Supervisor._start,
    "restart": Supervisor._restart,
    "wipe": Supervisor._wipe,
}


def end_leftovers(folder: Folder, *, patience_s: float = 2.0) -> list[str]:
    """Members of an earlier run whose supervisor is gone: give them a moment to follow it, then kill them.

    Returns the names of those that had to be killed. Needs the folder's lock."""
    state = folder.read_state()
    if state is None:
        return []
    deadline = time.monotonic() + patience_s
    alive = state.members
    while alive := [m for m in alive if is_alive(m.pid, m.ticks)]:
        if time.monotonic() > deadline:
            break
        time.sleep(_TICK_S)
    for member in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    while any(is_alive(m.pid, m.ticks) for m in alive):
        time.sleep(_TICK_S)
    return [m.name for m in alive]


def _is_running(process: _Process) -> bool:
    return process.child is not None and process.child.poll() is None


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """That of this process without settings for other clusters, able to import this very objstore."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("OBJSTORE_")}
    root = str(Path(__file__).resolve().parents[2])
    own["PYTHONPATH"] = os.pathsep.join(filter(None, (root, own.get("PYTHONPATH"))))
    own["PYTHONUNBUFFERED"] = "1"
    return {**own, **extra}


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            return file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except FileNotFoundError:
        return []
