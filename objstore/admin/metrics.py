"""The catalogue: every metric that any process exports, the alerts on them, and the panels of the dashboard. Pure data.

What processes export, `objstore config print alerts|grafana`, and the documentation are all made from here; a test
scrapes a real cluster and holds it against this list. Names are for ever. What is said of the whole cluster (`node_up`,
`objects`, ...) is exported by every gateway and repairer, from the same status as every screen: join them with
`max by (...)`, which is also right while some of them cannot see everything.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram"]

ALL = ("coordinator", "node", "repairer", "gateway")
FOLLOWERS = ("node", "repairer", "gateway")  # of the coordinator
OBSERVERS = ("repairer", "gateway")  # export the status of the cluster


class Metric(NamedTuple):
    name: str
    kind: Kind
    by: tuple[str, ...]  # roles
    labels: tuple[str, ...]
    help: str


_CATALOGUE = (
    # of each process
    Metric("objstore_build_info", "gauge", ALL, ("version", "role"), "Always 1; the version that runs."),
    Metric("objstore_event_loop_lag_seconds", "histogram", ALL, (), "How late a timer fires, sampled all the time."),
    Metric("objstore_coordinator_up", "gauge", FOLLOWERS, (), "1 while the coordinator answers this process."),
    Metric("objstore_coordinator_last_contact_seconds", "gauge", FOLLOWERS, (), "Since the coordinator answered last."),
    # of the cluster
    Metric(
        "objstore_health_status",
        "gauge",
        OBSERVERS,
        (),
        "0 HEALTHY, 1 DEGRADED, 2 AT_RISK, UNAVAILABLE or UNKNOWN.",
    ),
    Metric("objstore_health_check", "gauge", OBSERVERS, ("code",), "1 while this health code holds."),
    Metric("objstore_can_lose_nodes", "gauge", OBSERVERS, (), "Nodes that may still be lost; absent when not known."),
    Metric("objstore_objects", "gauge", OBSERVERS, ("redundancy",), "Objects: full, reduced, minimum, unreadable."),
    Metric("objstore_view_age_seconds", "gauge", OBSERVERS, (), "Since repair looked at the data."),
    Metric("objstore_oldest_damage_seconds", "gauge", OBSERVERS, (), "For so long there has been something to repair."),
    Metric("objstore_node_up", "gauge", OBSERVERS, ("node",), "1 if the node answers."),
    Metric("objstore_node_capacity_bytes", "gauge", OBSERVERS, ("node",), "What the node may hold."),
    Metric("objstore_node_used_bytes", "gauge", OBSERVERS, ("node",), "What the node holds, its index included."),
    Metric(
        "objstore_clock_skew_seconds", "gauge", OBSERVERS, ("node",), "The node's clock minus the median of all clocks."
    ),
    Metric(
        "objstore_scrub_last_completed_timestamp_seconds",
        "gauge",
        OBSERVERS,
        ("node",),
        "When the node had last read back all that it holds; 0: never.",
    ),
    Metric(
        "objstore_scrub_errors_total", "counter", OBSERVERS, ("node", "kind"), "Damage that reading back has found."
    ),
    Metric("objstore_repair_state", "gauge", OBSERVERS, ("state",), "1 for the state that repair is in."),
    Metric("objstore_repair_queue_objects", "gauge", OBSERVERS, (), "Objects that wait for repair."),
    Metric(
        "objstore_repair_items",
        "gauge",
        OBSERVERS,
        ("state",),
        "Segments that failed: retrying (soon), failed (often).",
    ),
    Metric(
        "objstore_repair_objects_total",
        "counter",
        OBSERVERS,
        ("result",),
        "Objects that repair has restored, by the leader.",
    ),
    Metric("objstore_repair_bytes_total", "counter", OBSERVERS, ("kind",), "Bytes of shards rebuilt, or moved."),
    Metric(
        "objstore_lifecycle_last_completed_timestamp_seconds",
        "gauge",
        OBSERVERS,
        (),
        "When the last round of lifecycle ended; absent: none has.",
    ),
    Metric("objstore_lifecycle_last_round_seconds", "gauge", OBSERVERS, (), "How long it took."),
    Metric("objstore_lifecycle_last_errors", "gauge", OBSERVERS, (), "Keys that wait for the next round."),
    Metric("objstore_lifecycle_keys_total", "counter", OBSERVERS, (), "Keys looked at, of buckets with rules."),
    Metric(
        "objstore_lifecycle_actions_total",
        "counter",
        OBSERVERS,
        ("action",),
        "Versions expired, objects put under delete markers (marked), uploads aborted.",
    ),
    Metric("objstore_lifecycle_expired_bytes_total", "counter", OBSERVERS, (), "Bytes of versions that expired."),
    Metric("objstore_notify_pending_events", "gauge", OBSERVERS, ("target",), "Notifications that wait for delivery."),
    Metric("objstore_notify_oldest_seconds", "gauge", OBSERVERS, ("target",), "Age of the oldest of them; 0: none."),
    Metric(
        "objstore_notify_swept_total",
        "counter",
        OBSERVERS,
        ("target", "result"),
        "Notifications that the leader of repair delivered, failed to (and tries again), or dropped as too old.",
    ),
    Metric(
        "objstore_bucket_objects", "gauge", OBSERVERS, ("bucket",), "Objects; of buckets with a quota and the largest."
    ),
    Metric("objstore_bucket_bytes", "gauge", OBSERVERS, ("bucket",), "All versions, and parts of open uploads."),
    Metric("objstore_bucket_quota_bytes", "gauge", OBSERVERS, ("bucket",), "The quota; of buckets that have one."),
    Metric("objstore_bucket_usage_age_seconds", "gauge", OBSERVERS, (), "Since what is in the buckets was counted."),
    # of a node
    Metric(
        "objstore_fsync_duration_seconds",
        "histogram",
        ("node",),
        (),
        "A group commit: volumes, journal and index made durable.",
    ),
    Metric("objstore_lmdb_map_size_bytes", "gauge", ("node",), (), "What the metadata index may grow to."),
    Metric("objstore_lmdb_map_used_bytes", "gauge", ("node",), (), "What of it is in use."),
    # of a gateway
    Metric("objstore_s3_requests_total", "counter", ("gateway",), ("op", "code"), "Requests, by HTTP status."),
    Metric("objstore_s3_request_duration_seconds", "histogram", ("gateway",), ("op",), "Until the last byte."),
    Metric("objstore_s3_first_byte_seconds", "histogram", ("gateway",), ("op",), "Until the first byte of the answer."),
    Metric("objstore_s3_bytes_total", "counter", ("gateway",), ("direction",), "Bytes of bodies, in and out."),
    Metric(
        "objstore_notify_deliveries_total",
        "counter",
        ("gateway",),
        ("target", "result"),
        "Notifications that this gateway delivered, or failed to, of what it wrote.",
    ),
    Metric("objstore_s3_requests_in_flight", "gauge", ("gateway",), (), "Requests that are being answered now."),
)

CATALOGUE = {metric.name: metric for metric in _CATALOGUE}


class Alert(NamedTuple):
    name: str
    expr: str  # for one cluster; whoever prints it says which
    hold: str  # how long it must be so: Prometheus' `for`
    severity: Literal["page", "ticket"]
    code: str  # the section of HEALTH.md that says what to do
    summary: str


def _check(*codes: str) -> str:
    return f'max by (code) (objstore_health_check{{code=~"{"|".join(codes)}"}}) == 1'


ALERTS = (
    Alert(
        "ObjstoreObjectsUnreadable",
        'max(objstore_objects{redundancy="unreadable"}) > 0',
        "0m",
        "page",
        "OBJECT_UNREADABLE",
        "{{ $value }} objects cannot be read",
    ),
    Alert(
        "ObjstoreUnhealthy",
        "max(objstore_health_status) == 2",
        "5m",
        "page",
        "QUORUM_LOST",
        "data are at risk, requests fail, or nobody can tell: objstore health",
    ),
    Alert(
        "ObjstoreQuorumLost",
        _check("QUORUM_LOST", "WRITE_QUORUM_LOST", "CLUSTER_FULL"),
        "1m",
        "page",
        "WRITE_QUORUM_LOST",
        "writes fail: {{ $labels.code }}",
    ),
    Alert(
        "ObjstoreNoMargin",
        'max(objstore_objects{redundancy="minimum"}) > 0',
        "10m",
        "page",
        "REDUNDANCY_LOW",
        "{{ $value }} objects cannot lose another shard",
    ),
    Alert(
        "ObjstoreNotSeen",
        "absent(objstore_health_status)",
        "5m",
        "page",
        "GATEWAY_DOWN",
        "no gateway or repairer exports metrics",
    ),
    Alert(
        "ObjstoreProcessDown",
        'up{job=~"objstore-.*"} == 0',
        "5m",
        "ticket",
        "GATEWAY_DOWN",
        "{{ $labels.instance }} does not show its metrics",
    ),
    Alert(
        "ObjstoreDegraded",
        "max(objstore_health_status) >= 1",
        "1h",
        "ticket",
        "REDUNDANCY_LOW",
        "for an hour not all has been well: objstore health",
    ),
    Alert(
        "ObjstoreNodeDown",
        "max by (node) (objstore_node_up) == 0",
        "5m",
        "ticket",
        "NODE_DOWN",
        "node {{ $labels.node }} does not answer",
    ),
    Alert(
        "ObjstoreDamageOld",
        "max(objstore_oldest_damage_seconds) > 3600",
        "0m",
        "ticket",
        "REDUNDANCY_LOW",
        "for an hour there has been something to repair",
    ),
    Alert(
        "ObjstoreRepairNotFalling",
        "min(objstore_repair_queue_objects) > 0 and "
        "min(objstore_repair_queue_objects) >= min(objstore_repair_queue_objects offset 30m)",
        "30m",
        "ticket",
        "REPAIR_STALLED",
        "the queue of repair does not become shorter",
    ),
    Alert(
        "ObjstoreRepairBlocked",
        _check("REPAIR_BLOCKED", "REPAIR_FAILED", "REPAIR_STALLED", "REPAIRER_DOWN"),
        "10m",
        "ticket",
        "REPAIR_BLOCKED",
        "repair cannot go on: {{ $labels.code }}",
    ),
    Alert(
        "ObjstoreNodeNearfull",
        _check("NODE_NEARFULL", "NODE_FULL"),
        "10m",
        "ticket",
        "NODE_NEARFULL",
        "a node is nearly full, or full: {{ $labels.code }}",
    ),
    Alert(
        "ObjstoreMapNearfull",
        _check("MAP_NEARFULL"),
        "10m",
        "ticket",
        "MAP_NEARFULL",
        "the metadata index of a node is nearly full",
    ),
    Alert(
        "ObjstoreScrubLate",
        _check("SCRUB_LATE"),
        "1h",
        "ticket",
        "SCRUB_LATE",
        "a node has not read back what it holds for 45 days",
    ),
    Alert(
        "ObjstoreCoordinatorDown",
        "max(objstore_coordinator_up) == 0",
        "2m",
        "page",
        "COORDINATOR_DOWN",
        "no process reaches the coordinator: membership stands still",
    ),
    Alert(
        "ObjstoreClockSkew",
        "max by (node) (abs(objstore_clock_skew_seconds)) > 5",
        "5m",
        "ticket",
        "CLOCK_SKEW",
        "the clock of {{ $labels.node }} is {{ $value }} s off",
    ),
    Alert(
        "ObjstoreFsyncSlow",
        _check("FSYNC_SLOW"),
        "10m",
        "ticket",
        "FSYNC_SLOW",
        "a disk takes long to make writes durable",
    ),
    Alert(
        "ObjstoreVersionMixed",
        _check("VERSION_MIXED"),
        "24h",
        "ticket",
        "VERSION_MIXED",
        "processes of different versions have run for a day",
    ),
)


class Panel(NamedTuple):
    """One picture of the dashboard. `series`: (legend, expression); `unit` in Grafana's words."""

    title: str
    unit: str
    series: tuple[tuple[str, str], ...]


def _quantile(share: float, metric: str, by: str = "") -> str:
    inner = f"sum by (le{', ' + by if by else ''}) (rate({metric}_bucket[5m]))"
    return f"histogram_quantile({share}, {inner})"


PANELS = (
    Panel("Health", "none", (("status (0 healthy, 1 degraded, 2 bad)", "max(objstore_health_status)"),)),
    Panel("Codes", "none", (("{{code}}", "max by (code) (objstore_health_check) == 1"),)),
    Panel("Objects by redundancy", "short", (("{{redundancy}}", "max by (redundancy) (objstore_objects)"),)),
    Panel(
        "Nodes",
        "short",
        (("up", "sum(max by (node) (objstore_node_up))"), ("can lose", "min(objstore_can_lose_nodes)")),
    ),
    Panel(
        "Repair",
        "short",
        (
            ("waiting", "max(objstore_repair_queue_objects)"),
            ("restored/s", "max by (result) (rate(objstore_repair_objects_total[5m]))"),
            ("state {{state}}", "max by (state) (objstore_repair_state) == 1"),
        ),
    ),
    Panel("Repair, bytes written", "Bps", (("{{kind}}", "max by (kind) (rate(objstore_repair_bytes_total[5m]))"),)),
    Panel(
        "Age",
        "s",
        (
            ("oldest damage", "max(objstore_oldest_damage_seconds)"),
            ("view of the data", "max(objstore_view_age_seconds)"),
            ("contact with the coordinator", "max(objstore_coordinator_last_contact_seconds)"),
        ),
    ),
    Panel(
        "Space",
        "percentunit",
        (
            (
                "{{node}}",
                "max by (node) (objstore_node_used_bytes) / max by (node) (objstore_node_capacity_bytes)",
            ),
        ),
    ),
    Panel("Requests", "reqps", (("{{op}} {{code}}", "sum by (op, code) (rate(objstore_s3_requests_total[5m]))"),)),
    Panel("In flight", "short", (("{{instance}}", "objstore_s3_requests_in_flight"),)),
    Panel("Throughput", "Bps", (("{{direction}}", "sum by (direction) (rate(objstore_s3_bytes_total[5m]))"),)),
    Panel("Duration, p99", "s", (("{{op}}", _quantile(0.99, "objstore_s3_request_duration_seconds", "op")),)),
    Panel("First byte, p99", "s", (("{{op}}", _quantile(0.99, "objstore_s3_first_byte_seconds", "op")),)),
    Panel(
        "Durable write, p99", "s", (("{{instance}}", _quantile(0.99, "objstore_fsync_duration_seconds", "instance")),)
    ),
    Panel(
        "Event loop lag, p99", "s", (("{{instance}}", _quantile(0.99, "objstore_event_loop_lag_seconds", "instance")),)
    ),
    Panel(
        "Index",
        "percentunit",
        (("{{instance}}", "objstore_lmdb_map_used_bytes / objstore_lmdb_map_size_bytes"),),
    ),
    Panel("Clock skew", "s", (("{{node}}", "max by (node) (objstore_clock_skew_seconds)"),)),
    Panel(
        "Scrub",
        "short",
        (
            (
                "days since {{node}}",
                "(time() - max by (node) (objstore_scrub_last_completed_timestamp_seconds)) / 86400",
            ),
            ("damage found {{kind}}", "sum by (kind) (max by (node, kind) (objstore_scrub_errors_total))"),
        ),
    ),
    Panel(
        "Notifications",
        "short",
        (
            ("waiting {{target}}", "max by (target) (objstore_notify_pending_events)"),
            ("oldest, s {{target}}", "max by (target) (objstore_notify_oldest_seconds)"),
            ("{{target}} {{result}}/s", "sum by (target, result) (rate(objstore_notify_deliveries_total[5m]))"),
            (
                "{{target}} {{result}}/s by repair",
                "max by (target, result) (rate(objstore_notify_swept_total[5m]))",
            ),
        ),
    ),
    Panel(
        "Lifecycle",
        "short",
        (
            ("{{action}}/s", "max by (action) (rate(objstore_lifecycle_actions_total[1h]))"),
            ("expired, bytes/s", "max(rate(objstore_lifecycle_expired_bytes_total[1h]))"),
            ("last round, s", "max(objstore_lifecycle_last_round_seconds)"),
            ("keys seen/s", "max(rate(objstore_lifecycle_keys_total[1h]))"),
            (
                "hours since the last round",
                "(time() - max(objstore_lifecycle_last_completed_timestamp_seconds)) / 3600",
            ),
            ("keys that wait", "max(objstore_lifecycle_last_errors)"),
        ),
    ),
    Panel("Buckets, objects", "short", (("{{bucket}}", "max by (bucket) (objstore_bucket_objects)"),)),
    Panel(
        "Buckets, bytes",
        "bytes",
        (
            ("{{bucket}}", "max by (bucket) (objstore_bucket_bytes)"),
            ("{{bucket}}, quota", "max by (bucket) (objstore_bucket_quota_bytes)"),
        ),
    ),
    Panel("Buckets, age of what is shown", "s", (("age", "min(objstore_bucket_usage_age_seconds)"),)),
    Panel("Coordinator", "none", (("answers", "max(objstore_coordinator_up)"),)),
    Panel("Versions", "short", (("{{role}} {{version}}", "count by (role, version) (objstore_build_info)"),)),
)
