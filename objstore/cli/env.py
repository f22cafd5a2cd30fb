"""`objstore env`: the variables that point S3 clients (aws, boto3, rclone, ...) at the cluster, for eval. And which
cluster any command is about."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from objstore.local.folder import POINTER_VARIABLE, Folder, State, locate
from objstore.model.errors import ConfigError

CONFIG_VARIABLE = "OBJSTORE_CONFIG"
SECRET_VARIABLES = ("OBJSTORE_CLUSTER__SECRET", "OBJSTORE_CLUSTER__SECRET_FILE")


class Meant(NamedTuple):
    """Which cluster a command is about. A folder of `objstore up`; else a configuration: its file, or none, where the
    environment says all that there is, as in a container."""

    folder: Folder | None
    path: Path | None


def which_cluster(arguments: argparse.Namespace) -> Meant:
    """By --config, --data, $OBJSTORE_CONFIG, $OBJSTORE_DATA, a secret in the environment, the last one that was started
    here; the first of those that there is."""
    if arguments.config and arguments.data:
        raise ConfigError("give --data (a cluster of `objstore up`) or --config (any other), not both")
    if arguments.config:
        return Meant(None, Path(arguments.config))
    if not arguments.data:
        if path := os.environ.get(CONFIG_VARIABLE):
            return Meant(None, Path(path))
        if not os.environ.get(POINTER_VARIABLE) and any(name in os.environ for name in SECRET_VARIABLES):
            return Meant(None, None)
    return Meant(locate(arguments.data), None)


def client_environment(state: State) -> dict[str, str]:
    """What every AWS SDK reads."""
    return {
        "AWS_ACCESS_KEY_ID": state.access_key,
        "AWS_SECRET_ACCESS_KEY": state.secret_key,
        "AWS_ENDPOINT_URL": state.endpoints[0] if state.endpoints else "",
        "AWS_DEFAULT_REGION": state.region,
    }


def export_lines(state: State) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in client_environment(state).items()]


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="data folder of the cluster (default: $OBJSTORE_DATA, else the most recently started one)",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = 'Use it as: eval "$(objstore env)"'
    add_data_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    print("\n".join(export_lines(locate(arguments.data).running())))
    return 0
