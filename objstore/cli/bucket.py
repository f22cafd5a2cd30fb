"""`objstore bucket`: what is in each bucket, quotas, inventories, and what has changed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from objstore.admin import figures
from objstore.cli import bucketdata
from objstore.cli.connect import connected
from objstore.cli.identity import add_action, date, run_async, show, table
from objstore.cli.lookup import serving
from objstore.cluster.usage import Usage, read_reports, read_usage
from objstore.config.kinds import parse_size
from objstore.engine.engine import Engine
from objstore.engine.types import BucketInfo
from objstore.model import bucketconfig
from objstore.model.errors import InvalidRequest
from objstore.model.inventory import Written
from objstore.model.quota import BucketQuota
from objstore.model.records import BucketState
from objstore.model.usage import NO_USE, BucketUse, Use, is_full

OVERSHOOT = "held against usage that is some seconds old: writes by several gateways may go a little beyond"


@dataclass(frozen=True, slots=True)
class _Cluster:
    engine: Engine
    usage: Usage | None
    reports: dict[str, dict[str, Written]]  # by id of the bucket
    now_ms: int

    @property
    def age_s(self) -> float | None:
        return max(0, self.now_ms - self.usage.head.as_of_ms) / 1000 if self.usage is not None else None

    def use_of(self, info: BucketInfo) -> Use | None:
        """None: it was not counted yet."""
        found = self.usage.buckets.get(info.id.hex()) if self.usage is not None else None
        if found is not None:
            return found.use
        is_newer = self.usage is not None and info.created_ms > self.usage.head.as_of_ms
        return NO_USE if is_newer else None


def size(text: str) -> int:
    """ "10G", "500MiB" -> bytes."""
    try:
        found = parse_size(text)
    except ValueError:
        found = 0
    if found <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no size: write one such as "10GiB", "500MB" or "1.5TiB"')
    return found


def number(text: str) -> int:
    if not text.isdecimal() or int(text) <= 0 or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of objects: write one such as 100000")
    return int(text)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"Usage is counted by the repairer every few seconds. Quotas are {OVERSHOOT}."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    name = ("NAME", "name of the bucket")
    add_action(actions, "list", "every bucket and what is in it")
    add_action(actions, "show", "one bucket: usage, quota, how it is configured", name)
    quota = add_action(actions, "quota", "show, set or remove the quota of a bucket", name)
    quota.add_argument("--size", type=size, metavar="SIZE", help='bytes of all versions and open uploads: "10GiB"')
    quota.add_argument("--objects", type=number, metavar="N", help="objects; each version counts, delete markers not")
    quota.add_argument("--none", action="store_true", help="no quota any more")
    bucketdata.configure(actions, name)


def run(arguments: argparse.Namespace) -> int:
    if arguments.action in bucketdata.ACTIONS:
        return bucketdata.run(arguments)
    return run_async(_main(arguments))


@asynccontextmanager
async def _cluster(arguments: argparse.Namespace) -> AsyncIterator[_Cluster]:
    from objstore.adapters.clock import SystemClock

    async with connected(arguments) as access, serving(access) as engine:
        coordinator = access.coordinator
        reports = await read_reports(coordinator)
        yield _Cluster(engine, await read_usage(coordinator), reports, SystemClock().wall_ms())


async def _main(arguments: argparse.Namespace) -> int:
    if arguments.action == "quota" and arguments.none and (arguments.size or arguments.objects):
        raise InvalidRequest("--none removes the quota; it goes with neither --size nor --objects")
    async with _cluster(arguments) as cluster:
        if arguments.action == "list":
            return await _list(cluster, arguments)
        said = await _set_quota(cluster, arguments) if arguments.action == "quota" else ""
        info = await cluster.engine.get_bucket(arguments.name)
        fields = _fields(cluster, info)
        lines = [said] if said else []
        if arguments.action == "quota":
            lines += _quota_lines(cluster, info)
        else:
            lines += _lines(cluster, info)
        return show(arguments, fields, lines, _next(arguments, info))


async def _set_quota(cluster: _Cluster, arguments: argparse.Namespace) -> str:
    """What was done, or "" if nothing was asked for."""

    def edit(bucket: BucketState) -> BucketState:
        if arguments.none:
            return bucketconfig.without(bucket, BucketQuota)
        old = bucketconfig.get(bucket.config, BucketQuota) or BucketQuota()
        new = BucketQuota(arguments.size or old.bytes, arguments.objects or old.objects)
        return bucketconfig.with_(bucket, new)

    if not (arguments.none or arguments.size or arguments.objects):
        return ""
    await cluster.engine.configure_bucket(arguments.name, edit)
    done = "removed" if arguments.none else "set"
    return f"quota of {arguments.name} {done}; every gateway knows it within 2 seconds"


def _next(arguments: argparse.Namespace, info: BucketInfo) -> str:
    if arguments.action == "quota":
        return f"objstore bucket show {info.name}"
    return f"objstore bucket inventory {info.name}"


# --- what is shown


def _fields(cluster: _Cluster, info: BucketInfo) -> dict[str, Any]:
    use = cluster.use_of(info)
    quota = bucketconfig.get(info.config, BucketQuota)
    return {
        "name": info.name,
        "id": info.id.hex(),
        "created": date(info.created_ms),
        "owner": info.owner,
        "versioning": info.versioning or "never",
        "configured": sorted(info.config),
        "usage": msgspec.structs.asdict(use) if use is not None else None,
        "usage_age_s": cluster.age_s,
        "quota": {"bytes": quota.bytes or None, "objects": quota.objects or None} if quota is not None else None,
        "full": use is not None and is_full(BucketUse("", "", use, quota)),
        "inventories": {id: msgspec.structs.asdict(one) for id, one in _reports(cluster, info).items()},
    }


def _age(cluster: _Cluster) -> str:
    if cluster.age_s is None:
        return "not counted yet: a repairer has to run, and to reach every partition of the metadata"
    return f"as it was {figures.duration(cluster.age_s)} ago"


def _lines(cluster: _Cluster, info: BucketInfo) -> list[str]:
    use = cluster.use_of(info)
    lines = [
        f"bucket      {info.name}",
        f"created     {date(info.created_ms)}" + (f" by {info.owner}" if info.owner else ""),
        f"versioning  {info.versioning or 'never enabled'}",
        f"configured  {', '.join(sorted(info.config)) or 'nothing'}",
    ]
    if use is None:
        lines.append(f"usage       {_age(cluster) if cluster.usage is None else 'not counted yet'}")
    else:
        lines += [
            f"usage       {figures.size(use.bytes)} ({figures.count(use.bytes)} bytes), {_age(cluster)}",
            f"objects     {figures.count(use.objects)}",
            f"versions    {figures.count(use.versions)} and {figures.plural(use.markers, 'delete marker')}",
            f"uploads     {figures.count(use.uploads)} in progress, with {figures.size(use.upload_bytes)}",
        ]
    for id, one in _reports(cluster, info).items():
        said = f"failed {date(one.began_ms)}: {one.error}" if one.error else f"{date(one.done_ms)}: {one.manifest}"
        lines.append(f"inventory   {id}: {said}")
    return lines + _quota_lines(cluster, info)


def _reports(cluster: _Cluster, info: BucketInfo) -> dict[str, Written]:
    return cluster.reports.get(info.id.hex(), {})


def _quota_lines(cluster: _Cluster, info: BucketInfo) -> list[str]:
    quota, use = bucketconfig.get(info.config, BucketQuota), cluster.use_of(info)
    if quota is None:
        return ["quota       none"]
    lines = []
    used = use.as_need() if use is not None else None
    if quota.bytes:
        share = f", {figures.percent(used.bytes, quota.bytes)} used" if used is not None else ""
        lines.append(f"quota       {figures.size(quota.bytes)} ({figures.count(quota.bytes)} bytes){share}")
    if quota.objects:
        share = f", {figures.percent(used.objects, quota.objects)} used" if used is not None else ""
        lines.append(f"quota       {figures.plural(quota.objects, 'object')}{share}")
    return [*lines, f"            {OVERSHOOT}"]


async def _list(cluster: _Cluster, arguments: argparse.Namespace) -> int:
    found = await cluster.engine.list_buckets()
    if arguments.json:
        print(json.dumps([_fields(cluster, info) for info in found], indent=2))
        return 0
    if not found:
        return show(arguments, [], ["no buckets"], "objstore env")
    rows = [_row(cluster, info) for info in found]
    if cluster.age_s is None:
        print(f"usage is {_age(cluster)}", file=sys.stderr)
    lines = table(("BUCKET", "OBJECTS", "VERSIONS", "SIZE", "UPLOADS", "QUOTA"), rows)
    if cluster.age_s is not None:
        lines.append(f"{figures.plural(len(found), 'bucket')}, usage {_age(cluster)}")
    return show(arguments, found, lines, "objstore bucket show NAME")


def _row(cluster: _Cluster, info: BucketInfo) -> tuple[str, ...]:
    use, quota = cluster.use_of(info), bucketconfig.get(info.config, BucketQuota)
    limits = []
    if quota is not None and quota.bytes:
        limits.append(figures.size(quota.bytes))
    if quota is not None and quota.objects:
        limits.append(figures.plural(quota.objects, "object"))
    limit = ", ".join(limits) or "-"
    if use is None:
        return info.name, "?", "?", "?", "?", limit
    full = " (full)" if is_full(BucketUse("", "", use, quota)) else ""
    counts = figures.count(use.objects), figures.count(use.versions), figures.size(use.bytes), str(use.uploads)
    return info.name, *counts, limit + full
