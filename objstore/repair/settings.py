"""What can be set about repair. The process that starts a Repairer fills this from its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from objstore.lifecycle.settings import LifecycleSettings
from objstore.model.cluster import ErasureCode
from objstore.model.limits import PARTITION_BITS
from objstore.model.survey import Budget


@dataclass(frozen=True, slots=True)
class RepairSettings:
    # the first map
    code: ErasureCode
    partition_bits: int = PARTITION_BITS
    codec: str = "isal"
    initial_nodes: int = 0  # 0: as many as the code needs
    # failure
    down_after_s: float = 15.0
    out_after_s: float = 600.0  # until then a silent node's share waits for its return
    steady_s: float = 5.0  # a returned node counts when it has stayed this long
    # pace
    interval_s: float = 0.5  # between two looks at the cluster
    election_ttl_s: float = 5.0
    budget: Budget = "auto"  # unless an operator orders another
    jobs: int = 8  # segments in work at a time
    jobs_per_node: int = 3  # ... that write to one node
    # deletion
    garbage_delay_s: float = 60.0  # from the moment a blob is retired to the deletion of its fragments
    orphan_age_s: float = 86_400.0  # fragments that nothing ever referred to
    orphan_round_s: float = 600.0  # between two looks for them, and for what is left of uploads and buckets
    upload_age_s: float = 86_400.0  # how long an upload that has ended, or a deleted bucket, is remembered
    tombstone_age_s: float = 86_400.0  # until the register of a deleted key is forgotten, and older writes refused
    lifecycle: LifecycleSettings = field(default_factory=LifecycleSettings)
    deletions_per_hour: int = 1_000_000  # fragments; a circuit breaker, not a pace
