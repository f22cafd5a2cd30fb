"""What a generator knows of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from objstore import __version__
from objstore.config import Config

READY_PATH = "/_objstore/health/ready"


class Gateway(NamedTuple):
    name: str
    address: str  # host:port


@dataclass(frozen=True, slots=True)
class Site:
    """`config_path`: where its configuration file will be on each machine. `zones`: none = one, unnamed."""

    config: Config
    gateways: tuple[Gateway, ...] = ()
    node_addresses: tuple[str, ...] = ()  # host:port of each
    config_path: str = "/etc/objstore/cluster.toml"
    program: str = "/usr/local/bin/objstore"
    image: str = f"objstore:{__version__}"
    zones: tuple[str, ...] = ()
    credentials: dict[str, str] = field(default_factory=dict)  # further files with secrets: name -> path

    @property
    def name(self) -> str:
        return self.config.cluster.name

    @property
    def nodes(self) -> int:
        """To start with. One more than the code needs, so that repair has somewhere to go."""
        return self.config.cluster.initial_nodes or self.config.cluster.code.nodes_min + 1


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def header(site: Site, what: str, notes: tuple[str, ...] = ()) -> str:
    """The first lines of a file, as comments."""
    origin = f"{what} of cluster {site.name}. Made by `objstore config print`; when that changes, print it again."
    lines = [origin, *notes]
    return "".join(f"# {line}\n" for line in lines)
