"""What Compose and Kubernetes have in common: settings by environment, arguments of each role."""

from __future__ import annotations

from objstore.config.kinds import FILE, FOLDER, OPTIONAL_ADDRESS
from objstore.config.sections import SECTION_TYPES, env_name, kinds_of
from objstore.deploy.site import Site, port_of

SECRET, KEYS = "OBJSTORE_CLUSTER__SECRET", "OBJSTORE_GATEWAY__KEYS"  # never printed; each deployment makes its own
PASSWORD, TOKEN = "OBJSTORE_COORDINATOR__PASSWORD", "OBJSTORE_METRICS__TOKEN"
DATA = "/data"
ENTRY = "objstore"
USER = 65532
DOCKERFILE = f"""\
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir /src && rm -r /src && install -d -o {USER} -m 0700 {DATA}
USER {USER}
VOLUME {DATA}
STOPSIGNAL SIGTERM
ENTRYPOINT ["{ENTRY}"]
"""
_OF_ONE_PROCESS = ("node.name", "node.zone", "coordinator.address", "coordinator.cluster_id")


def environment(site: Site, coordinator: str, folder: str) -> dict[str, str]:
    """What the configuration says other than the defaults, but for secrets and what each process has for itself.

    `coordinator`: the host of ours, if there is one. It is no argument of the process, so that commands that are run
    in a container find it too. `folder`: where `files` are in a container."""
    found = _settings(site) | {env_name(f"coordinator.{name}"): f"{folder}/{name}" for name in files(site)}
    if uses_coordinator(site):
        found["OBJSTORE_COORDINATOR__ADDRESS"] = f"{coordinator}:{port_of(site.config.coordinator.listen)}"
    if site.config.metrics.listen:  # each container has all ports for itself
        found["OBJSTORE_METRICS__LISTEN"] = f"0.0.0.0:{port_of(site.config.metrics.listen)}"
    return found


def files(site: Site) -> dict[str, str]:
    """Certificates and keys that every process needs: name -> where the configuration has it."""
    section = site.config.coordinator
    found = {"tls_ca": section.tls_ca, "tls_cert": section.tls_cert, "tls_key": section.tls_key}
    return {name: str(path) for name, path in found.items() if path is not None}


def secrets(site: Site, role: str) -> dict[str, str]:
    """Variables that such a process gets besides: name -> how a value is made, or what it is."""
    found = {SECRET: "openssl rand -hex 32"}
    if role == "gateway":
        found[KEYS] = "NAME:SECRET"
    if site.config.coordinator.password:
        found[PASSWORD] = f"of user {site.config.coordinator.user} in etcd"
    if site.config.metrics.token:
        found[TOKEN] = "openssl rand -hex 20"
    return found


def _settings(site: Site) -> dict[str, str]:
    tables = ((section, kinds_of(keys)) for section, keys in SECTION_TYPES.items())
    kinds = {f"{section}.{name}": kind for section, keys in tables for name, kind in keys.items()}
    return {
        env_name(setting.key): setting.value
        for setting in site.config.describe()
        if setting.origin != "default"
        and (kind := kinds.get(setting.key)) is not None
        and not kind.secret
        and kind not in (FILE, FOLDER, OPTIONAL_ADDRESS)
        and not setting.key.endswith(".listen")
        and setting.key not in _OF_ONE_PROCESS
    }


def arguments(site: Site, role: str, *, name: str = "", advertise: str = "") -> list[str]:
    """After the name of the program."""
    config = site.config
    listen = {"coordinator": config.coordinator.listen, "node": config.node.listen, "gateway": config.gateway.listen}
    words = ["serve", "--role", role]
    if name:
        words += ["--name", name]
    if role in ("coordinator", "node"):
        words += ["--data", DATA]
    if role in listen:
        words += ["--listen", f"0.0.0.0:{port_of(listen[role])}"]
    if advertise:
        words += ["--advertise", advertise]
    return words


def uses_coordinator(site: Site) -> bool:
    """One of our own; otherwise etcd is run by whoever runs the cluster."""
    return site.config.coordinator.kind == "embedded"


def ready_check(site: Site) -> list[str]:
    """Of a gateway, from inside its container: the image needs no curl."""
    return [ENTRY, "health", "--ready", "--endpoint", f"http://127.0.0.1:{port_of(site.config.gateway.listen)}"]


def stop_s(site: Site) -> int:
    """What a gateway may take to stop."""
    gateway = site.config.gateway
    return round(gateway.stop_notice_s + gateway.stop_timeout_s) + 5
