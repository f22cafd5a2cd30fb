"""`objstore lifecycle`: what rules of buckets have ended, and when they are carried out next.

Exit code: 0 the last round was whole; 3 some keys of it wait for the next; 4 unavailable.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec

from objstore.admin import figures
from objstore.cli.connect import add_cluster_flags, connected
from objstore.cluster.port import LIFECYCLE_KEY
from objstore.model.errors import Unavailable
from objstore.model.lifecycle import Done, LifecycleProgress, decode_progress, encode_progress

EXIT_DEGRADED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Rules are those of the buckets: aws s3api put-bucket-lifecycle-configuration"
    parts = parser.add_subparsers(dest="what", required=True, metavar="what")
    text = "the last round over all buckets with rules, the one that goes on, and when the next begins"
    part = parts.add_parser("status", help=text, description=text)
    part.add_argument("--json", action="store_true", help="as JSON")
    add_cluster_flags(part)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_status(arguments))


async def _status(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access:
        entry = await access.coordinator.get(LIFECYCLE_KEY)
    if entry is None:
        raise Unavailable("no repairer has looked after lifecycle yet; is one running? see: objstore status")
    try:
        progress = decode_progress(entry.value)
    except msgspec.DecodeError as error:
        raise Unavailable(f"what is known of lifecycle cannot be read: {error}") from error
    if arguments.json:
        print(encode_progress(progress).decode())
    else:
        print("\n".join(describe(progress, time.time_ns() // 1_000_000)))
    return EXIT_DEGRADED if progress.last.errors or progress.now.errors else 0


def describe(progress: LifecycleProgress, now_ms: int) -> list[str]:
    def ago(ms: int) -> str:
        return f"{figures.duration(max(0, now_ms - ms) / 1000)} ago"

    lines = []
    if progress.started_ms:
        lines += [f"now    since {ago(progress.started_ms)}{_place(progress)}", *_done(progress.now)]
    if progress.last_ended_ms:
        took = figures.duration((progress.last_ended_ms - progress.last_started_ms) / 1000)
        lines += [f"last   ended {ago(progress.last_ended_ms)}, took {took}", *_done(progress.last)]
    if progress.error:
        lines.append(f"error  {progress.error}")
    if not progress.started_ms:
        left_ms = progress.next_ms - now_ms
        lines.append(f"next   {'in ' + figures.duration(left_ms / 1000) if left_ms > 0 else 'is due'}")
    return lines


def _place(progress: LifecycleProgress) -> str:
    cursor = progress.cursor
    if not cursor.bucket:
        return ""
    name = cursor.bucket.rstrip("\x00")
    if name != cursor.bucket:
        return f", bucket {name} is done"
    return f", in bucket {name}{', its uploads' if cursor.uploads else ''}"


def _done(done: Done) -> list[str]:
    count = figures.count
    lines = [
        f"       {count(done.buckets)} buckets with rules, {count(done.keys)} keys seen",
        f"       {count(done.expired)} versions expired ({figures.size(done.expired_bytes)}), "
        f"{count(done.marked)} objects under delete markers, {count(done.aborted)} uploads aborted",
    ]
    if done.errors:
        lines.append(f"       {count(done.errors)} keys could not be looked after; they wait for the next round")
    return lines
