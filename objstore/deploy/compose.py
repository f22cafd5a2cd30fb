"""A Compose file: a whole cluster on one machine in containers, with HAProxy in front of two gateways.

For trials and small installations: the machine is one point of failure. Secrets come from the environment, and
without them nothing starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from objstore.deploy import containers, haproxy, yaml
from objstore.deploy.site import Gateway, Site, header, port_of

SECRET, KEYS = containers.SECRET, containers.KEYS
FILES = "/run/secrets"  # where Compose puts them
GATEWAYS = ("g1", "g2")
REPAIRERS = ("r1", "r2")
COORDINATOR = "c1"
BALANCER = "balancer"
_NODE_STOP_S = 15
_NOTES = (
    "Needs Compose 2.23.1 or newer. The image, made in the folder that holds pyproject.toml:",
    "  objstore config print image | docker build --tag {image} --file - .",
    "The secrets, in a file .env beside this one, mode 0600:",
    f"  {SECRET}=... (openssl rand -hex 32)    {KEYS}=NAME:... (openssl rand -hex 20)",
)
_FILE_NOTE = f"The files below `secrets` keep owner and mode: user {containers.USER} must be able to read them."


def render(site: Site) -> str:
    notes = tuple(note.format(image=site.image) for note in _NOTES)
    notes += tuple(f"  {name}=... ({how})" for name, how in containers.secrets(site, "node").items() if name != SECRET)
    notes += (_FILE_NOTE,) if containers.files(site) else ()
    return header(site, "Compose file", notes) + yaml.dump(_file(site))


def _file(site: Site) -> dict[str, Any]:
    nodes = [f"n{number}" for number in range(1, site.nodes + 1)]
    keep = [*([COORDINATOR] if containers.uses_coordinator(site) else []), *nodes]
    services: dict[str, Any] = {}
    files = containers.files(site)
    if containers.uses_coordinator(site):
        services[COORDINATOR] = _service(site, "coordinator", COORDINATOR, stop_s=_NODE_STOP_S)
    for number, name in enumerate(nodes):
        services[name] = _service(site, "node", name, stop_s=_NODE_STOP_S)
        if site.zones:
            services[name]["environment"]["OBJSTORE_NODE__ZONE"] = site.zones[number % len(site.zones)]
    for name in REPAIRERS:
        services[name] = _service(site, "repairer", name, stop_s=_NODE_STOP_S)
    for name in GATEWAYS:
        services[name] = _service(site, "gateway", name, stop_s=containers.stop_s(site))
        services[name]["healthcheck"] = {
            "test": ["CMD", *containers.ready_check(site)],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "120s",
        }
    services[BALANCER] = _balancer(site)
    return {
        "name": site.name.lower().replace(".", "-"),
        "services": services,
        "volumes": {name: {} for name in keep},
        "configs": {"haproxy": {"content": _balancer_config(site)}},
        **({"secrets": {name: {"file": path} for name, path in files.items()}} if files else {}),
    }


def _service(site: Site, role: str, name: str, *, stop_s: int) -> dict[str, Any]:
    advertise = f"{name}:{port_of(site.config.node.listen)}" if role == "node" else ""
    secrets = {name: f"${{{name}:?{how}}}" for name, how in containers.secrets(site, role).items()}
    environment = {**containers.environment(site, COORDINATOR, FILES), **secrets}
    if role == "repairer":  # which makes the first map
        environment["OBJSTORE_CLUSTER__INITIAL_NODES"] = str(site.nodes)
    return {
        "image": site.image,
        "command": containers.arguments(site, role, name=name, advertise=advertise),
        "environment": environment,
        **({"secrets": list(files)} if (files := containers.files(site)) else {}),
        **({"volumes": [f"{name}:{containers.DATA}"]} if role in ("coordinator", "node") else {}),
        **({"depends_on": [COORDINATOR]} if role != "coordinator" and containers.uses_coordinator(site) else {}),
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "stop_grace_period": f"{stop_s}s",
    }


def _balancer(site: Site) -> dict[str, Any]:
    port = port_of(site.config.gateway.listen)
    return {
        "image": "haproxy:lts",
        "configs": [{"source": "haproxy", "target": "/usr/local/etc/haproxy/haproxy.cfg"}],
        "ports": [f"127.0.0.1:{port}:{port}"],
        "depends_on": {name: {"condition": "service_healthy"} for name in GATEWAYS},
        "restart": "unless-stopped",
    }


def _balancer_config(site: Site) -> str:
    port = port_of(site.config.gateway.listen)
    inside = replace(site, gateways=tuple(Gateway(name, f"{name}:{port}") for name in GATEWAYS))
    return haproxy.render(inside, f":{port}", moving=True).replace(
        "$", "$$"
    )  # a single one would be a variable to Compose
