"""All canaries."""

from __future__ import annotations

from tests.sim.canaries import (
    planted_append,
    planted_engine,
    planted_nodes,
    planted_notify,
    planted_registers,
    planted_rename,
    planted_repair,
    planted_versions,
)
from tests.sim.canaries.canary import Canary

CANARIES: tuple[Canary, ...] = (
    *planted_registers.CANARIES,
    *planted_rename.CANARIES,
    *planted_nodes.CANARIES,
    *planted_engine.CANARIES,
    *planted_append.CANARIES,
    *planted_notify.CANARIES,
    *planted_repair.CANARIES,
    *planted_versions.CANARIES,
)
