"""What repair costs: bytes rebuilt per second of CPU, of all processes together, beside the codec's own speed.

    python bench/repair.py [--size 8MiB] [--total 1GiB] [--kill 1] [--nodes 8] [--ec 4+2]

A cluster of processes on this machine is filled, nodes are killed, and the CPU that repairer, nodes and coordinator use
until every object is whole again is read from the kernel. `read` counts the k shards that a rebuilt one is made of,
as the codec's rate does, so that its ratio to the codec says what all the rest costs: network, checksums, disks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from objstore.admin import text
from objstore.codec.erasure import available, get_codec
from objstore.config.kinds import parse_size
from objstore.model.cluster import ErasureCode
from objstore.testing.cluster import LocalCluster

MIB = 1 << 20
CELL = 256 << 10
CODEC_S = 1.0
IDLE_S = 5.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def codec_rate(code: ErasureCode, lost: int) -> float:
    """Bytes of data (k cells a call) per CPU second of rebuilding."""
    name = "isal" if "isal" in available() else "zfec"
    codec = get_codec(name, code.k, code.m)
    cells = [os.urandom(CELL) for _ in range(code.k)]
    shards = dict(enumerate([*cells, *codec.encode(cells)]))
    rebuild = partial(codec.rebuild, {s: c for s, c in shards.items() if s >= lost}, list(range(lost)))
    rebuild()
    calls, begin = 0, time.process_time()
    while (spent := time.process_time() - begin) < CODEC_S:
        rebuild()
        calls += 1
    return calls * code.k * CELL / spent


def fill(cluster: LocalCluster, size: int, total: int) -> int:
    client = cluster.boto3_client()
    client.create_bucket(Bucket="bench")
    data = os.urandom(size)
    count = max(1, total // size)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: client.put_object(Bucket="bench", Key=f"{i}", Body=data), range(count)))
    return count


def main(arguments: argparse.Namespace) -> int:
    code = ErasureCode.parse(arguments.ec)
    size, total = parse_size(arguments.size), parse_size(arguments.total)
    codec = codec_rate(code, min(arguments.kill, code.m))
    with LocalCluster(nodes=arguments.nodes, ec=arguments.ec, down_after=1.0, out_after=2.0) as cluster:
        count = fill(cluster, size, total)
        cluster.wait_healthy(60)
        victims = cluster.node_names[: arguments.kill]
        workers = [n for n in (*cluster.node_names, "r1", "c1") if n not in victims]
        pids = {name: cluster.member(name).pid for name in workers}
        resting = cpu_seconds(pids.values())
        time.sleep(IDLE_S)
        resting = (cpu_seconds(pids.values()) - resting) / IDLE_S
        began = time.monotonic()
        cluster.kill(*victims)
        before = {name: cpu_seconds([pid]) for name, pid in pids.items()}
        status = cluster.wait(lambda s: s.is_whole and s.receipt is not None, 600, "whole")
        used = {name: cpu_seconds([pid]) - before[name] for name, pid in pids.items()}
        took = time.monotonic() - began
    receipt = status.receipt
    assert receipt is not None
    idle = resting * took  # what these processes use anyway: heartbeats, the survey, reading back
    cpu = sum(used.values()) - idle
    seconds = (receipt.finished_ms - receipt.started_ms) / 1000
    read = receipt.bytes * code.k / arguments.kill
    print(f"{code}, {count} objects of {size / MIB:g} MiB, {arguments.kill} of {arguments.nodes} nodes killed")
    print(text.receipt_line(receipt))
    print(
        f"rebuilt       {receipt.bytes / MIB:10.1f} MiB  in {seconds:.1f} s: {receipt.bytes / MIB / seconds:.1f} MiB/s"
    )
    nodes = sum(used.values()) - used["r1"] - used["c1"]
    print(f"CPU           {cpu:10.2f} s    repairer {used['r1']:.2f}, nodes {nodes:.2f}, less {idle:.2f} when idle")
    print(f"per CPU s     {receipt.bytes / MIB / cpu:10.1f} MiB rebuilt, {read / MIB / cpu:.1f} MiB read")
    print(f"codec         {codec / MIB:10.1f} MiB read per CPU s")
    print(f"ratio         {read / cpu / codec:10.4f}")
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    found.add_argument("--size", default="8MiB")
    found.add_argument("--total", default="1GiB")
    found.add_argument("--kill", type=int, default=1)
    found.add_argument("--nodes", type=int, default=8)
    found.add_argument("--ec", default="4+2")
    return found


if __name__ == "__main__":
    sys.exit(main(parser().parse_args()))
