"""Metrics as Prometheus reads them (text format 0.0.4), and the status of the cluster as metrics. Pure.

A family that is not in the catalogue, or has other labels than it says there, is a bug: KeyError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, get_args

from objstore.admin.codes import CODES
from objstore.admin.metrics import CATALOGUE, Metric
from objstore.admin.status import Status, Verdict
from objstore.model.histogram import Histogram
from objstore.model.survey import RepairState, Survey
from objstore.model.usage import BucketUse, UsageHead

Value: TypeAlias = int | float | Histogram
HEALTH: Mapping[Verdict, int] = {"HEALTHY": 0, "DEGRADED": 1, "AT_RISK": 2, "UNAVAILABLE": 2, "UNKNOWN": 2}


class Family(NamedTuple):
    """A metric with its samples: values of its labels, in the order of the catalogue -> value."""

    name: str
    samples: Mapping[tuple[str, ...], Value]


def single(name: str, value: Value) -> Family:
    return Family(name, {(): value})


def render(families: Iterable[Family]) -> bytes:
    lines: list[str] = []
    for family in families:
        metric = CATALOGUE[family.name]
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
        for values, value in family.samples.items():
            labels = _labels(metric, values)
            if isinstance(value, Histogram):
                lines += _histogram(metric.name, labels, value)
            else:
                lines.append(f"{metric.name}{_braces(labels)} {_number(value)}")
    return "\n".join([*lines, ""]).encode()


def _labels(metric: Metric, values: tuple[str, ...]) -> list[str]:
    return [f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, values, strict=True)]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _braces(labels: list[str]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""


def _number(value: int | float) -> str:
    return repr(value)


def _histogram(name: str, labels: list[str], value: Histogram) -> Iterable[str]:
    below = 0
    for bound, count in zip((*map(_number, value.bounds), "+Inf"), value.counts, strict=True):
        below += count
        bucket = f'le="{bound}"'
        yield f"{name}_bucket{_braces([*labels, bucket])} {below}"
    yield f"{name}_sum{_braces(labels)} {_number(value.total)}"
    yield f"{name}_count{_braces(labels)} {below}"


def of_cluster(
    status: Status, survey: Survey | None, usage: UsageHead | None = None, buckets: Sequence[BucketUse] = ()
) -> list[Family]:
    """The cluster as every screen shows it. What is not known now is left out, never 0.

    `survey`: what the leader of repair counts since it leads."""
    codes = {reason.code for reason in status.reasons}
    members = [node for node in status.nodes if node.state != "spare"]
    families = [
        single("objstore_health_status", HEALTH[status.verdict]),
        Family("objstore_health_check", {(code,): int(code in codes) for code in CODES}),
        Family("objstore_can_lose_nodes", {} if status.can_lose is None else {(): status.can_lose}),
        Family("objstore_node_up", {(node.name,): int(node.state == "up") for node in members}),
        Family("objstore_node_capacity_bytes", {(node.name,): node.capacity_bytes for node in members}),
        Family(
            "objstore_node_used_bytes",
            {(node.name,): node.used_bytes for node in members if node.used_bytes is not None},
        ),
        Family(
            "objstore_clock_skew_seconds",
            {(node.name,): node.clock_skew_s for node in members if node.clock_skew_s is not None},
        ),
    ]
    return [
        *families,
        *_of_data(status),
        *_of_repair(status, survey),
        *_of_notify(status, survey),
        *_of_lifecycle(survey),
        *_of_buckets(status, usage, buckets),
    ]


def _of_data(status: Status) -> list[Family]:
    counts = status.objects
    by_redundancy: dict[tuple[str, ...], Value] = {}
    if counts is not None:
        by_redundancy = {(name,): getattr(counts, name) for name in ("full", "reduced", "minimum", "unreadable")}
    age: dict[tuple[str, ...], Value] = {}
    if status.as_of_ms is not None:
        age = {(): max(0, status.at_ms - status.as_of_ms) / 1000}
    scrubs = {node.name: node.scrub for node in status.nodes if node.scrub is not None}
    return [
        Family("objstore_objects", by_redundancy),
        Family("objstore_view_age_seconds", age),
        Family(
            "objstore_scrub_last_completed_timestamp_seconds",
            {(name,): scrub.last.finished_ms / 1000 for name, scrub in scrubs.items()},
        ),
        Family(
            "objstore_scrub_errors_total",
            {
                (name, kind): getattr(scrub.found_ever, kind)
                for name, scrub in scrubs.items()
                for kind in scrub.found_ever.__struct_fields__
            },
        ),
    ]


def _of_repair(status: Status, survey: Survey | None) -> list[Family]:
    repair = status.repair
    names = ("state", "queue_objects", "items", "objects_total", "bytes_total")
    if repair is None or survey is None:
        return [
            Family("objstore_oldest_damage_seconds", {}),
            *(Family(f"objstore_repair_{name}", {}) for name in names),
        ]
    waiting = repair.total - repair.done
    age = (status.at_ms - repair.started_ms) / 1000 if waiting and repair.started_ms else 0
    return [
        single("objstore_oldest_damage_seconds", max(0, age)),
        Family("objstore_repair_state", {(state,): int(state == repair.state) for state in get_args(RepairState)}),
        single("objstore_repair_queue_objects", waiting),
        Family("objstore_repair_items", {("retrying",): repair.retrying, ("failed",): repair.failed}),
        Family("objstore_repair_objects_total", {("restored",): survey.repaired_objects}),
        Family("objstore_repair_bytes_total", {("rebuilt",): survey.rebuilt_bytes, ("moved",): survey.moved_bytes}),
    ]


def _of_notify(status: Status, survey: Survey | None) -> list[Family]:
    targets = survey.notify if survey is not None else []
    return [
        Family("objstore_notify_pending_events", {(target.name,): target.pending for target in targets}),
        Family(
            "objstore_notify_oldest_seconds",
            {
                (target.name,): max(0, status.at_ms - target.oldest_ms) / 1000 if target.oldest_ms else 0
                for target in targets
            },
        ),
        Family(
            "objstore_notify_swept_total",
            {
                (target.name, result): count
                for target in targets
                for result, count in (
                    ("delivered", target.delivered),
                    ("failed", target.failed),
                    ("dropped", target.given_up),
                )
            },
        ),
    ]


def _of_lifecycle(survey: Survey | None) -> list[Family]:
    found = survey.lifecycle if survey is not None else None
    if found is None:
        names = ("last_completed_timestamp_seconds", "last_round_seconds", "last_errors", "keys_total", "actions_total")
        return [Family(f"objstore_lifecycle_{name}", {}) for name in (*names, "expired_bytes_total")]
    ever = found.ever.plus(found.now)
    ended = found.last_ended_ms / 1000
    took = ended - found.last_started_ms / 1000

    def of_last(value: float) -> dict[tuple[str, ...], Value]:
        return {(): value} if ended else {}

    actions: dict[tuple[str, ...], Value] = {
        ("expired",): ever.expired,
        ("marked",): ever.marked,
        ("aborted",): ever.aborted,
    }
    return [
        Family("objstore_lifecycle_last_completed_timestamp_seconds", of_last(ended)),
        Family("objstore_lifecycle_last_round_seconds", of_last(took)),
        Family("objstore_lifecycle_last_errors", of_last(found.last.errors)),
        single("objstore_lifecycle_keys_total", ever.keys),
        Family("objstore_lifecycle_actions_total", actions),
        single("objstore_lifecycle_expired_bytes_total", ever.expired_bytes),
    ]


def _of_buckets(status: Status, usage: UsageHead | None, buckets: Sequence[BucketUse]) -> list[Family]:
    age_s: dict[tuple[str, ...], Value] = {}
    if usage is not None:
        age_s = {(): max(0, status.at_ms - usage.as_of_ms) / 1000}
    quotas: dict[tuple[str, ...], Value] = {
        (one.name,): one.quota.bytes for one in buckets if one.quota is not None and one.quota.bytes
    }
    return [
        Family("objstore_bucket_objects", {(one.name,): one.use.objects for one in buckets}),
        Family("objstore_bucket_bytes", {(one.name,): one.use.as_need().bytes for one in buckets}),
        Family("objstore_bucket_quota_bytes", quotas),
        Family("objstore_bucket_usage_age_seconds", age_s),
    ]
