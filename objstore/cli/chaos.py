"""`objstore chaos`: do harm to a process of a cluster of `objstore up`, bring it back, add a node or retire one.

Only the supervisor of such a cluster carries it out, so no other cluster can be touched by mistake.
"""

from __future__ import annotations

import argparse
import sys

from objstore.cli.env import add_data_flag
from objstore.cli.main import EXIT_REFUSED
from objstore.config.kinds import parse_size
from objstore.local import commands
from objstore.local.folder import State, locate
from objstore.local.members import ADD, ALL_ACTIONS
from objstore.model.errors import InvalidRequest

_TIMEOUT_S = 45.0  # a start may take its time
_MEANING = {
    "kill": "SIGKILL: it is gone at once",
    "stop": "SIGTERM: it ends in order",
    "pause": "SIGSTOP: it hangs, its connections stay",
    "resume": "SIGCONT: it goes on after a pause",
    "start": "start it again with the data it had; empty after a wipe",
    "restart": "stop, then start",
    "wipe": "kill it and erase its data, as if its disk had died",
    "add": "start one more node, empty; give it a share with: objstore node add",
    "retire": "end a node and do not start it again; after: objstore node remove",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "actions:\n" + "\n".join(f"  {action:<8} {_MEANING[action]}" for action in ALL_ACTIONS)
    parser.add_argument("action", choices=ALL_ACTIONS, metavar="action", help="one of those below")
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="n1, n2, ... ; g1 gateway, r1 repairer, c1 coordinator"
    )
    parser.add_argument(
        "--zone", default="", metavar="Z", help="of a node to add (default: a zone of its own, or in turn)"
    )
    parser.add_argument("--capacity", default="", metavar="SIZE", help="of a node to add (default: as the others)")
    add_data_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    folder = locate(arguments.data)
    if not folder.running().members:
        print(f"error: {folder.path} is still starting; try again in a moment", file=sys.stderr)
        return EXIT_REFUSED
    if arguments.action != ADD:
        if arguments.zone or arguments.capacity:
            raise InvalidRequest(f"--zone and --capacity are for {ADD}, not for {arguments.action}")
        _check_names(folder.running(), arguments.names)
    if arguments.capacity:
        _check_size(arguments.capacity)
    for name in arguments.names:
        command = commands.Command(arguments.action, name, arguments.zone, arguments.capacity)
        print(commands.send(folder, command, timeout_s=_TIMEOUT_S))
    if arguments.action == ADD:
        print(f"give it a share: objstore node add {' '.join(arguments.names)}", file=sys.stderr)
    if arguments.action in ("kill", "stop", "wipe", "pause"):
        back = "resume" if arguments.action == "pause" else "start"
        label = "back, empty" if arguments.action == "wipe" else "undo"
        names = " ".join(arguments.names)
        print(f"watch it: objstore watch    {label}: objstore chaos {back} {names}", file=sys.stderr)
    return 0


def _check_size(text: str) -> None:
    try:
        parse_size(text)
    except ValueError:
        raise InvalidRequest(f"--capacity {text!r}: give bytes, or a size like 500GiB or 2TB") from None


def _check_names(state: State, names: list[str]) -> None:
    """All or none: a misspelt second name must not leave the first one killed."""
    known = [member.name for member in state.members]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"there is no {name!r} in this cluster; there are {', '.join(known)}")
