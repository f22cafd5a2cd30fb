"""`objstore policy`: what users and roles may do, in the policy language of AWS. Some are built in."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from objstore.cli.identity import add_action, date, identities, run_async, show, table
from objstore.engine.identities import Identities
from objstore.model.errors import InvalidRequest


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A change holds on every gateway within 2 seconds, for all users and roles that have the policy."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    name = ("NAME", "name of the policy")
    add_action(actions, "list", "every policy, and which users and roles have it")
    add_action(actions, "show", "the document of a policy", name)
    add_action(
        actions, "create", "a policy, or another document for one", name, ("FILE", "JSON; - reads it from stdin")
    )
    add_action(actions, "delete", "a policy that no user and no role has", name)


def run(arguments: argparse.Namespace) -> int:
    return run_async(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    document = _checked(arguments.file) if arguments.action == "create" else b""
    async with identities(arguments) as store:
        match arguments.action:
            case "create":
                await store.put_policy(arguments.name, document)
                said, following = "written", f"objstore user attach USER {arguments.name}"
            case "delete":
                await store.delete_policy(arguments.name)
                said, following = "deleted", "objstore policy list"
            case "show":
                text = (await store.policy(arguments.name)).document.decode()
                shown = json.loads(text)
                lines = [json.dumps(shown, indent=2)]
                return show(arguments, shown, lines, f"objstore user attach USER {arguments.name}")
            case _:
                return await _list(store, arguments)
        return show(arguments, {"name": arguments.name, "did": said}, [f"policy {arguments.name} {said}"], following)


async def _list(store: Identities, arguments: argparse.Namespace) -> int:
    users, roles = await store.users(), await store.roles()
    found: list[dict[str, Any]] = [
        {
            "name": one.name,
            "modified": date(one.modified_ms),
            "users": [user.name for user in users if one.name in user.policies],
            "roles": [role.name for role in roles if one.name in role.policies],
        }
        for one in await store.policies()
    ]
    rows = [
        (one["name"], one["modified"], ", ".join(one["users"]) or "-", ", ".join(one["roles"]) or "-") for one in found
    ]
    lines = table(("POLICY", "MODIFIED", "USERS", "ROLES"), rows)
    return show(arguments, found, lines, "objstore policy show NAME")


def _checked(file: str) -> bytes:
    """The document; InvalidRequest says what is wrong with it."""
    from objstore.cli.roles import policy_fault

    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    if fault := policy_fault(raw):
        raise InvalidRequest(f"{file}: {fault}")
    return raw
