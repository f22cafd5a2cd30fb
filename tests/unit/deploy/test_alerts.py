"""The printed alerts, run by Prometheus' own test program over what the exporter says in each situation."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from objstore.admin.codes import CODES
from objstore.admin.exposition import Family, of_cluster, render, single
from objstore.admin.snapshot import Observation, build
from objstore.config import Config
from objstore.deploy import grafana, prometheus
from objstore.deploy.site import Gateway, Site
from tests.unit.admin.test_codes import seen_for
from tests.unit.admin.test_snapshot import HEALTHY
from tests.unit.deploy.test_files import need

SITE = Site(Config(), (Gateway("g1", "10.0.0.1:9000"),))
STEP_MINUTES = 5
LASTS_MINUTES = 90
FIRING = 'group by (alertname) (ALERTS{alertstate="firing"})'
ALONE = "ObjstoreDegraded"
# What fires for each code, besides ALONE. A code that is not here has nothing else.
FIRES = {
    "NODE_DOWN": {"ObjstoreNodeDown"},
    "NODE_LATE": {"ObjstoreNodeDown"},
    "NODE_OUT": {"ObjstoreNodeDown"},
    "NODE_FULL": {"ObjstoreNodeNearfull"},
    "NODE_NEARFULL": {"ObjstoreNodeNearfull"},
    "CLUSTER_FULL": {"ObjstoreNodeNearfull", "ObjstoreQuorumLost", "ObjstoreUnhealthy"},
    "MAP_NEARFULL": {"ObjstoreMapNearfull"},
    "FSYNC_SLOW": {"ObjstoreFsyncSlow"},
    "CLOCK_SKEW": {"ObjstoreClockSkew"},
    "QUORUM_LOST": {"ObjstoreNodeDown", "ObjstoreQuorumLost", "ObjstoreUnhealthy"},
    "WRITE_QUORUM_LOST": {"ObjstoreQuorumLost", "ObjstoreUnhealthy"},
    "GATEWAY_DOWN": {"ObjstoreUnhealthy"},
    "COORDINATOR_DOWN": {"ObjstoreUnhealthy"},
    "REPAIRER_DOWN": {"ObjstoreRepairBlocked"},
    "VIEW_STALE": {"ObjstoreUnhealthy"},
    "OBJECT_UNREADABLE": {"ObjstoreObjectsUnreadable", "ObjstoreUnhealthy"},
    "REPAIR_BLOCKED": {"ObjstoreRepairBlocked"},
    "REPAIR_FAILED": {"ObjstoreRepairBlocked"},
    "REPAIR_STALLED": {"ObjstoreRepairBlocked", "ObjstoreRepairNotFalling"},
    "SCRUB_LATE": {"ObjstoreScrubLate"},
    "METADATA_LOST": {"ObjstoreUnhealthy"},
    "RECOVERY_UNFINISHED": {"ObjstoreUnhealthy"},
    "CLUSTER_FORMING": {"ObjstoreUnhealthy"},
}


def exported(seen: Observation, *more: Family, cluster: str = SITE.name) -> dict[str, str]:
    """The series that Prometheus would have, with the label of the scrape, and their values."""
    found = {}
    for line in render([*of_cluster(build(seen), seen.survey), *more]).decode().splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            labelled = f"{series[:-1]}, " if series.endswith("}") else f"{series}{{"
            found[f'{labelled}cluster="{cluster}"}}'] = value
    return found


def situation(name: str, series: dict[str, str], fires: set[str]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": f"{STEP_MINUTES}m",
        "input_series": [
            {"series": one, "values": f"{value}x{LASTS_MINUTES // STEP_MINUTES}"} for one, value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": f"{LASTS_MINUTES}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(fires)],
            }
        ],
    }


def judge(folder: Path, *situations: dict[str, Any]) -> None:
    (folder / "alerts.yml").write_text(prometheus.alerts(SITE))
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": f"{STEP_MINUTES}m", "tests": situations}
    (folder / "tests.yml").write_text(json.dumps(tests))
    run("test", "rules", str(folder / "tests.yml"))


def run(*words: str) -> None:
    found = subprocess.run([need("promtool"), *words], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr


def test_each_health_code_fires_its_alerts_and_no_other(tmp_path: Path) -> None:
    assert set(FIRES) <= set(CODES)
    judge(
        tmp_path,
        situation("healthy", exported(HEALTHY, single("objstore_coordinator_up", 1)), set()),
        *(
            situation(
                code,
                exported(seen_for(code), single("objstore_coordinator_up", 1)),
                FIRES.get(code, set()) | ({ALONE} if CODES[code].severity != "info" else set()),
            )
            for code in CODES
        ),
    )


def test_what_processes_say_of_themselves_fires_too(tmp_path: Path) -> None:
    healthy = exported(HEALTHY)
    cut_off = exported(HEALTHY, single("objstore_coordinator_up", 0))
    up = {f'up{{job="{prometheus.GATEWAYS_JOB}", instance="g{n}:9000", cluster="{SITE.name}"}}': str(n) for n in (0, 1)}
    judge(
        tmp_path,
        situation("nobody is seen", {}, {"ObjstoreNotSeen"}),
        situation("no coordinator", cut_off, {"ObjstoreCoordinatorDown"}),
        situation("one gateway is gone", healthy | up, {"ObjstoreProcessDown"}),
    )


def test_another_cluster_of_the_same_prometheus_is_not_ours(tmp_path: Path) -> None:
    """Neither its damage nor its health."""
    bad, good = (exported(seen, cluster="another") for seen in (seen_for("OBJECT_UNREADABLE"), HEALTHY))
    judge(
        tmp_path,
        situation("the other is damaged", exported(HEALTHY) | bad, set()),
        situation("only the other is seen", good, {"ObjstoreNotSeen"}),
    )


@pytest.mark.parametrize("listen", ["", "10.0.0.1:9101"])
def test_prometheus_accepts_what_is_to_be_scraped(tmp_path: Path, listen: str) -> None:
    metrics = replace(SITE.config.metrics, listen=listen)
    site = replace(SITE, config=replace(SITE.config, metrics=metrics), node_addresses=("10.0.0.7:7701",))
    (tmp_path / "prometheus.yml").write_text(prometheus.scrape(site))
    run("check", "config", "--syntax-only", str(tmp_path / "prometheus.yml"))


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    board = json.loads(grafana.render(SITE))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert all(f'cluster="{SITE.name}"' in expression for expression in asked)
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    run("check", "rules", str(tmp_path / "panels.yml"))
