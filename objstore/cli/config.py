"""`objstore config`: look at a configuration, check it, and print files for the programs that a cluster is run with.

Which gateways there are is not in the configuration: they are named, or a cluster that runs is asked for them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from objstore.cli.connect import add_cluster_flags, connected
from objstore.cli.env import which_cluster
from objstore.cluster.port import GATEWAYS, NODES
from objstore.config import Config, load
from objstore.config.kinds import parse_size, show_size
from objstore.deploy import compose, containers, grafana, haproxy, kubernetes, prometheus, systemd
from objstore.deploy.site import Gateway, Site
from objstore.model.cluster import decode_gateway_lease, decode_node_lease
from objstore.model.errors import ConfigError, Unavailable

TARGETS = {
    "haproxy": "a balancer in front of the gateways",
    "systemd": "a unit for --role, or all of them",
    "compose": "containers of a whole cluster on one machine",
    "image": "how to make their image",
    "kubernetes": "manifests",
    "prometheus": "what to scrape",
    "alerts": "rules for Prometheus",
    "grafana": "a dashboard to import",
}

REPEAT_MAX = 128 << 20  # half of the longest buffer that HAProxy takes


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    show = commands.add_parser("show", help="every setting, its value, and where it comes from; secrets stay hidden")
    show.add_argument("--json", action="store_true", help="the same for programs")
    check = commands.add_parser("check", help="whether the configuration is right; says nothing if it is")
    what = argparse.RawDescriptionHelpFormatter
    targets = "targets:\n" + "\n".join(f"  {name:<11} {text}" for name, text in TARGETS.items())
    output = commands.add_parser("print", help="a file for another program", formatter_class=what, epilog=targets)
    output.add_argument("target", choices=list(TARGETS), metavar="target", help="one of those below")
    output.add_argument("--gateway", action="append", default=[], metavar="HOST:PORT", help="where one is; repeat it")
    output.add_argument("--node", action="append", default=[], metavar="HOST:PORT", help="for prometheus: of a node")
    output.add_argument("--bind", default=":80", metavar="[HOST]:PORT", help="where HAProxy listens (default :80)")
    output.add_argument(
        "--repeat",
        type=_size,
        default=haproxy.BODY_BYTES_MAX,
        metavar="SIZE",
        help="of haproxy: a PUT up to so long is sent to another gateway when its own breaks (default 256KiB); "
        "each request in flight may cost it twice as much memory",
    )
    output.add_argument("--role", choices=("coordinator", "node", "repairer", "gateway"), help="of the systemd unit")
    output.add_argument("--image", metavar="NAME", help="of the containers")
    output.add_argument("--zones", default="", metavar="A,B,C", help="of compose and kubernetes: to spread nodes over")
    for command in (show, check, output):
        add_cluster_flags(command)


def _size(text: str) -> int:
    try:
        if (found := parse_size(text)) <= REPEAT_MAX:
            return found
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a size up to {show_size(REPEAT_MAX)}, such as 1MiB")


def run(arguments: argparse.Namespace) -> int:
    config, path = read(arguments)
    if arguments.command == "show":
        return _show(config, as_json=arguments.json)
    if arguments.command == "check":
        if not config.cluster.secret:
            raise ConfigError("cluster.secret is not set, and no role starts without it: openssl rand -hex 32")
        print(f"{path or 'the environment'}: no mistakes found", file=sys.stderr)
        return 0
    print(_PRINTERS[arguments.target](_site(arguments, config, path), arguments), end="")
    return 0


def read(arguments: argparse.Namespace) -> tuple[Config, Path | None]:
    """The configuration that is meant, and its file. A cluster of `up` need not run."""
    folder, path = which_cluster(arguments)
    if folder is not None:
        path = folder.config
    flags = {"coordinator.address": ("--coordinator", arguments.coordinator)} if arguments.coordinator else {}
    return load(path, os.environ, flags), path


def _show(config: Config, *, as_json: bool) -> int:
    rows = config.describe()
    if as_json:
        print(json.dumps({row.key: {"value": row.value, "origin": row.origin} for row in rows}, indent=2))
        return 0
    keys, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        print(f"{row.key:<{keys}}  {row.value:<{values}}  {row.origin}")
    return 0


def _site(arguments: argparse.Namespace, config: Config, path: Path | None) -> Site:
    site = Site(config, zones=tuple(filter(None, arguments.zones.split(","))))
    if arguments.image:
        site = replace(site, image=arguments.image)
    if path is not None:
        site = replace(site, config_path=str(path.absolute()), credentials=_files_beside(path))
    coordinator = site.config.coordinator
    named = {name: getattr(coordinator, name) for name in ("tls_ca", "tls_cert", "tls_key")}
    whole = {name: file.absolute() for name, file in named.items() if file is not None}
    site = replace(site, config=replace(config, coordinator=replace(coordinator, **whole)))
    program = Path(sys.executable).parent / "objstore"
    if program.exists():
        site = replace(site, program=str(program))
    return site


def _files_beside(path: Path) -> dict[str, str]:
    """Files that the configuration names and that lie in its folder: whoever moves it must move them too."""
    tables = tomllib.loads(path.read_text("utf-8"))
    sections = [*tables.values(), *tables.get("gateway", {}).get("keys", [])]
    named = {str(value) for section in sections for key, value in section.items() if _names_file(key)}
    folder = path.absolute().parent
    for name in sorted(named):
        if Path(name).name != name and not name.endswith((".pem", ".crt")):
            print(
                f"note: {name} must be readable by the user of the service. Beside {path.name}, and named there "
                "without a folder, systemd hands it over.",
                file=sys.stderr,
            )
    return {name: str(folder / name) for name in sorted(named) if Path(name).name == name}


def _names_file(key: str) -> bool:
    return key.endswith("_file") or key.startswith("tls_")


def _with_addresses(site: Site, arguments: argparse.Namespace) -> Site:
    if arguments.gateway:
        named = (Gateway(f"g{number}", address) for number, address in enumerate(arguments.gateway, 1))
        return replace(site, gateways=tuple(named), node_addresses=tuple(arguments.node))
    gateways, nodes = asyncio.run(_ask(arguments))
    return replace(site, gateways=gateways, node_addresses=tuple(arguments.node) or nodes)


async def _ask(arguments: argparse.Namespace) -> tuple[tuple[Gateway, ...], tuple[str, ...]]:
    """The gateways and the addresses of the nodes that run now."""
    try:
        async with connected(arguments) as access:
            entries, _ = await access.coordinator.range(GATEWAYS)
            nodes, _ = await access.coordinator.range(NODES)
    except (Unavailable, ConfigError) as error:
        raise Unavailable(f"which gateways there are is not known ({error}); name them: --gateway HOST:PORT") from error
    leases = sorted((decode_gateway_lease(entry.value) for entry in entries), key=lambda lease: (lease.name, lease.id))
    if not leases:
        raise Unavailable("no gateway of this cluster runs now; start them, or name them: --gateway HOST:PORT")
    names = [lease.name for lease in leases]
    gateways = (
        Gateway(lease.name if names.count(lease.name) == 1 else f"{lease.name}-{lease.id[:8]}", lease.address)
        for lease in leases
    )
    return tuple(gateways), tuple(sorted(decode_node_lease(entry.value).address for entry in nodes))


def _print_systemd(site: Site, arguments: argparse.Namespace) -> str:
    roles = systemd.roles_of(site)
    if arguments.role and arguments.role not in roles:
        raise ConfigError(f"this cluster has no {arguments.role}: coordinator.kind is {site.config.coordinator.kind}")
    return "\n".join(systemd.render(site, role) for role in roles if arguments.role in (None, role))


_PRINTERS: dict[str, Callable[[Site, argparse.Namespace], str]] = {
    "haproxy": lambda site, arguments: haproxy.render(
        _with_addresses(site, arguments), arguments.bind, body_max=arguments.repeat
    ),
    "systemd": _print_systemd,
    "compose": lambda site, _: compose.render(site),
    "image": lambda site, _: containers.DOCKERFILE,
    "kubernetes": lambda site, _: kubernetes.render(site),
    "prometheus": lambda site, arguments: prometheus.scrape(_with_addresses(site, arguments)),
    "alerts": lambda site, _: prometheus.alerts(site),
    "grafana": lambda site, _: grafana.render(site),
}
