"""What `objstore user`, `key`, `role` and `policy` share: reaching the registers, and how things are shown."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.cli.connect import add_cluster_flags, connected
from objstore.cli.lookup import serving
from objstore.engine.identities import Identities
from objstore.model.identity import AccessKey, User


@asynccontextmanager
async def identities(arguments: argparse.Namespace) -> AsyncIterator[Identities]:
    async with connected(arguments) as access, serving(access) as engine:
        secret = access.config.cluster.secret.encode()
        yield Identities(engine.registers, SystemClock(), SystemRandom(), secret)


def add_action(actions: Any, name: str, text: str, *operands: tuple[str, str]) -> argparse.ArgumentParser:
    """`operands`: (NAME, what it is)."""
    one: argparse.ArgumentParser = actions.add_parser(name, help=text)
    for operand, meaning in operands:
        one.add_argument(operand.lower(), metavar=operand, help=meaning)
    one.add_argument("--json", action="store_true", help="the answer as JSON")
    add_cluster_flags(one)
    return one


def date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "built in"


def user_fields(user: User, keys: Sequence[AccessKey]) -> dict[str, Any]:
    mine = [key_fields(key) for key in keys if key.user == user.name]
    return {
        "name": user.name,
        "created": date(user.created_ms),
        "enabled": not user.disabled,
        "policies": list(user.policies),
        "keys": mine,
    }


def key_fields(key: AccessKey) -> dict[str, Any]:
    """Without its secret."""
    return {"access_key": key.id, "user": key.user, "created": date(key.created_ms), "enabled": not key.disabled}


def show(arguments: argparse.Namespace, value: Any, lines: Sequence[str], next_command: str) -> int:
    if arguments.json:
        print(json.dumps(value, indent=2))
        return 0
    print("\n".join(lines))
    print(f"\nNext: {next_command}")
    return 0


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (heads, *rows)]  # fmt: skip


def run_async(work: Any) -> int:
    return int(asyncio.run(work))
