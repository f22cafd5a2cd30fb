"""The catalogue is sound, and the exposition is what Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from objstore.admin.codes import CODES
from objstore.admin.exposition import Family, of_cluster, render
from objstore.admin.metrics import ALERTS, CATALOGUE, OBSERVERS, PANELS
from objstore.admin.snapshot import build
from objstore.model.histogram import Histogram
from objstore.model.survey import RepairProgress
from tests.unit.admin.test_snapshot import HEALTHY, NOT_HEALTHY, WHOLE, changed

_SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def samples(text: bytes) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            yield match[1], dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', match[2] or "")), float(match[3])


def names_in(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"objstore_[a-z0-9_]+", expression)}


def test_names_follow_the_conventions() -> None:
    for metric in CATALOGUE.values():
        assert re.fullmatch(r"objstore_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")
        assert metric.help.endswith(".") and metric.by


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_alerts_are_about_metrics_and_codes_that_exist(alert: object) -> None:
    assert alert in ALERTS
    names = names_in(alert.expr)  # type: ignore[attr-defined]
    assert (names or alert.expr.startswith("up{")) and names <= CATALOGUE.keys()  # type: ignore[attr-defined]
    assert alert.code in CODES  # type: ignore[attr-defined]
    for listed in re.findall(r'code=~"([A-Z_|]+)"', alert.expr):  # type: ignore[attr-defined]
        assert set(listed.split("|")) <= CODES.keys()
    assert re.fullmatch(r"\d+[mh]", alert.hold)  # type: ignore[attr-defined]


def test_panels_show_every_metric() -> None:
    shown = {name for panel in PANELS for _, expression in panel.series for name in names_in(expression)}
    assert shown <= CATALOGUE.keys()
    assert CATALOGUE.keys() - shown <= {"objstore_repair_items"}


@pytest.mark.parametrize("name", ["healthy", *NOT_HEALTHY])
def test_every_status_can_be_told(name: str) -> None:
    seen = HEALTHY if name == "healthy" else NOT_HEALTHY[name][0]
    status = build(seen)
    families = of_cluster(status, seen.survey)
    assert {family.name for family in families} == {
        metric.name for metric in CATALOGUE.values() if metric.by == OBSERVERS
    }
    found = list(samples(render(families)))
    checks = {labels["code"]: value for name, labels, value in found if name == "objstore_health_check"}
    assert checks.keys() == CODES.keys()
    assert {code for code, value in checks.items() if value} == {reason.code for reason in status.reasons}
    assert ("objstore_health_status", {}, 0.0 if name == "healthy" else pytest.approx(1.5, abs=0.5)) in found


def test_what_is_not_known_is_left_out() -> None:
    seen = changed(survey=None)
    told = {name for name, _, _ in samples(render(of_cluster(build(seen), None)))}
    assert not told & {"objstore_objects", "objstore_repair_queue_objects", "objstore_can_lose_nodes"}


def test_the_age_of_the_oldest_damage_is_that_of_the_repair() -> None:
    repair = RepairProgress("running", done=1, total=3, started_ms=HEALTHY.at_ms - 90_000)
    seen = changed(survey=msgspec.structs.replace(WHOLE, repair=repair, repaired_objects=7, rebuilt_bytes=100))
    found = list(samples(render(of_cluster(build(seen), seen.survey))))
    assert ("objstore_oldest_damage_seconds", {}, 90.0) in found
    assert ("objstore_repair_queue_objects", {}, 2.0) in found
    assert ("objstore_repair_state", {"state": "running"}, 1.0) in found
    assert ("objstore_repair_objects_total", {"result": "restored"}, 7.0) in found
    assert ("objstore_repair_bytes_total", {"kind": "rebuilt"}, 100.0) in found


def test_histograms_are_cumulative_and_labels_are_escaped() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(value)
    odd = 'a"b\\c\nd'
    text = render([Family("objstore_s3_request_duration_seconds", {(odd,): histogram})]).decode()
    assert text.splitlines()[1:] == [
        "# TYPE objstore_s3_request_duration_seconds histogram",
        'objstore_s3_request_duration_seconds_bucket{op="a\\"b\\\\c\\nd",le="0.1"} 2',
        'objstore_s3_request_duration_seconds_bucket{op="a\\"b\\\\c\\nd",le="1.0"} 3',
        'objstore_s3_request_duration_seconds_bucket{op="a\\"b\\\\c\\nd",le="+Inf"} 4',
        'objstore_s3_request_duration_seconds_sum{op="a\\"b\\\\c\\nd"} 3.65',
        'objstore_s3_request_duration_seconds_count{op="a\\"b\\\\c\\nd"} 4',
    ]


def test_the_reader_of_prometheus_agrees() -> None:
    histogram = Histogram()
    histogram.observe(0.2)
    families = [*of_cluster(build(HEALTHY), WHOLE), Family("objstore_fsync_duration_seconds", {(): histogram})]
    read = {family.name: family for family in text_string_to_metric_families(render(families).decode())}
    for family in families:
        metric = CATALOGUE[family.name]
        found = read[family.name.removesuffix("_total")]
        assert (found.type, found.documentation) == (metric.kind, metric.help)


def test_what_is_not_in_the_catalogue_cannot_be_exported() -> None:
    with pytest.raises(KeyError):
        render([Family("objstore_surprise", {(): 1})])
    with pytest.raises(ValueError):
        render([Family("objstore_node_up", {(): 1})])


def test_quantiles_are_upper_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    assert histogram.quantile(0.5) == 0.0
    for value in (0.5, 0.6, 1.5, 9.0):
        histogram.observe(value)
    assert [histogram.quantile(share) for share in (0.5, 0.75, 1.0)] == [1.0, 2.0, float("inf")]
    other = Histogram((1.0, 2.0))
    other.observe(1.7)
    histogram.add(other)
    assert (histogram.counts, histogram.count, histogram.total) == ([2, 2, 1], 5, pytest.approx(13.3))
