"""`objstore status`: one verdict with its reasons, and what to do next. Starts fast: neither asyncio nor aiohttp.

Exit code: 0 HEALTHY, 3 DEGRADED or AT_RISK, 4 UNAVAILABLE or UNKNOWN.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from objstore.admin import text
from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import EXIT_CODES, Status, to_json
from objstore.cli.env import add_data_flag, which_cluster
from objstore.cli.progress import is_terminal

if TYPE_CHECKING:
    from objstore.cluster.etcd_access import EtcdAccess


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code: 0 HEALTHY, 3 DEGRADED or AT_RISK, 4 UNAVAILABLE or UNKNOWN."
    add_source_flags(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON; the fields are in the README")


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    add_data_flag(parser)
    parser.add_argument("--config", metavar="FILE", help="a cluster that was not made by `up`: its configuration file")


class Source:
    """Where a status comes from: a folder of `objstore up`, or the configuration of any cluster."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._folder, path = which_cluster(arguments)
        if self._folder is None:
            from objstore import config

            loaded = config.load(path, os.environ)
            self._coordinator: str | EtcdAccess = loaded.coordinator.address
            self._secret = loaded.cluster.secret
            self._witnesses = [loaded.node.advertise or loaded.node.listen]
            if loaded.coordinator.kind == "etcd":
                from objstore.cli.whereabouts import etcd_access

                self._coordinator = etcd_access(loaded)

    def status(self) -> Status:
        """Raises if nothing runs on the folder."""
        if self._folder is not None:
            state = self._folder.running()
            self._coordinator, self._secret = state.coordinator, state.cluster_secret
            self._witnesses = [member.address for member in state.members if member.role == "node" and member.address]
        local = self._folder is not None
        seen = observe(self._coordinator, self._secret, local=local, witnesses=self._witnesses)
        if seen.nodes:
            self._witnesses = [node.address for node in seen.nodes]
        return build(seen)


def run(arguments: argparse.Namespace) -> int:
    status = Source(arguments).status()
    if arguments.json:
        print(to_json(status).decode())
    else:
        print(text.render(status, colour=is_terminal(sys.stdout) and "NO_COLOR" not in os.environ))
    return EXIT_CODES[status.verdict]
