"""systemd units: one service per role, each with its configuration as a credential and nothing else of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from objstore.deploy.site import Site, header, port_of

_UNIT = """\
[Unit]
Description=objstore {role} of cluster {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={program} serve --role {role} --config ${{CREDENTIALS_DIRECTORY}}/cluster.toml{flags}
LoadCredential=cluster.toml:{config}
{credentials}# Settings of this machine alone: OBJSTORE_NODE__ZONE=rack-7, OBJSTORE_NODE__ADVERTISE=10.0.0.11:7701, ...
EnvironmentFile=-/etc/objstore/{role}.env
{user}
Restart=on-failure
RestartSec=2
# 2: the configuration is wrong; another try would not help
RestartPreventExitStatus=2
# It checks what it holds before it serves
TimeoutStartSec={start_s}
TimeoutStopSec={stop_s:.0f}
WatchdogSec=60
# The workers of a gateway are told by their first process
KillMode=mixed
LimitNOFILE=65536

UMask=0077
NoNewPrivileges=yes
{capabilities}ProtectSystem=strict
ProtectHome=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""

STATE = Path("/var/lib")
STOP_MARGIN_S = 15.0  # beyond what a role may take by itself; then systemd kills it


@dataclass(frozen=True, slots=True)
class _Role:
    """`start_s`: what it may take until it serves: with data, reading its index; else waiting for the others."""

    data: Path | None
    port: int = 0
    stop_s: float = 0.0
    start_s: str = "infinity"


def render(site: Site, role: str) -> str:
    one = _roles(site)[role]
    capability = "CAP_NET_BIND_SERVICE" if 0 < one.port < 1024 else ""
    return header(site, f"/etc/systemd/system/objstore-{role}.service") + _UNIT.format(
        role=role,
        name=site.name,
        program=site.program,
        config=site.config_path,
        credentials="".join(f"LoadCredential={name}:{path}\n" for name, path in site.credentials.items()),
        start_s=one.start_s,
        stop_s=one.stop_s + STOP_MARGIN_S,
        capabilities=f"CapabilityBoundingSet={capability}\nAmbientCapabilities={capability}\n",
        **_place(role, one.data),
    )


def roles_of(site: Site) -> tuple[str, ...]:
    return tuple(_roles(site))


def _roles(site: Site) -> dict[str, _Role]:
    config = site.config
    gateway = config.gateway
    roles = {
        "node": _Role(config.node.data, port_of(config.node.listen), 10.0),
        "repairer": _Role(None),
        "gateway": _Role(None, port_of(gateway.listen), gateway.stop_notice_s + gateway.stop_timeout_s),
    }
    if config.coordinator.kind == "etcd":
        return roles
    return {"coordinator": _Role(config.coordinator.data, port_of(config.coordinator.listen)), **roles}


def _place(role: str, data: Path | None) -> dict[str, str]:
    """User and data folder. A folder outside of /var/lib needs an owner who stays the same."""
    if role in ("repairer", "gateway"):
        return {"user": "DynamicUser=yes", "flags": ""}
    if data is None or not data.is_absolute() or data.is_relative_to(STATE):
        folder = data.relative_to(STATE) if data is not None and data.is_absolute() else Path(f"objstore-{role}")
        user = f"DynamicUser=yes\nStateDirectory={folder}\nStateDirectoryMode=0700"
        return {"user": user, "flags": f" --data {STATE / folder}"}
    user = f"# useradd --system objstore; install -d -o objstore -m 0700 {data}\nUser=objstore\nReadWritePaths={data}"
    return {"user": user, "flags": f" --data {data}"}
