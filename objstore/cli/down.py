"""`objstore down`: end the cluster that runs on a data folder, in order, and wait until it is gone. Data stay."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time

from objstore.cli.env import add_data_flag
from objstore.cli.main import EXIT_TIMED_OUT
from objstore.local.folder import is_alive, locate

_TICK_S = 0.05


def configure(parser: argparse.ArgumentParser) -> None:
    add_data_flag(parser)
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="after this it is killed (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    folder = locate(arguments.data)
    state = folder.running()
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + arguments.timeout
    while is_alive(state.pid, state.ticks) and time.monotonic() < deadline:
        time.sleep(_TICK_S)
    if is_alive(state.pid, state.ticks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)  # its processes follow it
        print(
            f"the supervisor (pid {state.pid}) did not end in {arguments.timeout:.0f} s and was killed", file=sys.stderr
        )
        return EXIT_TIMED_OUT
    print(f"stopped; the data stay in {folder.path}", file=sys.stderr)
    return 0
