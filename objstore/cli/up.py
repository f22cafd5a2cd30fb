"""`objstore up`: a whole cluster of separate processes on this machine, until Ctrl-C or `objstore down`.

The same data folder gives the same cluster back: shape, keys, port, objects. What ends by itself, or is killed by
hand, is reported and stays ended until `objstore chaos start` brings it back.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

from objstore.cli.env import export_lines
from objstore.cli.main import EXIT_ERROR
from objstore.cli.progress import StartProgress
from objstore.config.kinds import parse_size
from objstore.local import commands, members
from objstore.local.folder import Folder, MemberState, remember
from objstore.local.launch import Cluster, Options, launch, settle_shape
from objstore.model.cluster import ErasureCode
from objstore.model.errors import Conflict, InvalidRequest

DEFAULT_DATA = "objstore-data"
START_TIMEOUT_S = 30.0
_TICK_S = 0.1
_DETACHED = "OBJSTORE_UP_DETACHED"  # set in the environment of the process that --detach leaves behind


def configure(parser: argparse.ArgumentParser) -> None:
    defaults = Options()
    parser.epilog = (
        f"Without --data the cluster is in ./{DEFAULT_DATA}. A folder that holds a cluster starts that one again, "
        "with its nodes, its erasure code, its keys and its objects, on the port and with as many gateways and "
        "repairers as it had last."
    )
    flags: tuple[tuple[str, Callable[[str], object], object, str, str], ...] = (
        ("--data", str, None, "DIR", f"data folder (default: $OBJSTORE_DATA, else ./{DEFAULT_DATA})"),
        ("--nodes", int, None, "N", "storage nodes of a new cluster (default: 8)"),
        ("--ec", str, None, "K+M", "erasure code of a new cluster: data + parity shards (default: 4+2)"),
        ("--zones", int, None, "N", "zones that the nodes of a new cluster are spread over (default: one each)"),
        ("--capacity", _size, None, "SIZE", "of each node of a new cluster (default: its part of the disk)"),
        ("--port", int, None, "P", "S3 port; the next free one if it is busy (default: as last time, else 9000)"),
        ("--gateways", _positive, None, "N", "S3 gateways (default: as last time, else 1)"),
        ("--repairers", _positive, None, "N", "one works, the others stand by (default: as last time, else 2)"),
        ("--down-after", float, defaults.down_after_s, "S", "a node silent for so long is down (%(default)s)"),
        ("--out-after", float, defaults.out_after_s, "S", "... and its data are rebuilt elsewhere (%(default)s)"),
    )
    for flag, kind, default, metavar, text in flags:
        parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=text)
    parser.add_argument("--detach", action="store_true", help="return once it runs; end it with: objstore down")


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give bytes, or a size like 500MiB or 2GiB") from None


def run(arguments: argparse.Namespace) -> int:
    folder = Folder(arguments.data or os.environ.get("OBJSTORE_DATA") or DEFAULT_DATA)
    options = _options(arguments)
    folder.create()
    settle_shape(folder, options)  # contradictions are said before anything happens, and not in a log
    if arguments.detach and _DETACHED not in os.environ:
        return _detach(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    progress = StartProgress()
    print(f"starting a cluster in {folder.path}", file=sys.stderr, flush=True)
    cluster = launch(folder, options, kind="up", report=progress, start_timeout_s=START_TIMEOUT_S)
    try:
        _welcome(cluster)
        cluster.supervisor.listen(_complain)
        while True:
            cluster.supervisor.poll()
            commands.answer_all(folder, partial(members.act, cluster))
            time.sleep(_TICK_S)
    except KeyboardInterrupt:
        print("\nstopping (once more to force)", file=sys.stderr)
    finally:
        _close(cluster)
    print(f"stopped; the data stay in {folder.path}", file=sys.stderr)
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise InvalidRequest(f"--port {arguments.port}: need 0 (any free port) to 65535")
    if not 0 < arguments.down_after <= arguments.out_after:
        raise InvalidRequest("--down-after must be above 0 and at most --out-after")
    return Options(
        nodes=arguments.nodes,
        code=str(ErasureCode.parse(arguments.ec)) if arguments.ec else None,
        zones=arguments.zones,
        gateways=arguments.gateways,
        repairers=arguments.repairers,
        port=arguments.port,
        capacity=arguments.capacity,
        down_after_s=arguments.down_after,
        out_after_s=arguments.out_after,
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _close(cluster: Cluster) -> None:
    try:
        cluster.close()
    except KeyboardInterrupt:
        cluster.close(force=True)


def _complain(member: MemberState, text: str) -> None:
    """Later reports: only what ended unasked is news here."""
    if member.condition == "ended":
        print(f"{member.name} {text}; start it again with: objstore chaos start {member.name}", file=sys.stderr)


def _welcome(cluster: Cluster) -> None:
    state, folder = cluster.state, cluster.folder
    try:
        remember(folder)
    except OSError as error:
        cluster.notes.append(f"cannot remember this cluster ({error}): give --data {folder.path} to other commands")
    for note in cluster.notes:
        print(f"note: {note}", file=sys.stderr)
    code = ErasureCode.parse(state.shape.code)
    print(f"\nobjstore · EC {code} on {state.shape.nodes} nodes · survives the loss of {code.m}")
    print(f"  S3    {'  '.join(state.endpoints)}")
    print(f"  data  {folder.path}")
    print("\nPaste into another terminal:")
    print("\n".join(f"  {line}" for line in export_lines(state)))
    print('  # or: eval "$(objstore env)"')
    print("\nThen try:")
    print("  aws s3 mb s3://photos && aws s3 cp /etc/hosts s3://photos/")
    print("  objstore watch             # leave it open ...")
    print("  objstore chaos kill n3     # ... and look at it")
    end = "objstore down" if _DETACHED in os.environ else "Ctrl-C"
    print(
        f"\n{end} stops everything and keeps the data. One machine: for trying out, not for data you need.", flush=True
    )
    if told := os.environ.pop(_DETACHED, ""):
        with suppress(BrokenPipeError), open(int(told), "wb", buffering=0) as pipe:  # who waited may have gone
            pipe.write(b"1")


def _detach(folder: Folder) -> int:
    """Run the same command in a session of its own and wait until the cluster is up."""
    lock = folder.lock()
    if lock is None:
        raise Conflict(f"a cluster already runs on {folder.path}; end it with: objstore down --data {folder.path}")
    os.close(lock)
    log = folder.log_of("up")
    heard, told = os.pipe()
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "objstore", *sys.argv[1:]],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, _DETACHED: str(told)}, pass_fds=(told,),
        )  # fmt: skip
    os.close(told)
    with open(heard, "rb") as pipe:
        if pipe.read(1):  # it is up, and has said all that it says; nothing comes when it ends before
            print(log.read_text(), end="")
            return 0
    print(log.read_text(errors="replace"), end="", file=sys.stderr)
    return child.wait() or EXIT_ERROR
