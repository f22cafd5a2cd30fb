"""What a cluster costs that nobody uses: memory and CPU of all its processes, and how soon `objstore status` answers.

The cluster is that of `objstore up` without arguments. Memory is compared with as many bare interpreters, the start of
a command with that of one that does nothing; CPU is in percent of one core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from bench.figures import Figure, parser, show
from objstore.bench.processes import usage
from objstore.local.launch import Options
from objstore.testing.cluster import LocalCluster

SETTLES_S = 5.0
STARTS = 7
MIB = 1 << 20
_BARE = "import sys; sys.stdin.read()"


def start_ms(words: Sequence[str], environment: dict[str, str]) -> float:
    """Median time of a whole run."""
    took = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


def bare_bytes() -> int:
    """Resident, of an interpreter that has loaded nothing."""
    with subprocess.Popen([sys.executable, "-c", _BARE], stdin=subprocess.PIPE) as process:
        time.sleep(0.3)
        found = usage([process.pid]).rss_bytes
        process.communicate()
    return found


def measure(seconds: float, nodes: int, code: str) -> list[Figure]:
    usual = Options()
    with LocalCluster(
        nodes=nodes, ec=code, repairers=2, heartbeat=usual.heartbeat_s, down_after=usual.down_after_s,
        out_after=usual.out_after_s,
    ) as cluster:  # fmt: skip
        cluster.wait_healthy(60)
        time.sleep(SETTLES_S)
        names = [*cluster.node_names, "g1", "r1", "r2", "c1"]
        pids = [cluster.member(name).pid for name in names]
        before, began = usage(pids), time.perf_counter()
        time.sleep(seconds)
        after, passed = usage(pids), time.perf_counter() - began
        environment = {**os.environ, **cluster.env}
        status = start_ms(["-m", "objstore", "status"], environment)
    nothing = start_ms(["-c", "pass"], dict(os.environ))
    memory = bare_bytes() * len(pids) / MIB
    return [
        Figure(f"memory of {len(pids)} processes", after.rss_bytes / MIB, "MiB", "bare interpreters", memory),
        Figure("CPU of all, of one core", (after.cpu_s - before.cpu_s) / passed * 100, "%"),
        Figure("objstore status", status, "ms", "a bare interpreter", nothing),
    ]


def main(words: Sequence[str] | None = None) -> int:
    found = parser(__doc__, seconds=20.0)
    found.add_argument("--nodes", type=int, default=8)
    found.add_argument("--ec", default="4+2", metavar="K+M")
    arguments = found.parse_args(words)
    figures = measure(arguments.seconds, arguments.nodes, arguments.ec)
    show(f"an idle cluster, {arguments.nodes} nodes, {arguments.ec}", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
