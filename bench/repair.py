"""What repair costs: bytes rebuilt per second of CPU, of all processes together, beside the codec's own speed.

A cluster of processes on this machine is filled, nodes are killed, and the CPU that repairer, nodes and coordinator use
until every object is whole again is read from the kernel. `read` counts the k shards that a rebuilt one is made of,
as the codec's rate does, so that its ratio to the codec says what all the rest costs: network, checksums, disks.

With --clients GETs per second it shows instead what they notice: how long they take before, while a node is rebuilt
at full speed (budget `unlimited`), and while the next one is rebuilt with the budget `auto`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random

from bench.figures import Figure, show
from objstore.admin import text
from objstore.admin.status import Status
from objstore.bench import limits
from objstore.bench.processes import usage
from objstore.codec.erasure import available, get_codec
from objstore.config.kinds import parse_size
from objstore.model.cluster import ErasureCode
from objstore.model.survey import Receipt
from objstore.testing.cluster import LocalCluster

MIB = 1 << 20
CELL = 256 << 10
CODEC_S = 1.0
IDLE_S = 5.0
WARM_S = 3.0
CALM_S = 15.0  # of GETs before the first node dies
READERS = 16
READ_KEYS = 64
READ_SIZES = (4 << 10, 1 << 20)
WORKING = ("running", "throttled")


def codec_rate(code: ErasureCode, lost: int) -> float:
    """Bytes of data (k cells a call) per CPU second of rebuilding."""
    name = "isal" if "isal" in available() else "zfec"
    codec = get_codec(name, code.k, code.m)
    cells = [os.urandom(CELL) for _ in range(code.k)]
    shards = dict(enumerate([*cells, *codec.encode(cells)]))
    rebuild = partial(codec.rebuild, {s: c for s, c in shards.items() if s >= lost}, list(range(lost)))
    return limits.rate(rebuild, code.k * CELL, CODEC_S, time.thread_time)


def fill(cluster: LocalCluster, size: int, total: int) -> int:
    client = cluster.boto3_client()
    client.create_bucket(Bucket="bench")
    data = os.urandom(size)
    count = max(1, total // size)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: client.put_object(Bucket="bench", Key=f"{i}", Body=data), range(count)))
    return count


@dataclass
class Reader:
    """GETs at a rate of their own, small and large in turn, however long they take."""

    cluster: LocalCluster
    rate: float
    done: list[tuple[float, int, float]] = field(default_factory=list)  # (when, size, seconds)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        client = self.cluster.s3_client()
        keys = [(size, f"{size}-{i}") for i in range(READ_KEYS) for size in READ_SIZES]
        for size, key in keys:
            client.put("bench", key, os.urandom(size))
        random = Random(1)

        def get(size: int, key: str) -> None:
            began = time.monotonic()
            client.get("bench", key)
            self.done.append((began, size, time.monotonic() - began))

        with ThreadPoolExecutor(READERS) as pool:
            while not self._stop.wait(random.expovariate(self.rate)):
                pool.submit(get, *random.choice(keys))

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def show(self, name: str, begin: float, end: float) -> None:
        for size in READ_SIZES:
            found = sorted(took for at, what, took in self.done if what == size and begin <= at <= end)
            if found:
                half, most = found[len(found) // 2], found[int(0.99 * len(found))]
                print(
                    f"{name:22}{size >> 10:6} KiB  p50 {half * 1e3:7.1f} ms  p99 {most * 1e3:7.1f} ms  ({len(found)})"
                )


def beside_clients(arguments: argparse.Namespace) -> int:
    """What clients notice."""
    with LocalCluster(nodes=arguments.nodes, ec=arguments.ec, down_after=1.0, out_after=2.0) as cluster:
        fill(cluster, parse_size(arguments.size), parse_size(arguments.total))
        reader = Reader(cluster, arguments.clients)
        with reader.running():
            cluster.wait_healthy(60)
            time.sleep(WARM_S)
            began = time.monotonic()
            time.sleep(CALM_S)
            reader.show("before", began, time.monotonic())
            for victim, budget in zip(cluster.node_names, ("unlimited", "auto"), strict=False):
                order_budget(cluster, budget)
                before = cluster.status().receipts
                cluster.kill(victim)
                states: Counter[str] = Counter()

                def has_begun(status: Status) -> bool:
                    return state_of(status) in WORKING

                def is_over(status: Status, before: list[Receipt] = before, states: Counter[str] = states) -> bool:
                    states[state_of(status)] += 1
                    return status.is_whole and repair_since(before, status) is not None

                cluster.wait(has_begun, 60, "being repaired")
                began = time.monotonic()
                receipt = repair_since(before, cluster.wait(is_over, 900, "whole"))
                assert receipt is not None
                reader.show(f"repair {budget}", began, time.monotonic())
                print(f"{text.receipt_line(receipt)}; seen: {dict(states)}")
                time.sleep(WARM_S)
    return 0


def repair_since(before: list[Receipt], status: Status) -> Receipt | None:
    """A rebalance may follow it at once."""
    return next((one for one in reversed(status.receipts) if one.kind == "repair" and one not in before), None)


def state_of(status: Status) -> str:
    return status.repair.state if status.repair else ""


def order_budget(cluster: LocalCluster, budget: str) -> None:
    command = [sys.executable, "-m", "objstore", "repair", "budget", budget]
    subprocess.run(command, env={**os.environ, **cluster.env}, check=True, stdout=subprocess.DEVNULL)


def alone(arguments: argparse.Namespace) -> int:
    code = ErasureCode.parse(arguments.ec)
    size, total = parse_size(arguments.size), parse_size(arguments.total)
    codec = codec_rate(code, min(arguments.kill, code.m))
    with LocalCluster(nodes=arguments.nodes, ec=arguments.ec, down_after=1.0, out_after=2.0) as cluster:
        count = fill(cluster, size, total)
        cluster.wait_healthy(60)
        victims = cluster.node_names[: arguments.kill]
        workers = [n for n in (*cluster.node_names, "r1", "c1") if n not in victims]
        pids = {name: cluster.member(name).pid for name in workers}
        resting = usage(pids.values()).cpu_s
        time.sleep(IDLE_S)
        resting = (usage(pids.values()).cpu_s - resting) / IDLE_S
        began = time.monotonic()
        cluster.kill(*victims)
        before = {name: usage([pid]).cpu_s for name, pid in pids.items()}
        status = cluster.wait(lambda s: s.is_whole and repair_since([], s) is not None, 600, "whole")
        used = {name: usage([pid]).cpu_s - before[name] for name, pid in pids.items()}
        took = time.monotonic() - began
    receipt = repair_since([], status)
    assert receipt is not None
    idle = resting * took  # what these processes use anyway: heartbeats, the survey, reading back
    cpu = sum(used.values()) - idle
    seconds = (receipt.finished_ms - receipt.started_ms) / 1000
    read = receipt.bytes * code.k / arguments.kill
    nodes = sum(used.values()) - used["r1"] - used["c1"]
    figures = [
        Figure("rebuilt", receipt.bytes / MIB / seconds, "MiB/s"),
        Figure("CPU: all, without what they use anyway", cpu, "s"),
        Figure("  repairer", used["r1"], "s"),
        Figure("  nodes", nodes, "s"),
        Figure("rebuilt per CPU s", receipt.bytes / MIB / cpu, "MiB"),
        Figure("read per CPU s", read / MIB / cpu, "MiB", "codec, rebuild", codec / MIB),
    ]
    title = f"{code}, {count} objects of {size / MIB:g} MiB, {arguments.kill} of {arguments.nodes} nodes killed; "
    show(title + text.receipt_line(receipt), figures, as_json=arguments.json)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    found = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    found.add_argument("--size", default="8MiB")
    found.add_argument("--total", default="1GiB")
    found.add_argument("--kill", type=int, default=1)
    found.add_argument("--nodes", type=int, default=8)
    found.add_argument("--ec", default="4+2")
    found.add_argument("--clients", type=float, default=0, metavar="RATE", help="GETs per second beside it")
    found.add_argument("--json", action="store_true", help="as JSON; without --clients")
    arguments = found.parse_args(words)
    return beside_clients(arguments) if arguments.clients else alone(arguments)


if __name__ == "__main__":
    sys.exit(main())
