"""`objstore demo`: the promise of this store, shown in a minute on real processes.

A cluster with its own processes comes up; a folder tree goes in and every byte comes back; one node is killed
under reads and writes and its data are rebuilt while one watches; two more are killed at once and everything
still reads and writes; every byte is compared again. Exit code 0 only if no request failed and no byte was wrong.
Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from objstore.admin import figures, text
from objstore.admin.status import Status
from objstore.cli.main import EXIT_ERROR
from objstore.cli.progress import StartProgress, is_terminal
from objstore.model.errors import ObjstoreError
from objstore.testing import tree
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from objstore.testing.traffic import FAILURES, Traffic

BUCKET = "demo"
NODES, CODE = 8, "4+2"
VICTIM, TWO_MORE = "n3", ("n5", "n6")
_PARALLEL = 4
_REPAIR_TIMEOUT_S = 60.0
_FRAME_S = 0.35


class Failed(Exception):
    """The demo did not show what it promises."""


@dataclass(slots=True)
class Figures:
    """What the receipt says."""

    objects: int = 0
    bytes: int = 0
    upload_s: float = 0.0
    download_s: float = 0.0
    to_full_s: float = 0.0
    rebuilt: str = ""
    compared: int = 0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"{NODES} nodes, EC {CODE}, one minute, a temporary folder of about 1 GiB. Needs no argument."
    parser.add_argument("--port", type=int, default=0, metavar="P", help="S3 port (default: any free one)")


def run(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="objstore-demo-") as folder:
            return _demo(Path(folder), arguments.port)
    except (Failed, ObjstoreError) as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return EXIT_ERROR


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(folder: Path, port: int) -> int:
    began = time.monotonic()
    _say(f"A cluster of {NODES} nodes, erasure code {CODE}: any two may be lost")
    found = Figures()
    with LocalCluster(
        NODES,
        CODE,
        port=port,
        repairers=2,
        out_after=2.0,
        kind="demo",
        folder=folder / "cluster",
        report=StartProgress(),
    ) as cluster:
        client = cluster.s3_client()
        cluster.wait(lambda status: status.verdict == "HEALTHY", 30.0, "HEALTHY")
        files = _fill(client, folder / "files", found)
        with Traffic(client, BUCKET) as traffic:
            _lose_one(cluster, found)
            _lose_two_more(cluster, client, traffic, folder / "files", files, found)
        traffic.read_all_again()
        cluster.close(force=True)
    _receipt(found, traffic, time.monotonic() - began)
    if traffic.failed or traffic.wrong:
        raise Failed("requests failed or bytes were wrong:\n  " + "\n  ".join(traffic.errors))
    return 0


# --- the acts -----------------------------------------------------------------------------------------------


def _fill(client: S3Client, root: Path, found: Figures) -> list[tree.TestFile]:
    files = tree.plan()
    found.objects, found.bytes = len(files), sum(file.size for file in files)
    tree.write(root, files)
    largest = max(file.size for file in files)
    _say(
        f"Uploading {figures.plural(found.objects, 'file')}, {figures.size(found.bytes)}, "
        f"from 0 bytes to {figures.size(largest)}"
    )
    client.create_bucket(BUCKET)
    found.upload_s = _timed(lambda: _all(files, lambda file: client.put_file(BUCKET, file.path, root / file.path)))
    found.download_s = _timed(lambda: _compare(client, root, files, found))
    _note(
        f"uploaded in {found.upload_s:.1f} s ({_rate(found.bytes, found.upload_s)}), "
        f"downloaded and compared in {found.download_s:.1f} s ({_rate(found.bytes, found.download_s)})"
    )
    return files


def _lose_one(cluster: LocalCluster, found: Figures) -> None:
    _say(f"Killing {VICTIM} (SIGKILL) while reads and writes go on")
    time.sleep(0.5)  # some requests are under way
    cluster.kill(VICTIM)
    killed = time.monotonic()

    def whole(status: Status) -> bool:
        node = status.node(VICTIM)
        return status.is_whole and node is not None and node.state == "out"

    status = _show_until(cluster, whole)
    found.to_full_s = time.monotonic() - killed
    if status.receipt:
        receipt = status.receipt
        found.rebuilt = f"{figures.plural(receipt.objects, 'object')}, {figures.size(receipt.bytes)} rebuilt"
    _note(f"every object is back at full redundancy {found.to_full_s:.1f} s after the kill")


def _lose_two_more(
    cluster: LocalCluster, client: S3Client, traffic: Traffic, root: Path, files: list[tree.TestFile], found: Figures
) -> None:
    _say(f"Killing {' and '.join(TWO_MORE)} at once: {NODES - 3} of {NODES} nodes are left")
    cluster.kill(*TWO_MORE)
    again = files[:: len(files) // 40]
    _all(again, lambda file: client.put_file(BUCKET, f"again/{file.path}", root / file.path))
    _all(again, lambda file: _compare_one(client, root, f"again/{file.path}", file.path))
    _note(f"{figures.plural(len(again), 'more object')} written and read back")
    _compare(client, root, files, found)
    missing = {file.path for file in files} | {f"again/{file.path}" for file in again}
    missing.difference_update(client.keys(BUCKET))
    if missing:
        raise Failed(f"a list lacks {figures.plural(len(missing), 'object')}, for example {min(missing)}")
    _note(f"all {figures.plural(found.objects, 'file')} read again, every byte compared")


def _compare(client: S3Client, root: Path, files: list[tree.TestFile], found: Figures) -> None:
    _all(files, lambda file: _compare_one(client, root, file.path, file.path))
    found.compared += sum(file.size for file in files)


def _compare_one(client: S3Client, root: Path, key: str, path: str) -> None:
    if (offset := tree.first_difference(root / path, client.chunks(BUCKET, key))) is not None:
        raise Failed(f"{key} differs from what was uploaded, from byte {offset} on")


def _all(files: Iterable[tree.TestFile], action: Callable[[tree.TestFile], None]) -> None:
    """Several at a time; the first failure ends the demo."""
    with ThreadPoolExecutor(_PARALLEL) as pool:
        pending = [pool.submit(action, file) for file in files]
        try:
            for job in pending:
                job.result()
        except FAILURES as error:
            raise Failed(f"a request failed: {error}") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# --- the screen ---------------------------------------------------------------------------------------------


def _show_until(cluster: LocalCluster, reached: Callable[[Status], bool]) -> Status:
    """Show the status, live, until it is as wanted."""
    began = time.monotonic()
    deadline = began + _REPAIR_TIMEOUT_S
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.live import Live

        from objstore.admin import screen

        console = Console()
        baseline = status = cluster.status()
        with Live(console=console, auto_refresh=False) as live:
            while not reached(status) and time.monotonic() < deadline:
                time.sleep(_FRAME_S)
                status = cluster.status()
                live.update(screen.render(status, baseline=baseline, width=console.width, footer=""), refresh=True)
    else:
        status, last = cluster.status(), ""
        while not reached(status) and time.monotonic() < deadline:
            if (said := _line(status)) != last:
                _note(f"{time.monotonic() - began:4.1f} s  {said}")
                last = said
            time.sleep(_FRAME_S)
            status = cluster.status()
    if not reached(status):
        raise Failed(f"not at full redundancy after {_REPAIR_TIMEOUT_S:.0f} s\n{text.render(status)}")
    return status


def _line(status: Status) -> str:
    repair = f" · repair {text.repair_line(status.repair)}" if status.repair and status.repair.state != "idle" else ""
    return f"{text.title(status):<9} {text.objects_line(status)}{repair}"


def _receipt(found: Figures, traffic: Traffic, seconds: float) -> None:
    rebuilt = f" ({found.rebuilt})" if found.rebuilt else ""
    rows = [
        ("objects", f"{figures.count(found.objects)} files, {figures.size(found.bytes)}"),
        ("compared", f"{figures.size(found.compared)}, byte by byte"),
        ("full redundancy", f"{found.to_full_s:.1f} s after {VICTIM} was killed{rebuilt}"),
        ("lost in all", f"3 of {NODES} nodes: {VICTIM}, then {' and '.join(TWO_MORE)} at once"),
        ("requests meanwhile", figures.count(traffic.requests)),
        ("failed requests", str(traffic.failed)),
        ("wrong bytes", str(traffic.wrong)),
    ]  # fmt: skip
    _say("Receipt")
    for name, value in rows:
        print(f"  {name:<20}{value}")
    print(f"\n{seconds:.0f} s in all; processes and temporary files are gone. Your own: objstore up", flush=True)


def _say(title: str) -> None:
    print(f"\n{title}", flush=True)


def _note(sentence: str) -> None:
    print(f"  {sentence}", flush=True)


def _rate(count: int, seconds: float) -> str:
    return f"{figures.size(count / max(seconds, 1e-3))}/s"


def _timed(action: Callable[[], None]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began
