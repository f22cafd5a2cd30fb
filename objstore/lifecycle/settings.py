"""What can be set about lifecycle. The process that starts a repairer fills this from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from objstore.model.lifecycle import DAY_MS


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    interval_s: float = 3600.0  # from the begin of a round to that of the next
    day_ms: int = DAY_MS  # tests do not wait for a day
