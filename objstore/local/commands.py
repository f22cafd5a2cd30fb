"""How another process asks the supervisor of a cluster to disturb it: one file per request, one per answer.

Files instead of a socket: they work at any path length, need no port and leave nothing to clean up but
themselves. A request counts once its file has its final name; the supervisor takes each exactly once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import msgspec

from objstore.local.folder import Folder, is_alive
from objstore.model.errors import DeadlineExceeded, InvalidRequest, ObjstoreError

_TICK_S = 0.02


class Command(msgspec.Struct, frozen=True):
    action: str
    name: str
    zone: str = ""  # of a node to be added
    capacity: str = ""


class Answer(msgspec.Struct, frozen=True):
    done: bool
    text: str


def send(folder: Folder, command: Command, *, timeout_s: float) -> str:
    """What the supervisor did, in one sentence; InvalidRequest with its reason if it refused."""
    state = folder.running()
    request = folder.commands / f"{time.time_ns():020d}-{os.getpid()}.request"
    draft = request.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(command))
    draft.replace(request)
    reply = request.with_suffix(".reply")
    deadline = time.monotonic() + timeout_s
    while not reply.exists():
        if time.monotonic() > deadline or not is_alive(state.pid, state.ticks):
            request.unlink(missing_ok=True)
            raise DeadlineExceeded(f"the supervisor (pid {state.pid}) did not answer; look at: objstore status")
        time.sleep(_TICK_S)
    answer = msgspec.json.decode(reply.read_bytes(), type=Answer)
    reply.unlink()
    if not answer.done:
        raise InvalidRequest(answer.text)
    return answer.text


def answer_all(folder: Folder, act: Callable[[Command], str]) -> None:
    """Carry out what waits, oldest first. `act`: what is asked -> what was done."""
    waiting = sorted(name for name in os.listdir(folder.commands) if name.endswith(".request"))  # often: no glob
    for request in map(folder.commands.joinpath, waiting):
        try:
            command = msgspec.json.decode(request.read_bytes(), type=Command)
            request.unlink()
            answer = Answer(True, act(command))
        except FileNotFoundError:
            continue  # its sender gave up
        except (ObjstoreError, OSError, msgspec.MsgspecError) as error:
            answer = Answer(False, str(error))
        part = request.with_suffix(".part")
        with contextlib.suppress(OSError):  # a full disk: the sender will say that it got no answer
            part.write_bytes(msgspec.json.encode(answer))
            part.replace(request.with_suffix(".reply"))


def discard_all(folder: Folder) -> None:
    """Forget what an earlier run left: nobody waits for it."""
    for path in folder.commands.iterdir():
        path.unlink(missing_ok=True)
