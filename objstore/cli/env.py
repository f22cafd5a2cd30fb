"""`objstore env`: the variables that point S3 clients (aws, boto3, rclone, ...) at the cluster, for eval."""

from __future__ import annotations

import argparse
import shlex

from objstore.local.folder import State, locate


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
