"""The data folder of a cluster on this machine: what is in it, who runs it now, and how it is found.

    cluster.toml     configuration and secrets that every process reads; written once, yours to edit
    encryption.keys  the keys that objects are encrypted under; made once, yours to add to
    shape.json       nodes, erasure code and zones: fixed by the first start; port, gateways, repairers of the last
    state.json       the running cluster: pids, addresses, ports, keys; rewritten on every change
    lock             held (flock) by the supervisor for as long as it lives, so a kill -9 releases it
    commands/        requests of `objstore chaos` to the supervisor, and its answers
    logs/NAME.log    what each process wrote to stderr
    data/NAME/       the data of each process

Not here: starting and watching processes (`supervisor`). Invariant: a file with a secret is never readable by
others, not even for a moment; state.json is replaced whole, so a reader never sees half of it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from pathlib import Path

import msgspec

from objstore.adapters.disk import make_folder, sync_folder
from objstore.model.errors import ConfigError, Unavailable

POINTER_VARIABLE = "OBJSTORE_DATA"


class ExtraNode(msgspec.Struct, frozen=True):
    """A node that was added after the first start. capacity: as for node.capacity; "" = that of the others."""

    name: str
    zone: str
    capacity: str = ""


class Shape(msgspec.Struct, frozen=True):
    """What the first start fixes: a later start with other numbers is refused, not guessed at.

    Then, with defaults as older folders lack them, what a later start may change, and the next one takes over."""

    nodes: int
    code: str  # "4+2"
    zones: int
    port: int = 9000  # of the first gateway; once it serves the one that it has, not 0 or a busy one
    gateways: int = 1
    repairers: int = 2
    extras: tuple[ExtraNode, ...] = ()
    retired: tuple[str, ...] = ()  # nodes that are not started any more


class MemberState(msgspec.Struct):
    """One process. `ticks` (start time of the process in kernel ticks) tells a pid from its re-use."""

    name: str
    role: str  # coordinator | node | repairer | gateway
    condition: str = "ended"  # starting | ready | paused | ended
    pid: int = 0
    ticks: int = 0
    address: str = ""
    restarts: int = 0


class State(msgspec.Struct):
    """What state.json holds."""

    kind: str  # up | demo | test
    pid: int  # of the supervisor
    ticks: int
    shape: Shape
    phase: str = "starting"  # starting | ready | stopping
    coordinator: str = ""
    endpoints: list[str] = []  # URLs of the gateways, by name
    region: str = ""
    cluster_secret: str = ""
    access_key: str = ""
    secret_key: str = ""
    members: list[MemberState] = []
    format: int = 1


class Folder:
    """Paths and files of one data folder."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.config = self.path / "cluster.toml"
        self.encryption_keys = self.path / "encryption.keys"
        self.commands = self.path / "commands"
        self.logs = self.path / "logs"
        self._shape = self.path / "shape.json"
        self._state = self.path / "state.json"
        self._lock = self.path / "lock"

    def create(self) -> None:
        try:
            for path in (self.path, self.commands, self.logs, self.path / "data"):
                make_folder(str(path), 0o700)
        except OSError as error:
            raise ConfigError(
                f"cannot use {self.path} as the data folder ({error.strerror}: {error.filename}); "
                "make it writable, or give another --data"
            ) from None

    def data_of(self, member: str) -> Path:
        return self.path / "data" / member

    def log_of(self, member: str) -> Path:
        return self.logs / f"{member}.log"

    def read_shape(self) -> Shape | None:
        """None: this folder has never held a cluster."""
        try:
            return msgspec.json.decode(self._shape.read_bytes(), type=Shape)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{self._shape} is damaged ({error}); restore it or start with another --data") from None

    def write_shape(self, shape: Shape) -> None:
        write_private(self._shape, msgspec.json.encode(shape))

    def read_state(self) -> State | None:
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=State)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.MsgspecError:
            return None  # of another version, or torn by a power cut: it only describes processes that are gone

    def write_state(self, state: State) -> None:
        """Not synced: after a power cut there is nothing left that it could describe."""
        write_private(self._state, msgspec.json.format(msgspec.json.encode(state), indent=1), durable=False)

    def clear_state(self) -> None:
        self._state.unlink(missing_ok=True)

    def running(self) -> State:
        """The state of the cluster that runs here now; raises with the way out when none does."""
        state = self.read_state()
        if state is not None and is_alive(state.pid, state.ticks):
            return state
        if self.read_shape() is None:
            raise ConfigError(f"there is no cluster in {self.path}; start one with: objstore up --data {self.path}")
        raise Unavailable(
            f"the cluster in {self.path} is not running; start it again with: objstore up --data {self.path}"
        )

    def lock(self) -> int | None:
        """Become the one supervisor of this folder; None if there is one. Held until the fd is closed."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file whole; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(str(path.parent))
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def process_ticks(pid: int) -> int:
    """When the process started, in kernel ticks; 0 if there is none (or it is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0 if Path("/proc/self").exists() else int(_answers(pid))
    except ProcessLookupError:
        return 0
    fields = stat[stat.rindex(")") + 2 :].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_alive(pid: int, ticks: int) -> bool:
    """Whether that very process still runs: the same pid with another start time is a stranger."""
    return pid > 0 and process_ticks(pid) == ticks != 0


def _pointer() -> Path:
    """Where the path of the most recently started cluster is kept, by the conventions of the platform."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "objstore" / "current"
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "objstore" / "current"


def remember(folder: Folder) -> None:
    """Make this the cluster that commands without --data talk to. OSError: the home cannot be written."""
    pointer = _pointer()
    pointer.parent.mkdir(parents=True, exist_ok=True)
    write_private(pointer, f"{folder.path}\n".encode())


def locate(data: str | None) -> Folder:
    """The folder that a command means: --data, else $OBJSTORE_DATA, else the most recently started one."""
    if data := data or os.environ.get(POINTER_VARIABLE):
        return Folder(data)
    try:
        return Folder(_pointer().read_text().strip())
    except FileNotFoundError:
        raise ConfigError(
            f"no cluster has been started by this user: give --data DIR, set {POINTER_VARIABLE}, "
            "or start one with: objstore up"
        ) from None
