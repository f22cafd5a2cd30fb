"""`objstore damage`: which objects are hurt, where, why, and what happens next.

`list` shows what the leading repairer reports, the worst first. `show` asks the nodes themselves, now, and needs no
repairer. Exit code: 0 nothing is hurt; 3 something is; 4 unavailable.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import msgspec

from objstore.admin import figures
from objstore.cli.connect import Access, add_cluster_flags, connected
from objstore.cli.lookup import object_of, serving
from objstore.cluster.port import DAMAGE
from objstore.engine.calls import ask, in_parallel
from objstore.engine.peers import Peers
from objstore.engine.types import ObjectInfo
from objstore.model import limits
from objstore.model.errors import Corrupt, NotFound, ObjstoreError, Unavailable
from objstore.model.ids import NodeId
from objstore.model.manifest import BlobRef, FragmentId
from objstore.model.survey import Damage, DamagePage, decode_damage
from objstore.wire.messages import FragLocate, FragLocated, FragVerify, Ok

EXIT_DEGRADED = 3
_WIDTH = 16  # calls at a time
_VERIFY_TIMEOUT_S = 60.0
_WHOLE_SHOWN = 3  # segments that are whole, with their places


class Shard(msgspec.Struct, frozen=True):
    """state: ok; misplaced (readable, not on its home); or why it is nowhere."""

    shard: int
    home: str
    at: list[str]  # nodes that have it
    state: str


class Segment(msgspec.Struct, frozen=True):
    blob: str
    number: int
    needed: int
    readable: int
    shards: list[Shard]


class Shown(msgspec.Struct, frozen=True):
    """What `show --json` prints."""

    bucket: str
    key: str
    size: int
    version: str
    readable: bool  # the object
    whole: bool
    segments: list[Segment]
    next: str
    format: int = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", required=True, metavar="what")
    part = parts.add_parser("list", help="hurt objects, the worst first")
    part.add_argument("--bucket", metavar="B", help="only of this bucket")
    part.add_argument("--limit", type=int, default=20, metavar="N", help="show so many (default: 20)")
    part.add_argument("--after", type=int, default=0, metavar="N", help="leave out the first N")
    part.add_argument("--json", action="store_true", help="as JSON")
    add_cluster_flags(part)
    part = parts.add_parser("show", help="one object: its shards, asked of the nodes now")
    part.add_argument("object", metavar="BUCKET/KEY")
    part.add_argument("--verify", action="store_true", help="let the nodes read every shard back and check it")
    part.add_argument("--json", action="store_true", help="as JSON")
    add_cluster_flags(part)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        return await (_list if arguments.what == "list" else _show)(arguments, access)


# --- list --------------------------------------------------------------------------------------------------------


async def _read_pages(access: Access) -> list[DamagePage]:
    entries, _ = await access.coordinator.range(DAMAGE)
    return [decode_damage(entry.value) for entry in sorted(entries, key=lambda one: int(one.key.removeprefix(DAMAGE)))]


async def _list(arguments: argparse.Namespace, access: Access) -> int:
    pages = await _read_pages(access)
    if not pages:
        raise Unavailable("no repairer has looked at the data yet; is one running? see: objstore status")
    items = [one for page in pages for one in page.items if arguments.bucket in (None, one.bucket)]
    shown = items[arguments.after : arguments.after + max(0, arguments.limit)]
    total = pages[0].total
    if arguments.json:
        print(msgspec.json.encode({"total": total, "listed": len(items), "items": shown}).decode())
        return EXIT_DEGRADED if total else 0
    if not total:
        print("nothing is hurt: every object has all its shards, each where it belongs")
        return 0
    where = f" in {arguments.bucket}" if arguments.bucket else ""
    listed = sum(len(page.items) for page in pages)
    print(_headline(total, listed) + (f"; {figures.count(len(items))} of those listed{where}" if where else ""))
    for one in shown:
        print("\n".join(_damage_lines(one)))
    if (left := len(items) - arguments.after - len(shown)) > 0:
        print(f"... {left} more: --after {arguments.after + len(shown)}")
    return EXIT_DEGRADED


def _headline(total: int, listed: int) -> str:
    verb, where = ("is", "it belongs") if total == 1 else ("are", "they belong")
    text = f"{figures.plural(total, 'object')} {verb} hurt, or not where {where}"
    return text + (f"; the {figures.count(listed)} worst are listed" if listed < total else "")


def _damage_lines(one: Damage) -> list[str]:
    lines = [f"{one.bucket}/{one.key}  {one.kind}, {one.readable}/{one.shards} shards readable · {one.next}"]
    places = [f"segment {hurt.segment} shard {hurt.shard} {hurt.node} {hurt.why.upper()}" for hurt in one.hurt]
    more = one.hurt_total - len(one.hurt)
    if places:
        lines.append("    " + " · ".join(places) + (f" · and {more} more" if more else ""))
    return lines


# --- show --------------------------------------------------------------------------------------------------------


async def _show(arguments: argparse.Namespace, access: Access) -> int:
    async with serving(access) as engine:
        info = await object_of(engine, arguments.object)
        held = await _locate(engine.peers, info.blobs)
        bad = await _verify(engine.peers, held) if arguments.verify else {}
        segments = _segments(engine.peers, info.blobs, held, bad)
    readable = all(one.readable >= one.needed for one in segments)
    whole = all(shard.state == "ok" for one in segments for shard in one.shards)
    next_ = "" if whole else await _what_next(access, info, readable=readable)
    shown = Shown(info.bucket, info.key, info.size, info.version_id, readable, whole, segments, next_)
    print(msgspec.json.encode(shown).decode() if arguments.json else "\n".join(_shown_lines(shown)))
    return 0 if whole else EXIT_DEGRADED


_Held = dict[FragmentId, list[NodeId]]


async def _locate(peers: Peers, blobs: Sequence[BlobRef]) -> _Held:
    """Who says that it has which shard."""
    held: _Held = {}

    async def one(what: tuple[NodeId, BlobRef, int]) -> None:
        node, blob, number = what
        try:
            found, _ = await ask(peers, node, FragLocate(blob.id, number), FragLocated, timeout_s=limits.RPC_TIMEOUT_S)
        except ObjstoreError:
            return  # it holds nothing now
        for shard in found.shards:
            held.setdefault(FragmentId(blob.id, number, shard), []).append(node)

    asked = [(node, blob, number) for blob in blobs for number in range(blob.segments) for node in peers.live()]
    await in_parallel(_WIDTH, asked, one)
    return held


async def _verify(peers: Peers, held: _Held) -> dict[tuple[FragmentId, NodeId], str]:
    """Copies that do not read well. Nodes put these into quarantine, so that they are rebuilt."""
    bad: dict[tuple[FragmentId, NodeId], str] = {}

    async def one(what: tuple[FragmentId, NodeId]) -> None:
        fragment, node = what
        try:
            await ask(peers, node, FragVerify(fragment.pack(), 0), Ok, timeout_s=_VERIFY_TIMEOUT_S)
        except Corrupt:
            bad[what] = "corrupt"
        except NotFound:
            bad[what] = "missing"
        except ObjstoreError:
            bad[what] = "node does not answer"

    await in_parallel(_WIDTH, [(fragment, node) for fragment, nodes in held.items() for node in nodes], one)
    return bad


def _segments(
    peers: Peers, blobs: Sequence[BlobRef], held: _Held, bad: dict[tuple[FragmentId, NodeId], str]
) -> list[Segment]:
    topology = peers.topology
    names = {node.id: node.name for node in topology.map.nodes}
    found = []
    for blob in blobs:
        for number in range(blob.segments):
            owners = topology.data_owners(topology.partition_of_blob(blob.id, number))
            shards = []
            for shard, home in enumerate(owners[: blob.k + blob.m]):
                fragment = FragmentId(blob.id, number, shard)
                nodes = held.get(fragment, [])
                good = [node for node in nodes if (fragment, node) not in bad]
                if home in good:
                    state = "ok"
                elif good:
                    state = "misplaced" if peers.is_up(home) else "stands in"
                elif nodes:
                    state = bad[fragment, nodes[0]]
                else:
                    state = "missing" if peers.is_up(home) else "node down"
                shards.append(Shard(shard, names.get(home, home), [names.get(n, n) for n in good], state))
            readable = sum(bool(shard.at) for shard in shards)
            found.append(Segment(blob.id.hex(), number, blob.k, readable, shards))
    return found


async def _what_next(access: Access, info: ObjectInfo, *, readable: bool) -> str:
    """What the leader says of it, if it is on its list."""
    for page in await _read_pages(access):
        for one in page.items:
            if (one.bucket, one.key) == (info.bucket, info.key):
                return one.next
    if not readable:
        return "nodes that hold its shards must return: objstore status"
    return f"it is repaired by itself; at once with: objstore repair now {info.bucket}/{info.key}"


def _shown_lines(shown: Shown) -> list[str]:
    name = f"{shown.bucket}/{shown.key}  {figures.size(shown.size)}  version {shown.version}"
    if not shown.segments:
        return [f"{name}  small: it lives in the metadata and has no shards"]
    worst = min(shown.segments, key=lambda one: one.readable - one.needed)
    verdict = "readable" if shown.readable else "NOT readable now"
    lines = [f"{name}  {worst.readable}/{len(worst.shards)} shards readable, {worst.needed} needed — {verdict}"]
    hurt = [one for one in shown.segments if any(shard.state != "ok" for shard in one.shards)]
    for one in [*hurt, *(one for one in shown.segments if one not in hurt)][: max(len(hurt), _WHOLE_SHOWN)]:
        lines.append(f"  segment {one.number}: " + "   ".join(map(_shard_text, one.shards)))
    if (left := len(shown.segments) - max(len(hurt), _WHOLE_SHOWN)) > 0:
        lines.append(f"  and {figures.plural(left, 'segment')} that are whole")
    if shown.next:
        lines.append(f"  next: {shown.next}")
    return lines


def _shard_text(shard: Shard) -> str:
    if shard.state == "ok":
        return f"{shard.shard} {shard.home} ok"
    if shard.at:
        return f"{shard.shard} on {' '.join(shard.at)}, belongs on {shard.home}"
    return f"{shard.shard} {shard.home} {shard.state.upper()}"
