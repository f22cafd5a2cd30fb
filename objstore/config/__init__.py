"""The configuration: `kinds` says what a value may be, `sections` which keys there are, `load` reads them."""

from objstore.config.load import load
from objstore.config.sections import (
    AccessKey,
    ClusterSection,
    Config,
    CoordinatorSection,
    GatewaySection,
    LogSection,
    NodeSection,
    RepairSection,
    Setting,
    missing,
)

__all__ = [
    "AccessKey",
    "ClusterSection",
    "Config",
    "CoordinatorSection",
    "GatewaySection",
    "LogSection",
    "NodeSection",
    "RepairSection",
    "Setting",
    "load",
    "missing",
]
