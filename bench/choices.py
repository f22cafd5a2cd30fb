"""What decides the sizes of objstore/model/limits.py: inline objects and cells, each beside another choice.

    inline   objects of some sizes kept in their registers, beside the same ones as fragments
    cell     large objects in cells of other sizes, beside those of the default

For each choice a cluster of processes is started on this machine whose limits are set anew; both run at the same time
and are measured in turn, A B A B. A figure is the CPU that all processes of one cluster use, and the median of the
rounds; a ratio below 1 means that it is cheaper than what stands beside it. The group-commit window is a flag of
bench/commit.py, the codec is decided by bench/codec.py.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from bench.figures import Figure, show
from objstore.bench.model import Endpoint, Measured, Phase
from objstore.bench.processes import Workers
from objstore.bench.report import size_text
from objstore.bench.session import Session
from objstore.config.kinds import parse_size
from objstore.model import limits
from objstore.testing.cluster import LocalCluster

WARMUP_S = 0.5
PREPARED = 256  # objects that reads find at least, or as many as make
PREPARED_BYTES = 512 << 20
OPERATIONS = ("put", "get")
_SETS = "import objstore.model.limits as limits\n"  # before anything else has read them

Choices = Mapping[str, Mapping[str, int]]  # by name: what is set


def started(stack: ExitStack, sets: Mapping[str, int], nodes: int, code: str) -> LocalCluster:
    """A cluster whose processes have these limits."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="objstore-bench-")))
    (folder / "sitecustomize.py").write_text(_SETS + "".join(f"limits.{name} = {at}\n" for name, at in sets.items()))
    path = os.pathsep.join((str(folder), str(Path(__file__).resolve().parents[1])))
    return stack.enter_context(LocalCluster(nodes=nodes, ec=code, environment={"PYTHONPATH": path}))


def pids(cluster: LocalCluster) -> list[int]:
    names = [*cluster.node_names, "g1", "r1", "c1"]
    return [pid for name in names if (pid := cluster.member(name).pid)]


async def in_turn(
    clusters: Mapping[str, LocalCluster], phases: Sequence[Phase], rounds: int
) -> dict[tuple[str, str, int], list[Measured]]:
    """By choice, operation and size."""
    found: dict[tuple[str, str, int], list[Measured]] = {}
    async with Workers(1) as workers, AsyncExitStack() as stack:
        sessions = {}
        for name, cluster in clusters.items():
            where, env = urlsplit(cluster.endpoint), cluster.env
            endpoint = Endpoint(
                name, where.hostname or "", where.port or 0, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"],
                env["AWS_DEFAULT_REGION"],
            )  # fmt: skip
            own = pids(cluster)
            sessions[name] = await stack.enter_async_context(Session(endpoint, workers, 1, lambda own=own: own))  # type: ignore[misc]
        for phase in phases:
            for _ in range(rounds):
                for name, session in sessions.items():
                    one = await session.measure(phase, lambda *_: None)
                    if one.errors or not one.ops:
                        raise SystemExit(
                            f"{name}, {phase.operation} {size_text(phase.size)}: {one.errors or 'nothing'}"
                        )
                    found.setdefault((name, phase.operation, phase.size), []).append(one)
    return found


def prepared(size: int) -> int:
    return max(4, min(PREPARED, PREPARED_BYTES // size))


def measure(arguments: argparse.Namespace, choices: Choices, sizes: Sequence[int]) -> list[Figure]:
    """The last choice is the one that the others are compared with."""
    phases = [
        Phase(operation, size, arguments.concurrency, arguments.seconds, WARMUP_S, prepared=prepared(size))
        for size in sizes for operation in OPERATIONS
    ]  # fmt: skip
    with ExitStack() as stack:
        clusters = {name: started(stack, sets, arguments.nodes, arguments.ec) for name, sets in choices.items()}
        found = asyncio.run(in_turn(clusters, phases, arguments.rounds))
    *others, usual = choices
    figures = []
    for size in sizes:
        for name in others:
            for operation in OPERATIONS:
                cost, of = (_cpu_us(found[choice, operation, size]) for choice in (name, usual))
                what = f"{operation} {size_text(size)}, {name}"
                figures.append(Figure(what, cost, "µs CPU", usual, of))
            both, of_both = (
                sum(_cpu_us(found[choice, operation, size]) for operation in OPERATIONS) for choice in (name, usual)
            )
            figures.append(Figure("  both", both, "µs CPU", usual, of_both))
    return figures


def _cpu_us(rounds: Sequence[Measured]) -> float:
    return median((one.server_cpu_s or 0.0) / one.ops for one in rounds) * 1e6


def inline_choices() -> Choices:
    most = limits.CELL_SIZE - 1
    return {"inline": {"INLINE_SIZE_MAX": most, "INLINE_KEPT_MAX": most}, "as fragments": {"INLINE_SIZE_MAX": 0}}


def cell_choices(cells: Sequence[int]) -> Choices:
    found = {f"cells of {size_text(cell)}": {"CELL_SIZE": cell} for cell in cells if cell != limits.CELL_SIZE}
    return {**found, f"cells of {size_text(limits.CELL_SIZE)}": {}}


def main(words: Sequence[str] | None = None) -> int:
    about, _, rest = (__doc__ or "").partition("\n\n")
    found = argparse.ArgumentParser(
        description=about, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = found.add_subparsers(dest="what", required=True)
    for name, help_, sizes in (
        ("inline", "in registers or as fragments", "1KiB,4KiB,16KiB,32KiB,64KiB,128KiB"),
        ("cell", "size of cells", "64MiB"),
    ):
        part = parts.add_parser(name, help=help_)
        part.add_argument("--size", default=sizes, metavar="LIST", help=f"of objects (default: {sizes})")
        part.add_argument("--seconds", type=float, default=4.0, help="of each phase (default: 4)")
        part.add_argument("--rounds", type=int, default=3, help="of each (default: 3)")
        part.add_argument("--concurrency", type=int, default=16 if name == "inline" else 4)
        part.add_argument("--nodes", type=int, default=8)
        part.add_argument("--ec", default="4+2", metavar="K+M")
        part.add_argument("--json", action="store_true", help="as JSON")
        if name == "cell":
            part.add_argument("--cell", default="64KiB,1MiB", metavar="LIST", help="beside the default")
    arguments = found.parse_args(words)
    sizes_ = [parse_size(text) for text in arguments.size.split(",")]
    if arguments.what == "inline":
        if max(sizes_) >= limits.CELL_SIZE:
            raise SystemExit(f"objects of {limits.CELL_SIZE} bytes and more are never kept in registers")
        title, choices = "small objects in registers, beside fragments", inline_choices()
    else:
        choices = cell_choices([parse_size(text) for text in arguments.cell.split(",")])
        title = "large objects in cells of other sizes, beside the default"
    figures = measure(arguments, choices, sizes_)
    show(f"{title}; {arguments.nodes} nodes, {arguments.ec}", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
