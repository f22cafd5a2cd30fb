"""`python -m tests.sim --canaries [NAMES]`: plants every canary in turn and lets its search find it.

Each runs in its own interpreter. The table says after how many seeds it was found, what the search said, and whether
it keeps quiet: a cluster without faults shows nothing of the bug, and the seed that found it is well without it.
Exit code 1 if one is not found within its limit, or is not quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.sim.canaries.canary import ROOT, Canary
from tests.sim.canaries.planted import CANARIES

TIMEOUT_S = 900  # of one search: only a hang takes so long


class Broken(Exception):
    """The search itself did not work: a canary that does not fit its module any more, for instance."""


@dataclass(frozen=True)
class Finding:
    canary: Canary
    seeds: int  # looked at until it was found, or in vain
    said: str  # "" = not found
    quiet: bool | None  # a cluster without faults is well, and so is the product at that seed; None: not looked at
    seconds: float
    broken: str = ""  # why the search could not be made


def run(name: str, lane: str, first: int, count: int) -> tuple[int | None, str]:
    """(seed, what the search said) in a fresh interpreter; (None, "") if it found nothing."""
    command = [sys.executable, "-m", "tests.sim.canaries.mutate", name, lane, str(first), str(count)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise Broken(done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    if found["said"].startswith("NameError"):
        raise Broken(found["said"])  # the planted code itself: it names what its module has no more
    return found["seed"], found["said"]


def hunt(canary: Canary, *, limit: int = 0, calm: bool = True) -> Finding:
    begun = time.monotonic()
    limit = limit or canary.limit
    quiet = None
    try:
        seed, said = run(canary.name, canary.lane, 0, limit)
        if calm:
            quiet = run(canary.name, "calm", 0, 1)[0] is None and run("-", canary.lane, seed or 0, 1)[0] is None
    except (Broken, subprocess.TimeoutExpired) as error:
        return Finding(canary, 0, "", quiet, time.monotonic() - begun, str(error))
    return Finding(canary, limit if seed is None else seed + 1, said, quiet, time.monotonic() - begun)


def hunt_all(canaries: Sequence[Canary], *, limit: int = 0, jobs: int = 2, calm: bool = True) -> Iterator[Finding]:
    """In the order of the canaries, each as soon as it and those before are done."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda canary: hunt(canary, limit=limit, calm=calm), canaries)


def row(finding: Finding) -> str:
    quiet = {True: "yes", False: "NO", None: "-"}[finding.quiet]
    said = (
        finding.said.splitlines()[0][:90] if finding.said else f"BROKEN {finding.broken}"[: 90 if finding.broken else 0]
    )
    said = said or "NOT FOUND"
    canary = finding.canary
    return f"{canary.name:34} {canary.lane[:22]:22} {finding.seeds:6} {quiet:5} {finding.seconds:6.1f}  {said}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.sim --canaries", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these canaries; all by default")
    parser.add_argument("--limit", type=int, default=0, help="seeds per canary instead of its own limit")
    parser.add_argument("--jobs", type=int, default=2, help="searches at the same time")
    parser.add_argument("--list", action="store_true", help="show what is planted, and stop")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.names) - {canary.name for canary in CANARIES}
    if unknown:
        parser.error(f"there is no canary {', '.join(sorted(unknown))}; --list shows them")
    chosen = [canary for canary in CANARIES if not arguments.names or canary.name in arguments.names]
    if arguments.list:
        for canary in chosen:
            print(f"{canary.name:34} {canary.module:30} {canary.why}")
        return 0
    print(f"{'canary':34} {'found by':22} {'seeds':>6} {'quiet':5} {'s':>6}  what it said")
    missed = []
    for finding in hunt_all(chosen, limit=arguments.limit, jobs=arguments.jobs):
        print(row(finding), flush=True)
        if not finding.said or finding.quiet is False:
            missed.append(finding.canary.name)
    if missed:
        print(f"{len(missed)} of {len(chosen)} not found, or not quiet without faults: {', '.join(missed)}")
    else:
        print(f"all {len(chosen)} canaries were found")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
