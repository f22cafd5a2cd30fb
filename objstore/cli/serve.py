"""Runs one process of a cluster until SIGTERM or SIGINT, then closes it in order.

When it serves it prints one line of JSON to stdout: {"ready": true, "role", "name", "address", "pid"}; whoever
asked for port 0 learns the address from it. systemd is told too, where it asks. Everything else goes to stderr. Exit
codes: 0 stopped when asked to; 1 a fatal error; 2 a wrong configuration. What each role consists of is in `roles`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import signal
import sys
from pathlib import Path

from objstore.adapters import systemd
from objstore.adapters.process import die_with_parent
from objstore.cli import logging_lines
from objstore.cli.env import CONFIG_VARIABLE
from objstore.cli.roles import ROLES, Context
from objstore.config import Config, load, missing
from objstore.model.errors import ConfigError, ObjstoreError

log = logging.getLogger(__name__)

GARBAGE_ALLOCATIONS = 20_000  # between two looks for cycles
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", required=True, choices=sorted(ROLES), help="all: a whole cluster in one process")
    parser.add_argument("--config", metavar="FILE", help=f"cluster.toml; without it: ${CONFIG_VARIABLE}, or no file")
    parser.add_argument("--data", metavar="DIR", help="folder for the data of this process")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where this process listens; port 0: any free one")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="for a node: the address that others reach it by")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where the coordinator is")
    parser.add_argument("--name", help="what people call this process; for a node unique in its cluster")
    parser.add_argument("--zone", help="for a node: what fails together with it")
    parser.add_argument("--check", action="store_true", help="print every setting and where it is from, then end")
    parser.add_argument(
        "--die-with-parent",
        nargs="?",
        type=int,
        const=0,
        metavar="PID",
        help="be killed when the process that started this one ends; with its PID also if it has ended already",
    )
    parser.add_argument("--worker", metavar="POOL", help=argparse.SUPPRESS)  # one of several gateway processes


def run(arguments: argparse.Namespace) -> int:
    if arguments.die_with_parent is not None and not die_with_parent(arguments.die_with_parent):
        print("error: the parent process is gone, or this system cannot follow it; not starting", file=sys.stderr)
        return 1
    config = read_config(arguments)
    if arguments.check:
        print_settings(config)
        return 0
    name = arguments.name or (config.node.name if arguments.role == "node" else "") or platform.node()
    logging_lines.set_up(config.log.format, config.log.level, name)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(arguments, config, name))


def read_config(arguments: argparse.Namespace) -> Config:
    path = arguments.config or os.environ.get(CONFIG_VARIABLE)
    config = load(Path(path) if path else None, os.environ, flags_of(arguments))
    if not config.cluster.secret:
        raise missing("cluster.secret", arguments.role)
    return config


def flags_of(arguments: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Which key each flag sets: it depends on the role. Flags that a role has no use for are accepted."""
    keys = {
        "coordinator": {"data": "coordinator.data", "listen": "coordinator.listen"},
        "node": {"data": "node.data", "listen": "node.listen"},
        "gateway": {"listen": "gateway.listen"},
        "repairer": {},
        "all": {"data": "node.data", "listen": "gateway.listen"},
    }[arguments.role]
    keys |= {"advertise": "node.advertise", "coordinator": "coordinator.address", "zone": "node.zone"}
    if arguments.role == "node":
        keys["name"] = "node.name"
    given = {key: (f"--{flag}", getattr(arguments, flag)) for flag, key in keys.items()}
    return {key: (flag, value) for key, (flag, value) in given.items() if value is not None}


def print_settings(config: Config) -> None:
    rows = config.describe()
    keys, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        print(f"{row.key:<{keys}}  {row.value:<{values}}  {row.origin}")


async def _main(arguments: argparse.Namespace, config: Config, name: str) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        for number in _STOP_SIGNALS:  # a second one ends the process at once
            loop.remove_signal_handler(number)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    pool = Path(arguments.worker) if arguments.worker else None
    context = Context.of_this_process(
        config, arguments.role, name, worker=pool is not None, argv=sys.argv[1:], pool=pool
    )
    pinging = None
    if (within_s := systemd.watchdog_s(os.getpid())) is not None:
        pinging = asyncio.create_task(systemd.ping(within_s / systemd.PINGS_PER_TIMEOUT), name="watchdog of systemd")
    work = asyncio.create_task(_live(context))
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
    if asked.done():
        log.info("asked to stop; closing")
        if not context.worker:
            systemd.notify(systemd.STOPPING)
        work.cancel()
    asked.cancel()
    try:
        await work
    except asyncio.CancelledError:
        log.info("stopped")
    except ConfigError:
        raise
    except ObjstoreError as error:
        log.critical("%s", error)
        return 1
    finally:
        if pinging is not None:
            pinging.cancel()
    return 0


def _collect_less() -> None:
    """Modules and what else lives as long as the process is never looked at again, and cycles wait until there are more
    of them: requests make none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_ALLOCATIONS)


async def _live(context: Context) -> None:
    """From start to the cancellation that ends it; raises what is fatal."""
    async with context.exporter.running(listens=not context.worker), ROLES[context.role](context) as address:
        ready = {"ready": True, "role": context.role, "name": context.name, "address": address, "pid": os.getpid()}
        _collect_less()
        log.info("ready at %s", address or "no address of its own")
        logging_lines.flush()
        print(json.dumps(ready), flush=True)  # BrokenPipeError here: whoever started us is gone, and so are we
        if not context.worker:
            systemd.notify(systemd.READY, f"STATUS={context.role} {context.name} serves at {address or 'no address'}")
        raise await asyncio.shield(context.fatal)
