"""A cluster of real processes under load and random harm, and a verdict: `python -m tests.process.chaos --seconds 60`.

The seed decides what is done to whom and in which order; when exactly it meets which request is up to the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from objstore.local.supervisor import StartFailed
from objstore.model.errors import DeadlineExceeded
from objstore.testing.cluster import LocalCluster
from objstore.testing.s3client import S3Client
from tests.process.faults import Faults
from tests.process.load import Load
from tests.process.outages import Outages

TICK_S = 0.05
ACKNOWLEDGED_MIN_PER_S = 0.5  # a cluster that serves nobody proves nothing


@dataclass
class Verdict:
    seed: int
    wrong: list[str]
    figures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {'FAILED' if self.wrong else 'all well'}"
        return "\n".join([head, *(f"  {line}" for line in self.figures), *(f"  wrong: {line}" for line in self.wrong)])


@contextlib.contextmanager
def gateways(cluster: LocalCluster) -> Iterator[Mapping[str, S3Client]]:
    """A client of each gateway, by its name."""
    env = cluster.env
    keys = (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_DEFAULT_REGION"])
    clients = {f"g{number}": S3Client(url, *keys) for number, url in enumerate(cluster.endpoints, 1)}
    try:
        yield clients
    finally:
        for client in clients.values():
            client.close()


@contextlib.contextmanager
def under_load(
    cluster: LocalCluster, seed: int, *, workers: int = 5, say: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Load, Faults]]:
    """Harm it inside; then it heals, everything is read, and `load.judge()` has the verdict."""
    bucket = f"history-{seed}"
    outages = Outages()
    faults = Faults(cluster, outages, random.Random(seed), say=say)
    with gateways(cluster) as clients:
        next(iter(clients.values())).create_bucket(bucket)
        load = Load(clients, outages, seed=seed, workers=workers, bucket=bucket)
        with load:
            yield load, faults
            faults.bring_back_all()
        faults.heal()
        say("healed; reading everything")
        load.read_all()


def chaos(seed: int, seconds: float, *, folder: Path | None, say: Callable[[str], None], workers: int = 5) -> Verdict:
    """One cluster from start to end."""
    wrong: list[str] = []
    with LocalCluster(8, "4+2", gateways=2, repairers=2, folder=folder) as cluster:
        cluster.wait_healthy(60)
        try:
            with under_load(cluster, seed, workers=workers, say=say) as (load, faults):
                end = time.monotonic() + seconds
                while time.monotonic() < end and not load.wrong:
                    faults.step()
                    time.sleep(TICK_S)
        except (DeadlineExceeded, StartFailed) as error:
            wrong.append(str(error))
        wrong += load.judge()
    if load.acknowledged < ACKNOWLEDGED_MIN_PER_S * seconds:
        wrong.append(f"only {load.acknowledged} writes succeeded in {seconds:.0f} s")
    harm = ", ".join(f"{name} {count}" for name, count in sorted(faults.counts.items()))
    return Verdict(seed, wrong, [f"harm: {harm}", f"load: {load.summary()}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.process.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load and harm for each seed")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--folder", type=Path, help="keep the cluster's files there (one seed)")
    arguments = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}  {text}", flush=True)

    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        verdict = chaos(seed, arguments.seconds, folder=arguments.folder, say=say)
        print(verdict, flush=True)
        failed += bool(verdict.wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
