"""The command line: finds the command, imports only its module, turns errors into sentences and exit codes.

Each command is a module with `configure(parser)` and `run(arguments) -> exit code`. Data go to stdout, messages to
stderr. Exit codes: 0 done; 1 error; 2 wrong usage; 3 degraded; 4 unavailable; 5 timed out waiting; 6 refused as
unsafe; 7 something has changed since it was looked at; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 4
EXIT_TIMED_OUT = 5
EXIT_REFUSED = 6
EXIT_CONFLICT = 7
EXIT_INTERRUPTED = 130

COMMANDS = {
    "demo": "start a cluster, fill it, kill nodes, watch it repair itself, compare every byte; leaves nothing behind",
    "up": "start a cluster of separate processes on this machine",
    "down": "end the cluster that `up` started",
    "env": "print the variables that point S3 clients at it, for eval",
    "status": "one verdict with its reasons, and what to do next",
    "health": "the same code by code: what each means and what to do; probes for balancers and scripts",
    "watch": "the same, live: nodes, redundancy, repair",
    "scrub": "read back what nodes store: status, start, pause, resume, rate",
    "repair": "what repair does; pause it, set its budget, try everything now",
    "damage": "which objects are hurt, where, why, and what happens next",
    "logs": "the log lines of all processes in order of time, or those of one request",
    "recover": "bring the metadata back when too many nodes lost their index at once",
    "node": "list, add, drain, replace, remove or resize nodes; may one be stopped now?",
    "plan": "look at the staged changes of nodes, apply or discard them",
    "placement": "how evenly data would lie, and what would move, for any change of nodes",
    "bucket": "what is in each bucket; quotas, inventories, what has changed",
    "migrate": "serve a bucket while it is copied from another S3 service; see how far that is",
    "encryption": "keys for encryption at rest: make one, see what is under which, rotate",
    "notify": "event notifications: targets, what waits for them, which one does not answer",
    "lifecycle": "what rules of buckets have ended in the last round, and when the next begins",
    "user": "who may sign in beside the keys of the configuration, and which policies they have",
    "key": "access keys of users: create, rotate, disable",
    "role": "what users may be for a time, with temporary credentials from STS: create, trust, attach, delete",
    "policy": "what users may do: list, show, create, delete",
    "config": "look at a configuration, check it, print files for haproxy, systemd, kubernetes, prometheus, ...",
    "bench": "measure any S3 endpoint, or one beside another; draw what was measured",
    "chaos": "kill, stop, pause, resume, start, restart or wipe a process of it",
    "serve": "run one process of a cluster (for production and for `up`)",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; say nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name not in COMMANDS:
        _overview().parse_args(arguments)  # --help and --version end here, and so does a wrong command
        _overview().print_help()
        return EXIT_USAGE
    from objstore.model.errors import ConfigError, InvalidRequest, ObjstoreError, Unavailable

    module = importlib.import_module(f"objstore.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"objstore {name}", description=COMMANDS[name])
    module.configure(parser)
    try:
        return int(module.run(parser.parse_args(arguments[1:])))
    except ObjstoreError as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, ConfigError | InvalidRequest):
            return EXIT_USAGE
        return EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR


def _overview() -> argparse.ArgumentParser:
    from objstore import __version__

    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="objstore",
        description="A small, strongly consistent, erasure-coded S3 object store whose repair one can watch and trust.",
        epilog="commands:\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
        + "\n\nobjstore COMMAND --help says more. Begin with: objstore up",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"objstore {__version__}")
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), metavar="command", help="one of those below")
    return parser


if __name__ == "__main__":
    sys.exit(main())
