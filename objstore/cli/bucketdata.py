"""`objstore bucket inventory` and `changes`: streams of what a bucket holds, for other programs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from objstore.admin import figures
from objstore.cli.connect import connected
from objstore.cli.identity import add_action, run_async
from objstore.cli.lookup import serving
from objstore.cli.values import duration
from objstore.engine.engine import Engine
from objstore.inventory import changes
from objstore.inventory.reading import inventory, walk
from objstore.inventory.rows import as_csv, as_jsonl, csv_head
from objstore.model.errors import InvalidRequest, ObjstoreError

ACTIONS = ("inventory", "changes")
INTERVAL_S = 10.0


def configure(actions: Any, name: tuple[str, str]) -> None:
    one = add_action(actions, "inventory", "every object of a bucket, one line each, in byte order of the keys", name)
    one.add_argument("--prefix", default="", metavar="P", help="only keys that begin with it")
    one.add_argument("--versions", action="store_true", help="every version and delete marker, not only current ones")
    one.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="default: csv, with a line of headings")
    one.add_argument("--output", default="-", metavar="FILE", help="default: standard output")
    one.add_argument("--start-after", default="", metavar="KEY", help="go on behind this key; FILE is appended to then")
    two = add_action(actions, "changes", "what has changed in a bucket since the cursor, as lines of JSON", name)
    two.add_argument(
        "--since",
        required=True,
        metavar="CURSOR",
        help="a file that remembers what was told; made by the first run, which tells all that is there",
    )
    two.add_argument("--prefix", default="", metavar="P", help="only keys that begin with it")
    two.add_argument("--from-now", action="store_true", help="the first run tells nothing, and only remembers")
    two.add_argument("--follow", action="store_true", help="look again and again, until interrupted")
    two.add_argument("--interval", type=duration, default=INTERVAL_S, metavar="TIME", help="with --follow: default 10s")
    two.epilog = (
        "Each change is told at least once, of one key in order; states that a key had only between two looks are "
        "not. A look reads the whole index of the bucket. Changes of tags and locks alone are not told."
    )


def run(arguments: argparse.Namespace) -> int:
    return run_async(_inventory(arguments) if arguments.action == "inventory" else _changes(arguments))


# --- inventory


async def _inventory(arguments: argparse.Namespace) -> int:
    as_json = arguments.format == "jsonl" or arguments.json
    reached = arguments.start_after
    count = 0
    async with connected(arguments) as access, serving(access) as engine:
        info = await engine.get_bucket(arguments.name)
        with _output(arguments.output, append=bool(arguments.start_after)) as out:
            if not as_json and not arguments.start_after:
                out.write(csv_head())
            try:
                async for rows in inventory(
                    engine.registers,
                    info.name,
                    info.id,
                    prefix=arguments.prefix,
                    start_after=arguments.start_after,
                    versions=arguments.versions,
                ):
                    out.write(as_jsonl(rows) if as_json else as_csv(rows))
                    out.flush()
                    count += len(rows)
                    reached = rows[-1].key if rows else reached
            except ObjstoreError as error:
                text = f"{error}. {figures.plural(count, 'line')} written; go on with --start-after {reached!r}"
                raise type(error)(text) from error
            _durable(out)
    print(f"{figures.plural(count, 'line')} written", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _output(name: str, *, append: bool) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
        return
    with Path(name).open("a" if append else "w", encoding="utf-8", newline="") as file:
        yield file


def _durable(file: IO[str]) -> None:
    file.flush()
    if file is not sys.stdout:
        os.fsync(file.fileno())


# --- changes


async def _changes(arguments: argparse.Namespace) -> int:
    async with connected(arguments) as access, serving(access) as engine:
        while True:
            count = await _look(engine, arguments)
            if not arguments.follow:
                print(f"{figures.plural(count, 'change')} told", file=sys.stderr)
                return 0
            await asyncio.sleep(arguments.interval)


async def _look(engine: Engine, arguments: argparse.Namespace) -> int:
    """One comparison; how many changes it told. The new cursor takes the place of the old one when all are told."""
    info = await engine.get_bucket(arguments.name)
    head = changes.CursorHead(info.name, arguments.prefix)
    cursor = Path(arguments.since)
    is_quiet = arguments.from_now and not cursor.exists()
    scratch = cursor.with_name(f"{cursor.name}.new")
    count = 0
    try:
        with scratch.open("w", encoding="utf-8") as new, _known(cursor, head) as before:
            new.write(changes.head_line(head))
            now = walk(engine.registers, info.id, prefix=arguments.prefix)
            async for change, known in changes.compare(before, now, info.id):
                if change is not None and not is_quiet:
                    sys.stdout.write(changes.as_json(change))
                    count += 1
                if known is not None:
                    new.write(changes.line(known))
            sys.stdout.flush()
            _durable(new)
        scratch.replace(cursor)
    finally:
        scratch.unlink(missing_ok=True)
    return count


@contextlib.contextmanager
def _known(cursor: Path, head: changes.CursorHead) -> Iterator[Iterator[changes.Known]]:
    if not cursor.exists():
        yield iter(())
        return
    if not cursor.is_file():
        raise InvalidRequest(f"{cursor} is no file; name one for the cursor")
    with cursor.open(encoding="utf-8") as file:
        changes.read_head(file.readline(), head)
        yield map(changes.read_line, file)
