"""`objstore key`: access keys of users. A secret is shown once, when its key is made."""

from __future__ import annotations

import argparse

from objstore.cli.identity import add_action, date, identities, key_fields, run_async, show, table
from objstore.engine.identities import Identities
from objstore.model.errors import NotFound


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The keys under [[gateway.keys]] in the configuration are not listed here: they may do everything. A session "
        "(objstore role --help) ends with the key that asked for it."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    key = ("KEY", "access key id")
    add_action(actions, "list", "every access key and whose it is")
    add_action(actions, "create", "a new access key for a user", ("USER", "name of the user"))
    add_action(actions, "rotate", "a second key for the user of a key; disable the old one once clients have it", key)
    add_action(actions, "disable", "refuse a key, until enabled again", key)
    add_action(actions, "enable", "undo disable", key)
    add_action(actions, "delete", "a key, for good", key)


def run(arguments: argparse.Namespace) -> int:
    return run_async(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    async with identities(arguments) as store:
        match arguments.action:
            case "list":
                return await _list(store, arguments)
            case "create":
                return await _create(store, arguments, arguments.user, "objstore user show " + arguments.user)
            case "rotate":
                old = await _one(store, arguments.key)
                return await _create(store, arguments, old, f"objstore key disable {arguments.key}")
            case "delete":
                await store.delete_key(arguments.key)
                said = "deleted"
            case _:
                await store.set_key_disabled(arguments.key, arguments.action == "disable")
                said = f"{arguments.action}d"
        value = {"access_key": arguments.key, "did": said}
        following = f"objstore key delete {arguments.key}" if said == "disabled" else "objstore key list"
        return show(arguments, value, [f"access key {arguments.key} {said}"], following)


async def _one(store: Identities, id: str) -> str:
    """The user of a key."""
    for key in await store.keys():
        if key.id == id:
            return key.user
    raise NotFound(f"access key {id!r} does not exist")


async def _create(store: Identities, arguments: argparse.Namespace, user: str, following: str) -> int:
    key, secret = await store.create_key(user)
    lines = [f"access key  {key.id}", f"secret key  {secret}", "Keep the secret now: it is not shown again."]
    return show(arguments, {**key_fields(key), "secret_key": secret}, lines, following)


async def _list(store: Identities, arguments: argparse.Namespace) -> int:
    keys = sorted(await store.keys(), key=lambda key: (key.user, key.created_ms))
    found = [key_fields(key) for key in keys]
    rows = [(key.id, key.user, date(key.created_ms), "no" if key.disabled else "yes") for key in keys]
    lines = table(("ACCESS KEY", "USER", "CREATED", "ENABLED"), rows) if rows else ["no access keys of users"]
    return show(arguments, found, lines, "objstore key create USER")
