"""`objstore role`: roles that users may assume for some time, through STS. (Roles of processes: `cli/roles.py`.)"""

from __future__ import annotations

import argparse
from typing import Any

from objstore.cli.identity import add_action, date, identities, run_async, show, table
from objstore.engine.identities import Identities
from objstore.model.identity import ROLE_ARN, Role


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "A user that a role trusts gets temporary credentials from STS, at the endpoint of S3: aws sts assume-role "
        "--endpoint-url URL --role-arn ARN --role-session-name NAME. They end after the time that was asked for (an "
        "hour by default), and earlier with the role, its trust in the user, the user, or the access key that asked. "
        "A change holds on every gateway within 2 seconds. Policies: objstore policy list."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    name = ("NAME", "name of the role")
    policy, user = ("POLICY", "name of a policy, as in `policy list`"), ("USER", "name of a user")
    add_action(actions, "list", "every role, whom it trusts and its policies")
    create = add_action(actions, "create", "a role; without a policy it may do nothing", name)
    create.add_argument("--trust", nargs="+", action="extend", default=[], metavar="USER", help="who may assume it")
    create.add_argument("--policy", nargs="+", action="extend", default=[], metavar="POLICY", help="what it may do")
    add_action(actions, "show", "one role", name)
    add_action(actions, "attach", "let a role do what a policy allows", name, policy)
    add_action(actions, "detach", "no longer", name, policy)
    add_action(actions, "trust", "let a user assume a role", name, user)
    add_action(actions, "distrust", "no longer; their sessions of it end", name, user)
    add_action(actions, "delete", "a role; all its sessions end", name)


def run(arguments: argparse.Namespace) -> int:
    return run_async(_main(arguments))


async def _main(arguments: argparse.Namespace) -> int:
    async with identities(arguments) as store:
        if arguments.action == "list":
            return await _list(store, arguments)
        name, following = arguments.name, f"objstore role show {arguments.name}"
        match arguments.action:
            case "create":
                await store.create_role(name, arguments.trust, arguments.policy)
                said = f"role {name} created"
                if not arguments.trust:
                    following = f"objstore role trust {name} USER"
                elif not arguments.policy:
                    following = f"objstore role attach {name} readonly"
            case "attach":
                await store.attach_to_role(name, arguments.policy)
                said = f"{arguments.policy} attached to role {name}"
            case "detach":
                await store.detach_from_role(name, arguments.policy)
                said = f"{arguments.policy} detached from role {name}"
            case "trust":
                await store.trust(name, arguments.user)
                said = f"user {arguments.user} may assume role {name}"
            case "distrust":
                await store.distrust(name, arguments.user)
                said = f"user {arguments.user} may no longer assume role {name}"
            case "delete":
                await store.delete_role(name)
                said = f"role {name} deleted; its sessions end within 2 seconds"
                return show(arguments, {"deleted": name}, [said], "objstore role list")
            case _:
                said, following = "", "objstore role list"
        role = await store.role(name)
        return show(arguments, _fields(role), [said] if said else _lines(role), following)


def _lines(role: Role) -> list[str]:
    return [
        f"role      {role.name}",
        f"arn       {ROLE_ARN}{role.name}",
        f"created   {date(role.created_ms)}",
        f"trusts    {', '.join(role.trusted) or 'nobody'}",
        f"policies  {', '.join(role.policies) or 'none: nothing is allowed'}",
    ]


def _fields(role: Role) -> dict[str, Any]:
    return {
        "name": role.name,
        "arn": ROLE_ARN + role.name,
        "id": role.id,
        "created": date(role.created_ms),
        "trusts": list(role.trusted),
        "policies": list(role.policies),
    }


async def _list(store: Identities, arguments: argparse.Namespace) -> int:
    roles = await store.roles()
    found = [_fields(role) for role in roles]
    if not roles:
        return show(arguments, found, ["no roles"], "objstore role create NAME --trust USER --policy readonly")
    rows = [(role.name, ", ".join(role.trusted) or "-", ", ".join(role.policies) or "-") for role in roles]
    return show(arguments, found, table(("ROLE", "TRUSTS", "POLICIES"), rows), "objstore role show NAME")
