"""`objstore status`: one verdict with its reasons, and what to do next. Starts fast: neither asyncio nor aiohttp.

Exit code: 0 HEALTHY, 3 DEGRADED or AT_RISK, 4 UNAVAILABLE or UNKNOWN.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from objstore.admin import text
from objstore.admin.collect import observe
from objstore.admin.snapshot import build
from objstore.admin.status import EXIT_CODES, Status, to_json
from objstore.cli.env import add_data_flag
from objstore.cli.progress import is_terminal
from objstore.local.folder import locate
from objstore.model.errors import ConfigError


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
        if arguments.config and arguments.data:
            raise ConfigError("give --data (a cluster of `objstore up`) or --config (any other), not both")
        self._folder = None if arguments.config else locate(arguments.data)
        if arguments.config:
            from objstore import config

            loaded = config.load(Path(arguments.config), os.environ)
            self._coordinator, self._secret = loaded.coordinator.address, loaded.cluster.secret

    def status(self) -> Status:
        """Raises if nothing runs on the folder."""
        if self._folder is not None:
            state = self._folder.running()
            self._coordinator, self._secret = state.coordinator, state.cluster_secret
        return build(observe(self._coordinator, self._secret, local=self._folder is not None))


def run(arguments: argparse.Namespace) -> int:
    status = Source(arguments).status()
    if arguments.json:
        print(to_json(status).decode())
    else:
        print(text.render(status, colour=is_terminal(sys.stdout) and "NO_COLOR" not in os.environ))
    return EXIT_CODES[status.verdict]
