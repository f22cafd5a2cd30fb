"""How a command reaches a running cluster: which one is meant, its configuration, its coordinator and its nodes.

A cluster of `objstore up` is found by its folder (--data), any other by its configuration file (--config).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from objstore.cli.coordination import coordinator_of
from objstore.cli.env import add_data_flag, which_cluster
from objstore.cluster.port import CLUSTER_KEY, Coordinator
from objstore.config import Config, load
from objstore.model.errors import ConfigError, Unavailable
from objstore.rpc.client import TcpTransport


@dataclass(frozen=True, slots=True)
class Access:
    """`local`: the cluster was made by `objstore up`, so that its processes can be started by `objstore chaos`."""

    config: Config
    cluster_id: str
    coordinator: Coordinator
    transport: TcpTransport
    local: bool


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    add_data_flag(parser)
    parser.add_argument("--config", metavar="FILE", help="a cluster that was not made by `up`: its configuration file")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="with --config: where the coordinator is")


def config_of(arguments: argparse.Namespace) -> Config:
    """Of a cluster of `up`: its cluster.toml, and the address that its coordinator has now. Raises ConfigError."""
    folder, path = which_cluster(arguments)
    if folder is None:
        flags = {"coordinator.address": ("--coordinator", arguments.coordinator)} if arguments.coordinator else {}
        config = load(path, os.environ, flags)
    else:
        state = folder.running()
        config = load(folder.config, os.environ, {"coordinator.address": (str(folder.path), state.coordinator)})
    if not config.cluster.secret:
        where = "write it into the configuration file, or set OBJSTORE_CLUSTER__SECRET"
        raise ConfigError(f"cluster.secret is not set: {where}")
    return config


@asynccontextmanager
async def connected(arguments: argparse.Namespace) -> AsyncIterator[Access]:
    """Raises ConfigError, or Unavailable when the coordinator does not answer."""
    config = config_of(arguments)
    async with AsyncExitStack() as stack:
        transport = TcpTransport(config.cluster.secret.encode(), "")
        stack.push_async_callback(transport.close)
        coordinator = coordinator_of(config, transport)
        stack.push_async_callback(coordinator.close)
        entry = await coordinator.get(CLUSTER_KEY)
        if entry is None:
            raise Unavailable("the coordinator does not say which cluster this is; has a node started?")
        transport.cluster_id = cluster_id = str(json.loads(entry.value)["id"])
        yield Access(config, cluster_id, coordinator, transport, local=which_cluster(arguments).folder is not None)
