"""Where an etcd is and how one gets in, as plain data; and what its versions are good for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from objstore.model.errors import ConfigError

if TYPE_CHECKING:
    import ssl

ATTEMPT_S = 2.0  # one member has so long to answer; then it is another's turn
LEADER_HEADER = "Grpc-Metadata-hasleader"  # with it a member that is cut off from the others refuses, and at once
TOKEN_HEADER = "Authorization"
_SOUND = {(3, 4): 22, (3, 5): 6}  # the first patch release without known loss or corruption of data


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """`endpoints`: URLs, without a slash at the end. `namespace`: what all our keys begin with.

    The certificate only opens the connection: over the JSON gateway etcd knows its users by password alone."""

    endpoints: tuple[str, ...]
    namespace: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)

    def tls(self) -> ssl.SSLContext | None:
        """None when no endpoint is https. Reads files; raises ConfigError."""
        if not any(endpoint.startswith("https:") for endpoint in self.endpoints):
            return None
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ConfigError(f"coordinator.tls_ca = {self.ca} cannot be used: {error.strerror or error}") from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                files = f"coordinator.tls_cert = {self.cert} and coordinator.tls_key = {self.key}"
                raise ConfigError(f"{files} cannot be used: {error.strerror or error}") from error
        return context


def words_of(error: OSError) -> str:
    """Why there is no connection."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = f"no connection ({error.strerror or error})"
    if "_ssl.c" not in text:
        return text
    return f"{text}; look at coordinator.tls_ca, and at coordinator.tls_cert if etcd asks clients for certificates"


def too_old(version: str) -> str:
    """Why this version of etcd cannot be used, or ""."""
    if _numbers(version)[:2] >= (3, 4):
        return ""
    return f"etcd {version} is too old: 3.4.22 or 3.5.6 is the least"


def unsound(version: str) -> str:
    """Why this version of etcd should not be used, or ""."""
    major, minor, patch = _numbers(version)
    least = _SOUND.get((major, minor), 0)
    if patch >= least:
        return ""
    return f"etcd {version} has known faults that lose data: upgrade it to {major}.{minor}.{least} or later"


def _numbers(version: str) -> tuple[int, int, int]:
    parts = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split("-")[0].split(".")[:3]]
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return major, minor, patch
