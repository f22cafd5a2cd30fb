"""`objstore bench`: how fast an S3 endpoint is, ours or any other, and one beside another.

An endpoint is a cluster of this machine (its data folder; none: the one that `objstore env` would name), or
http://ACCESS_KEY:SECRET@HOST:PORT. Only a bucket of its own is touched, and that is removed afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from objstore.bench import limits, picture, report
from objstore.bench.model import OPERATIONS, Endpoint, Measured, Phase, Result, Tick, decode_result, encode_result
from objstore.bench.processes import Workers, matching
from objstore.bench.rebuild import measure_repair
from objstore.bench.session import Ended, Happening, Progress, Session
from objstore.cli.benchcluster import OwnCluster
from objstore.cli.progress import is_terminal
from objstore.config.kinds import parse_size
from objstore.local.folder import locate
from objstore.model.errors import InvalidRequest

EXIT_INTERRUPTED = 130
_USUAL = "put,get,range,head,list,delete"
_KILL = re.compile(r"([a-z]\d+)@(\d+(?:\.\d+)?)s?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where load goes, and what is known of who serves it."""

    endpoint: Endpoint
    cluster: OwnCluster | None
    pids: Callable[[], Sequence[int]] | None


class Kill(NamedTuple):
    """`name` is killed `at_s` seconds into each phase of `operation`."""

    operation: str
    name: str
    at_s: float


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = __doc__.partition("\n\n")[2]
    parts = parser.add_subparsers(dest="what", required=True, metavar="what")
    part = parts.add_parser("run", help="measure one endpoint")
    part.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="a data folder or a URL with keys")
    part.add_argument("--server", metavar="REGEX", help="its processes here, by command line: their CPU is counted")
    part.add_argument("--kill", action="append", default=[], metavar="NAME@S",
                      help="kill a process S seconds into every phase (if one is `degraded`: into those alone), and "
                      "start it again after it; may be given several times")  # fmt: skip
    part.add_argument("--plot", action="store_true", help="throughput over time of every phase, not only of those with "
                      "something to mark")  # fmt: skip
    part.add_argument("--json", action="store_true", help="the result as JSON on stdout instead of a table")
    part.add_argument("--output", type=Path, metavar="FILE", help="write the result here (JSON), for `report`")
    _add_load_flags(part)
    part = parts.add_parser("compare", help="measure two endpoints in turn, A B A B, and print ratios")
    part.add_argument("endpoints", nargs=2, metavar="ENDPOINT")
    part.add_argument("--rounds", type=int, default=3, metavar="N", help="of each (default: 3)")
    part.add_argument("--server-a", metavar="REGEX", help="processes of A, by command line")
    part.add_argument("--server-b", metavar="REGEX", help="processes of B")
    part.add_argument("--output", type=Path, metavar="FILE", help="write both results here (JSON lines), for `report`")
    _add_load_flags(part)
    part = parts.add_parser("report", help="show results that were written to files")
    part.add_argument("files", nargs="+", type=Path, metavar="FILE")
    part.add_argument("--plot", action="store_true", help="throughput over time of every phase as text")
    part.add_argument("--picture", type=Path, metavar="FILE", help="draw them (svg, png, pdf)")


def _add_load_flags(part: argparse.ArgumentParser) -> None:
    part.add_argument("--operations", default=_USUAL, metavar="LIST",
                      help=f"of {','.join(OPERATIONS)} (default: {_USUAL})")  # fmt: skip
    part.add_argument("--size", default="4KiB", metavar="LIST", help="of objects, such as 4KiB,1MiB (default: 4KiB)")
    part.add_argument("--concurrency", default="16", metavar="LIST", help="connections (default: 16)")
    part.add_argument("--duration", type=float, default=10.0, metavar="S", help="of each phase (default: 10)")
    part.add_argument("--warmup", type=float, default=2.0, metavar="S", help="before it, not counted (default: 2)")
    part.add_argument("--range", default="0", metavar="SIZE", help="of range reads (default: an eighth)")
    part.add_argument("--processes", type=int, default=2, metavar="N", help="that make the load (default: 2)")
    part.add_argument("--objects", type=int, default=0, metavar="N",
                      help="that reads, lists and repair find at least (default: 256 MiB of them)")  # fmt: skip
    part.add_argument("--rate", type=float, default=0.0, metavar="N",
                      help="operations per second, begun when they are due, and measured from then (default: as many "
                      "as the connections can); of repair: GETs beside it (default: none)")  # fmt: skip
    part.add_argument("--verify", action="store_true", help="compare the digest of every object that is read whole")
    part.add_argument("--picture", type=Path, metavar="FILE", help="draw the result (svg, png, pdf)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.picture is not None:
        picture.check(arguments.picture)
    match arguments.what:
        case "run" | "compare":
            try:
                return asyncio.run(_run(arguments) if arguments.what == "run" else _compare(arguments))
            except asyncio.CancelledError:
                return EXIT_INTERRUPTED
        case _:
            return _report(arguments)


async def _run(arguments: argparse.Namespace) -> int:
    place = _place(arguments.endpoint, arguments.server)
    phases = _phases(arguments)
    kills = _kills(arguments.kill, phases, place.cluster)
    limits = _limits(place)
    measured: list[Measured] = []
    line = _Line()
    async with Workers(arguments.processes) as workers:
        session = Session(place.endpoint, workers, arguments.processes, place.pids)
        with _interruptible(session), contextlib.suppress(Ended):
            async with session:
                for phase in phases:
                    measured.append(await _measure(session, phase, line.show, place.cluster, kills))
                    line.end()
    result = _result(place, measured, limits, partial=session.is_over)
    if arguments.output is not None:
        arguments.output.write_bytes(encode_result(result) + b"\n")
    if arguments.picture is not None and measured:
        picture.draw([result], arguments.picture)
    print(encode_result(result).decode() if arguments.json else "\n".join(report.whole(result, plots=arguments.plot)))
    return _verdict(measured)


async def _measure(
    session: Session, phase: Phase, show: Progress, cluster: OwnCluster | None, kills: Sequence[Kill]
) -> Measured:
    """With what happens to the cluster meanwhile, which is whole again afterwards."""
    if cluster is None:
        return await session.measure(phase, show)
    now = [kill for kill in kills if kill.operation == phase.operation]
    harmed = cluster.nodes()[-1:] if phase.operation == "repair" else [kill.name for kill in now]
    try:
        if phase.operation == "repair":
            look = await cluster.repair_of(harmed[0])
            return await measure_repair(session, phase, show, partial(cluster.act, "kill", harmed[0]), look)
        happenings = [Happening(kill.at_s, partial(cluster.act, "kill", kill.name)) for kill in now]
        return await session.measure(phase, show, happenings)
    finally:
        if harmed:
            await cluster.restore(harmed)


async def _compare(arguments: argparse.Namespace) -> int:
    places = [
        _place(given, server) for given, server in zip(
            arguments.endpoints, (arguments.server_a, arguments.server_b), strict=True
        )
    ]  # fmt: skip
    phases = _phases(arguments)
    if alone := [phase.operation for phase in phases if phase.operation in ("degraded", "repair")]:
        raise InvalidRequest(f"{alone[0]} is measured by `objstore bench run`, on one cluster")
    limits = _limits(places[0])
    found: tuple[list[Measured], list[Measured]] = ([], [])
    line = _Line()
    async with Workers(arguments.processes) as workers:
        a, b = (Session(place.endpoint, workers, arguments.processes, place.pids) for place in places)
        with _interruptible(a, b), contextlib.suppress(Ended):
            async with a, b:
                for phase in phases:
                    for _ in range(arguments.rounds):
                        for session, into in ((a, found[0]), (b, found[1])):
                            into.append(await session.measure(phase, line.show))
                            line.end()
    print(f"A {places[0].endpoint.name}\nB {places[1].endpoint.name}\n")
    print("\n".join(report.compared(*found)))
    results = [
        _result(place, list(measured), limits, partial=a.is_over)
        for place, measured in zip(places, found, strict=True)
    ]  # fmt: skip
    if arguments.output is not None:
        arguments.output.write_bytes(b"".join(encode_result(one) + b"\n" for one in results))
    if arguments.picture is not None and all(found):
        picture.draw(results, arguments.picture)
    return _verdict([*found[0], *found[1]])


@contextlib.contextmanager
def _interruptible(*sessions: Session) -> Iterator[None]:
    """Ctrl-C ends the phase under way and what would follow; what was measured is shown. A second one breaks off at
    once. Buckets are removed in both cases; only a third one can prevent it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupted() -> None:
        if all(session.is_over for session in sessions):
            task.cancel()
            return
        print(f"\nending early; removing {' '.join(session.bucket for session in sessions)} ...", file=sys.stderr)
        for session in sessions:
            session.end_early()

    signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    try:
        for one in signals:
            loop.add_signal_handler(one, interrupted)
    except (ValueError, NotImplementedError, RuntimeError):  # not in a main thread, or not on this system
        signals = ()
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


def _report(arguments: argparse.Namespace) -> int:
    results = []
    for path in arguments.files:
        try:
            results += [decode_result(raw) for raw in path.read_bytes().splitlines() if raw.strip()]
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f"{path} is not the result of a bench: {error}") from None
    print("\n\n".join("\n".join(report.whole(one, plots=arguments.plot)) for one in results))
    if arguments.picture is not None:
        picture.draw(results, arguments.picture)
    return 0


def _verdict(measured: Sequence[Measured]) -> int:
    """1 when an answer was wrong or missing: then the figures are not to be trusted."""
    return int(any(one.mismatches or one.errors for one in measured))


# --- what was asked for -----------------------------------------------------------------------------------------


def _phases(arguments: argparse.Namespace) -> list[Phase]:
    operations = arguments.operations.split(",")
    if unknown := [name for name in operations if name not in OPERATIONS]:
        raise InvalidRequest(f"--operations: there is no {unknown[0]!r}; there are {' '.join(OPERATIONS)}")
    try:
        sizes = [parse_size(text) for text in arguments.size.split(",")]
        range_size = parse_size(arguments.range)
        connections = [int(text) for text in arguments.concurrency.split(",")]
    except ValueError as error:
        raise InvalidRequest(
            f"--size and --range take sizes such as 4KiB, --concurrency takes numbers: {error}"
        ) from None
    if min(connections) < 1 or arguments.processes < 1 or arguments.duration <= 0 or arguments.warmup < 0:
        raise InvalidRequest("connections, processes and the duration must be above 0")
    if arguments.objects < 0 or arguments.rate < 0:
        raise InvalidRequest("--objects and --rate cannot be below 0")
    if any(range_size > size for size in sizes):
        raise InvalidRequest("--range is more than the size of an object")
    return [
        Phase(
            operation, size, count, arguments.duration, arguments.warmup, range_size, arguments.verify,
            prepared=arguments.objects, rate=arguments.rate,
        )
        for size in sizes for count in connections for operation in operations
    ]  # fmt: skip


def _place(given: str | None, server: str | None) -> Place:
    by_pattern = partial(matching, server) if server else None
    if given is not None and "://" in given:
        where = urlsplit(given)
        if where.scheme not in ("http", "https") or not where.hostname or not where.username or not where.password:
            raise InvalidRequest(
                "an endpoint is http://ACCESS_KEY:SECRET@HOST:PORT, with %2F for / in the secret, "
                "or the data folder of a cluster"
            )
        port = where.port or (443 if where.scheme == "https" else 80)
        return Place(
            Endpoint(
                f"{where.scheme}://{where.hostname}:{port}", where.hostname, port, unquote(where.username),
                unquote(where.password), os.environ.get("AWS_DEFAULT_REGION", "us-east-1"), where.scheme == "https",
            ),
            None, by_pattern,
        )  # fmt: skip
    folder = locate(given)
    state = folder.running()
    if not state.endpoints:
        raise InvalidRequest(f"{folder.path} has no gateway that serves; look at: objstore status")
    where = urlsplit(state.endpoints[0])
    endpoint = Endpoint(
        f"objstore {folder.path.name}", where.hostname or "", where.port or 80, state.access_key, state.secret_key,
        state.region,
    )  # fmt: skip
    cluster = OwnCluster(folder)
    return Place(endpoint, cluster, by_pattern or cluster.pids)


def _kills(texts: Sequence[str], phases: Sequence[Phase], cluster: OwnCluster | None) -> list[Kill]:
    """Given for every operation; if there are degraded ones, for those alone."""
    operations = list(dict.fromkeys(phase.operation for phase in phases))
    for needs in ("degraded", "repair"):
        if needs in operations and cluster is None:
            raise InvalidRequest(f"{needs} is for a cluster of `objstore up` on this machine: give its data folder")
    if texts and cluster is None:
        raise InvalidRequest("--kill is for a cluster of `objstore up` on this machine: give its data folder")
    if "degraded" in operations:
        if not texts:
            raise InvalidRequest("degraded needs to know which nodes die, and when: --kill n3@5s, once for each")
        operations = ["degraded"]
    found: list[Kill] = []
    for text in texts:
        parts = _KILL.fullmatch(text)
        if parts is None:
            raise InvalidRequest(f"--kill {text!r}: give the name of a process and when, such as n3@5s")
        if float(parts[2]) >= phases[0].seconds:
            raise InvalidRequest(f"--kill {text!r}: a phase has only {phases[0].seconds:g} s (--duration)")
        assert cluster is not None
        cluster.check(parts[1])
        found += [Kill(operation, parts[1], float(parts[2])) for operation in operations]
    return found


def _limits(place: Place) -> dict[str, float]:
    """Of this machine, if the server is on it too."""
    if place.cluster is not None:
        return limits.of_machine(place.cluster.folder.path)
    return limits.of_machine() if place.pids is not None else {}


def _result(place: Place, measured: list[Measured], limits: dict[str, float], *, partial: bool) -> Result:
    environment = {
        "cpus": str(len(os.sched_getaffinity(0))),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    if place.cluster is not None:
        shape = place.cluster.folder.running().shape
        environment |= {"nodes": str(len(place.cluster.nodes())), "ec": str(shape.code)}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Result(place.endpoint.name, at, environment, measured, partial, limits)


class _Line:
    """How it goes, in place on a terminal, else nothing: the table comes at the end."""

    def __init__(self) -> None:
        self._shows = is_terminal(sys.stderr)
        self._began = time.monotonic()
        self._ops = self._bytes = self._errors = 0

    def show(self, phase: Phase, at_s: float, tick: Tick) -> None:
        self._ops += tick.ops
        self._bytes += tick.bytes
        self._errors += tick.errors
        passed = time.monotonic() - self._began
        if not self._shows or passed < 0.5:
            return
        where = f"{at_s:.0f} of {phase.seconds:.0f} s" if not phase.objects else "writing the objects"
        text = (
            f"{phase.operation:<6} {report.size_text(phase.size):>7}  {where:<20} {self._ops / passed:10,.0f} op/s "
            f"{self._bytes / passed / (1 << 20):9,.1f} MiB/s  p50 {report.milliseconds(tick.p50_us / 1000)}  "
            f"p99 {report.milliseconds(tick.p99_us / 1000)}  errors {self._errors}"
        )
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        self._began, self._ops, self._bytes = time.monotonic(), 0, 0

    def end(self) -> None:
        if self._shows:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        self._errors = 0
