"""`objstore chaos`: do harm to a process of a cluster of `objstore up`, or bring it back.

Only the supervisor of such a cluster carries it out, so no other cluster can be touched by mistake.
"""

from __future__ import annotations

import argparse
import sys

from objstore.cli.env import add_data_flag
from objstore.cli.main import EXIT_REFUSED
from objstore.local import commands
from objstore.local.folder import State, locate
from objstore.local.supervisor import ACTIONS
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
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "actions:\n" + "\n".join(f"  {action:<8} {_MEANING[action]}" for action in ACTIONS)
    parser.add_argument("action", choices=list(ACTIONS), metavar="action", help="one of those below")
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="n1, n2, ... ; g1 gateway, r1 repairer, c1 coordinator"
    )
    add_data_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    folder = locate(arguments.data)
    if not folder.running().members:
        print(f"error: {folder.path} is still starting; try again in a moment", file=sys.stderr)
        return EXIT_REFUSED
    _check_names(folder.running(), arguments.names)
    for name in arguments.names:
        print(commands.send(folder, commands.Command(arguments.action, name), timeout_s=_TIMEOUT_S))
    if arguments.action in ("kill", "stop", "wipe", "pause"):
        back = "resume" if arguments.action == "pause" else "start"
        label = "back, empty" if arguments.action == "wipe" else "undo"
        names = " ".join(arguments.names)
        print(f"watch it: objstore watch    {label}: objstore chaos {back} {names}", file=sys.stderr)
    return 0


def _check_names(state: State, names: list[str]) -> None:
    """All or none: a misspelt second name must not leave the first one killed."""
    known = [member.name for member in state.members]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"there is no {name!r} in this cluster; there are {', '.join(known)}")
