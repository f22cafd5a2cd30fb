"""`objstore encryption`: a new key, what is encrypted under which, and putting all of it under the newest.

Rotation: `key` prints a line. Gateways learn it before any of them encrypts with it: it goes last into
`encryption.keys` (or its file) of each, and they are restarted; then first, and they are restarted; then `rotate`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from objstore.adapters.randomness import SystemRandom
from objstore.cli.connect import add_cluster_flags, connected
from objstore.engine.rekeying import Census, look
from objstore.model.errors import ConfigError
from objstore.model.sealed import KeyRing, show_key

EXIT_NOT_ALL = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "To rotate: add the line of `key` to encryption.keys (or its file) below the old one, restart all gateways; "
        "move it to the top, restart them again; run `rotate`. Once `status` counts nothing under the old key, take it "
        "away. With one gateway the line can go to the top at once."
    )
    commands = parser.add_subparsers(dest="action", metavar="action", required=True)
    key = commands.add_parser("key", help="print a new random key, for encryption.keys; changes nothing")
    key.add_argument("--id", help="its name (default: a random one)")
    status = commands.add_parser("status", help="how many objects are under which key; reads every object's metadata")
    rotate = commands.add_parser("rotate", help="put all that is under older keys under the first one")
    for one in (status, rotate):
        add_cluster_flags(one)
        one.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "key":
        random = SystemRandom()
        print(show_key(arguments.id or random.bytes(4).hex(), random.bytes(32)))
        return 0
    return asyncio.run(_look(arguments))


async def _look(arguments: argparse.Namespace) -> int:
    from objstore.cli.lookup import serving

    rotates = arguments.action == "rotate"
    async with connected(arguments) as access:
        ring = access.config.encryption.keys
        if rotates and ring is None:
            raise ConfigError("there is no key to rotate to: set encryption.keys_file in the configuration")
        async with serving(access) as engine:
            census = await look(engine, ring, SystemRandom(), rewrap=rotates, tell=_tell)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(_as_json(census, ring) if arguments.json else _as_text(census, ring))
    return EXIT_NOT_ALL if census.unknown else 0


def _tell(census: Census) -> None:
    if sys.stderr.isatty():
        total = census.plain + census.by_clients + sum(census.by_key.values())
        print(f"\r{total} objects looked at", end="", file=sys.stderr)


def _as_json(census: Census, ring: KeyRing | None) -> str:
    return json.dumps({
        "current": ring.current if ring else None,
        "keys": dict(census.by_key),
        "uploads": dict(census.uploads),
        "customer_keys": census.by_clients,
        "not_encrypted": census.plain,
        "changed": census.changed,
        "key_missing": census.unknown,
    })  # fmt: skip


def _as_text(census: Census, ring: KeyRing | None) -> str:
    ids = {*census.by_key, *census.uploads, *(ring.keys if ring else ())}
    rows = []
    for id in sorted(ids):
        role = "encrypts" if ring and id == ring.current else "decrypts" if ring and id in ring.keys else "MISSING"
        uploads = f", {census.uploads[id]} open uploads" if census.uploads[id] else ""
        rows.append((f"key {id}", role, f"{census.by_key[id]} objects{uploads}"))
    rows.append(("keys of clients", "", f"{census.by_clients} objects"))
    rows.append(("not encrypted", "", f"{census.plain} objects"))
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {role:<8}  {count}" for name, role, count in rows]
    if census.changed:
        lines.append(f"{census.changed} objects were put under the key that encrypts")
    if census.unknown:
        lines.append(f"{census.unknown} objects cannot be read: their key is not in encryption.keys")
    return "\n".join(lines)
