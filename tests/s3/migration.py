"""Two gateways over memory engines: an origin, and one with a bucket that is migrated from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from botocore.exceptions import ClientError

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.migrate.copying import Copier
from objstore.migrate.origins import Origins, sealed_secret
from objstore.migrate.through import ReadThrough
from objstore.migrate.walk import Walker
from objstore.model import bucketconfig
from objstore.model.origin import MigrationProgress, Origin
from tests.s3.conftest import Endpoint, make_client
from tests.s3.local_gateway import ACCESS_KEY, REGION, SECRET_KEY, SETTINGS, LocalGateway, local_gateway
from tests.s3.memory_engine import MemoryEngine

CLUSTER = b"a secret of a cluster"
BUCKET = "moving"
T = TypeVar("T")


def error_of(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the error that the call must end with."""
    with pytest.raises(ClientError) as caught:
        call()
    said = caught.value.response
    return said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"]


class MemoryBoard:
    def __init__(self) -> None:
        self.progress: dict[str, MigrationProgress] = {}
        self.written: list[MigrationProgress] = []

    async def buckets(self) -> list[str]:
        return list(self.progress)

    async def read(self, bucket: str) -> MigrationProgress | None:
        return self.progress.get(bucket)

    async def write(self, bucket: str, progress: MigrationProgress) -> None:
        self.progress[bucket] = progress
        self.written.append(progress)


@dataclass
class Migration:
    """`old` and `new`: boto3 clients; both have the bucket BUCKET, migration is not on yet."""

    old: Any
    new: Any
    origin: LocalGateway
    gateway: LocalGateway
    engine: MemoryEngine
    origins: Origins
    through: ReadThrough
    copier: Copier
    walker: Walker
    board: MemoryBoard = field(default_factory=MemoryBoard)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.gateway.loop).result(30)

    def begin(self, id: bytes = bytes(16), *, endpoint: str = "", **changes: Any) -> Origin:
        sealed = sealed_secret(CLUSTER, BUCKET, SECRET_KEY, SystemRandom())
        values: dict[str, Any] = {"prefix": "", "region": REGION, "access_key": ACCESS_KEY, **changes}
        origin = Origin(id, endpoint or self.origin.url, BUCKET, sealed=sealed, began_ms=0, **values)
        self.run(self.engine.configure_bucket(BUCKET, lambda bucket: bucketconfig.with_(bucket, origin)))
        return origin

    def end(self) -> None:
        self.run(self.engine.configure_bucket(BUCKET, lambda bucket: bucketconfig.without(bucket, Origin)))

    def walk(self) -> MigrationProgress:
        self.run(self.walker.look(lambda: True))
        return self.board.progress[BUCKET]

    def another_leader(self) -> None:
        self.walker = Walker(self.engine, self.origins, self.copier, self.board, SystemClock())

    def wait_behind(self) -> None:
        """Until nothing is copied behind any more."""

        async def wait() -> None:
            while tasks := list(self.through._behind.values()):
                await asyncio.gather(*tasks)

        self.run(wait())

    def keys_here(self) -> list[str]:
        """Without what the origin has."""
        page = self.run(self.engine.lists_over(self.engine.registers).objects(BUCKET))
        return [entry.key for entry in page.entries]


@contextmanager
def migration(page: int = 500) -> Iterator[Migration]:
    clock, random = SystemClock(), SystemRandom()
    engine = MemoryEngine()
    origins = Origins(CLUSTER, clock)
    copier = Copier(engine, SETTINGS.encryption, random)
    through = ReadThrough(engine, origins, copier)
    through.install()
    board = MemoryBoard()
    walker = Walker(engine, origins, copier, board, clock, page)
    with local_gateway(MemoryEngine()) as origin, local_gateway(engine) as gateway:
        old, new = (make_client(Endpoint(one.url, ACCESS_KEY, SECRET_KEY)) for one in (origin, gateway))
        old.create_bucket(Bucket=BUCKET)
        new.create_bucket(Bucket=BUCKET)
        both = Migration(old, new, origin, gateway, engine, origins, through, copier, walker, board)
        yield both
        both.run(through.close())
        both.run(origins.close())
        old.close()
        new.close()
