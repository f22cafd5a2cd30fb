"""`objstore user`: who may sign in beside the keys of the configuration. A new user may do nothing."""

from __future__ import annotations

import argparse

from objstore.cli.identity import add_action, date, identities, run_async, show, table, user_fields
from objstore.engine.identities import Identities


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A change holds on every gateway within 2 seconds. Policies: objstore policy list."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    name = ("NAME", "name of the user")
    policy = ("POLICY", "name of a policy, as in `policy list`")
    add_action(actions, "list", "every user, their policies and keys")
    add_action(actions, "create", "a user that may do nothing yet", name)
    add_action(actions, "show", "one user", name)
    add_action(actions, "attach", "let a user do what a policy allows", name, policy)
    add_action(actions, "detach", "no longer", name, policy)
    add_action(actions, "disable", "refuse all keys of a user, until enabled again", name)
    add_action(actions, "enable", "undo disable", name)
    add_action(actions, "delete", "a user and all their access keys", name)


def run(arguments: argparse.Namespace) -> int:
    return run_async(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    async with identities(arguments) as store:
        if arguments.action == "list":
            return await _list(store, arguments)
        name = arguments.name
        match arguments.action:
            case "create":
                await store.create_user(name)
                said, following = (
                    f"user {name} created; nothing is allowed yet",
                    f"objstore user attach {name} readonly",
                )
            case "attach":
                await store.attach(name, arguments.policy)
                said, following = f"{arguments.policy} attached to user {name}", f"objstore key create {name}"
            case "detach":
                await store.detach(name, arguments.policy)
                said, following = f"{arguments.policy} detached from user {name}", f"objstore user show {name}"
            case "disable" | "enable":
                await store.set_user_disabled(name, arguments.action == "disable")
                said, following = f"user {name} {arguments.action}d", f"objstore user show {name}"
            case "delete":
                await store.delete_user(name)
                return show(arguments, {"deleted": name}, [f"user {name} deleted, and all keys"], "objstore user list")
            case _:
                said, following = "", f"objstore key create {name}"
        return await _show(store, arguments, said, following)


async def _show(store: Identities, arguments: argparse.Namespace, said: str, following: str) -> int:
    user = await store.user(arguments.name)
    keys = await store.keys(user.name)
    lines = [said] if said else [
        f"user      {user.name}{' (disabled)' if user.disabled else ''}",
        f"created   {date(user.created_ms)}",
        f"policies  {', '.join(user.policies) or 'none: nothing is allowed'}",
        *(f"key       {key.id}{' (disabled)' if key.disabled else ''}" for key in keys),
    ]  # fmt: skip
    return show(arguments, user_fields(user, keys), lines, following)


async def _list(store: Identities, arguments: argparse.Namespace) -> int:
    users, keys = await store.users(), await store.keys()
    found = [user_fields(user, keys) for user in users]
    if not users:
        return show(arguments, found, ["no users: only the keys of the configuration sign in"],
                    "objstore user create NAME")  # fmt: skip
    rows = [
        (one["name"], "yes" if one["enabled"] else "no", ", ".join(one["policies"]) or "-", str(len(one["keys"])))
        for one in found
    ]
    return show(arguments, found, table(("USER", "ENABLED", "POLICIES", "KEYS"), rows), "objstore user show NAME")
