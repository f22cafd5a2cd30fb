"""`objstore migrate`: serve a bucket while it is copied from another S3 service, and see how far that is.

Exit code of `status`: 0 all is copied; 3 not yet.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.admin import figures
from objstore.cli.bucket import size
from objstore.cli.connect import Access, connected
from objstore.cli.identity import add_action, date, run_async, show
from objstore.cli.lookup import serving
from objstore.cli.migrating import origins_of
from objstore.engine.engine import Engine
from objstore.migrate.origins import sealed_secret
from objstore.migrate.walk import CoordinatorBoard
from objstore.model import bucketconfig
from objstore.model.errors import Conflict, InvalidRequest, NotFound
from objstore.model.ids import BucketId
from objstore.model.origin import MigrationProgress, Origin
from objstore.model.records import BucketState, ListEntry, Space, decode

EXIT_DEGRADED = 3
FORGET_AT_ONCE = 32


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "While a bucket is migrated, clients use it here: what is not here yet is read from the origin, writes and "
        "deletes go here only, and win. The leading repairer copies the rest."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    name = ("NAME", "name of the bucket, which exists here")
    start = add_action(actions, "start", "begin to migrate a bucket, or change how", name)
    start.add_argument("--from", dest="endpoint", required=True, metavar="URL", help="https://host:port of the origin")
    start.add_argument("--bucket", metavar="OTHER", help="its name there; default: NAME")
    start.add_argument("--prefix", default="", metavar="P", help="only keys that begin with it are there")
    start.add_argument("--region", default="us-east-1", metavar="R", help="that requests are signed for")
    start.add_argument("--access-key", required=True, metavar="ID", help="one that may list and read the bucket there")
    start.add_argument("--secret-file", required=True, type=Path, metavar="FILE", help="a file with its secret")
    start.add_argument("--rate", type=size, default=0, metavar="SIZE", help="bytes per second that are copied at most")
    add_action(actions, "status", "how far it is", name)
    add_action(actions, "pause", "copy nothing ahead; reads go through all the same", name)
    add_action(actions, "resume", "undo pause", name)
    stop = add_action(actions, "stop", "end it: the origin is not asked any more", name)
    stop.add_argument("--force", action="store_true", help="also when not all is copied: the rest will be absent here")


def run(arguments: argparse.Namespace) -> int:
    return run_async(_main(arguments))


@dataclass(frozen=True, slots=True)
class _Cluster:
    access: Access
    engine: Engine
    board: CoordinatorBoard


@asynccontextmanager
async def _cluster(arguments: argparse.Namespace) -> AsyncIterator[_Cluster]:
    async with connected(arguments) as access, serving(access) as engine:
        yield _Cluster(access, engine, CoordinatorBoard(access.coordinator))


async def _main(arguments: argparse.Namespace) -> int:
    name = arguments.name
    async with _cluster(arguments) as cluster:
        match arguments.action:
            case "start":
                await _start(cluster, arguments)
                said = f"bucket {name} is migrated from {arguments.endpoint}"
            case "pause" | "resume":
                await _edit(cluster, name, paused=arguments.action == "pause")
                said = f"migration of bucket {name} {arguments.action}d"
            case "stop":
                return await _stop(cluster, arguments)
            case _:
                said = ""
        return await _status(cluster, arguments, said)


async def _origin(cluster: _Cluster, name: str) -> Origin:
    found = bucketconfig.get((await cluster.engine.get_bucket(name)).config, Origin)
    if found is None:
        raise NotFound(f"bucket {name!r} is not migrated; see: objstore migrate start --help")
    return found


async def _start(cluster: _Cluster, arguments: argparse.Namespace) -> None:
    name, random = arguments.name, SystemRandom()
    secret = _secret(arguments.secret_file)
    cluster_secret = cluster.access.config.cluster.secret.encode()
    new = Origin(
        id=random.bytes(16),
        endpoint=_endpoint(arguments.endpoint),
        bucket=arguments.bucket or name,
        prefix=arguments.prefix,
        region=arguments.region,
        access_key=arguments.access_key,
        sealed=sealed_secret(cluster_secret, name, secret, random),
        began_ms=SystemClock().wall_ms(),
        bytes_per_s=arguments.rate,
    )
    async with AsyncExitStack() as stack:
        await origins_of(stack, cluster.access.config, SystemClock()).client(name, new).check_bucket()

    def edit(bucket: BucketState) -> BucketState:
        return bucketconfig.with_(bucket, continued(bucketconfig.get(bucket.config, Origin), new))

    info = await cluster.engine.configure_bucket(name, edit)
    kept = bucketconfig.get(info.config, Origin)
    if kept is not None and kept.id == new.id:
        await cluster.board.write(name, MigrationProgress(new.id.hex()))


def continued(old: Origin | None, new: Origin) -> Origin:
    """The same migration, if it is from the same place. Conflict when it is from another."""
    if old is None:
        return new
    if (old.endpoint, old.bucket, old.prefix) != (new.endpoint, new.bucket, new.prefix):
        raise Conflict(f"it is being migrated from {old.endpoint}, bucket {old.bucket!r}: stop that first")
    return msgspec.structs.replace(new, id=old.id, began_ms=old.began_ms, paused=old.paused)


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise InvalidRequest(f"--from {text!r} is no endpoint: write https://HOST or https://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def _secret(path: Path) -> str:
    secret = path.read_text().strip()
    if not secret or len(secret.split()) != 1:
        raise InvalidRequest(f"{path} must hold one secret key and nothing else")
    return secret


async def _edit(cluster: _Cluster, name: str, *, paused: bool) -> None:
    await _origin(cluster, name)

    def edit(bucket: BucketState) -> BucketState:
        origin = bucketconfig.get(bucket.config, Origin)
        if origin is None:
            return bucket
        return bucketconfig.with_(bucket, msgspec.structs.replace(origin, paused=paused))

    await cluster.engine.configure_bucket(name, edit)


async def _stop(cluster: _Cluster, arguments: argparse.Namespace) -> int:
    name = arguments.name
    info = await cluster.engine.get_bucket(name)
    origin = bucketconfig.get(info.config, Origin)
    if origin is not None:
        progress = await cluster.board.read(name)
        is_done = progress is not None and progress.migration == origin.id.hex() and progress.state == "done"
        if not is_done and not arguments.force:
            text = "not everything is copied: what is not here would be absent. See objstore migrate status"
            raise Conflict(f"{text} {name}; or stop it with --force")
        await cluster.engine.configure_bucket(name, lambda bucket: bucketconfig.without(bucket, Origin))
    await cluster.board.forget(name)
    forgotten = await _forget_deleted(cluster.engine, name, info.id)
    lines = [f"bucket {name} is not migrated any more; marks of {forgotten} deleted keys removed"]
    return show(arguments, {"bucket": name, "forgotten": forgotten}, lines, f"objstore bucket show {name}")


async def _forget_deleted(engine: Engine, name: str, bucket: BucketId) -> int:
    """That keys were deleted during the migration need not be known any longer. What is left is in nobody's way."""
    forgotten = 0
    scan = engine.registers.scan(bucket, Space.OBJECT)
    batch: list[tuple[str, bytes]] = []

    async def forget() -> None:
        await asyncio.gather(*(engine.forget_deleted(name, key, migration) for key, migration in batch))
        batch.clear()

    while (pair := await scan.next()) is not None:
        entry = decode(pair[1], ListEntry)
        if entry.versions:
            continue
        forgotten += 1
        batch.append((pair[0].decode(), entry.version))
        if len(batch) == FORGET_AT_ONCE:
            await forget()
    await forget()
    return forgotten


async def _status(cluster: _Cluster, arguments: argparse.Namespace, said: str) -> int:
    origin = await _origin(cluster, arguments.name)
    progress = await cluster.board.read(arguments.name)
    if progress is None or progress.migration != origin.id.hex():
        progress = MigrationProgress(origin.id.hex())
    done = progress.state == "done"
    following = f"objstore migrate {'stop' if done else 'status'} {arguments.name}"
    lines = [*([said] if said else []), *describe(arguments.name, origin, progress)]
    show(arguments, fields(arguments.name, origin, progress), lines, following)
    return 0 if done or arguments.action != "status" else EXIT_DEGRADED


def fields(name: str, origin: Origin, progress: MigrationProgress) -> dict[str, Any]:
    """Without the secret."""
    return {
        "bucket": name,
        "from": origin.endpoint,
        "origin_bucket": origin.bucket,
        "prefix": origin.prefix,
        "access_key": origin.access_key,
        "began_ms": origin.began_ms,
        "paused": origin.paused,
        **msgspec.to_builtins(progress),
    }


def describe(name: str, origin: Origin, progress: MigrationProgress) -> list[str]:
    state = {
        "walking": "copying",
        "paused": "paused",
        "waiting": f"waiting: {progress.reason}",
        "done": "done: all is here",
    }[progress.state]
    count, amount = figures.count, figures.size
    lines = [
        f"bucket    {name}",
        f"origin    {origin.endpoint}, bucket {origin.bucket}" + (f", prefix {origin.prefix}" if origin.prefix else ""),
        f"began     {date(origin.began_ms)}",
        f"state     {'paused' if origin.paused else state}",
        f"seen      {count(progress.seen)} objects, {amount(progress.seen_bytes)}, walk {progress.walk}",
        f"copied    {count(progress.copied)} objects, {amount(progress.copied_bytes)}; {count(progress.verified)} "
        "verified by their ETag",
        f"here      {count(progress.here)} were written, copied or deleted here before",
    ]
    if progress.failed:
        lines.append(f"failed    {count(progress.failed)}; they are tried again")
        lines += [f"          {one.key}: {one.reason}" for one in progress.failures]
    return lines
