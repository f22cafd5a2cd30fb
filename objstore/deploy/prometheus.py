"""Prometheus: what to scrape, and the rules of its alerts, from the catalogue that the processes export by."""

from __future__ import annotations

import re
from typing import Any

from objstore.admin.metrics import ALERTS, Alert
from objstore.deploy import yaml
from objstore.deploy.site import Site, header, port_of

TOKEN_FILE = "/etc/prometheus/objstore.token"
_NOTES = (
    "Each names the code whose meaning and cure `objstore health CODE` prints. They are about targets with the label",
    'cluster="{name}" in jobs objstore-*, as `objstore config print prometheus` makes them.',
)
GATEWAYS_JOB, NODES_JOB = "objstore-gateways", "objstore-nodes"
_SERIES = re.compile(r"\b(objstore_\w+|up)\b(\{?)")


def alerts(site: Site) -> str:
    group: dict[str, Any] = {"name": f"objstore {site.name}", "rules": [_rule(site, alert) for alert in ALERTS]}
    notes = tuple(note.format(name=site.name) for note in _NOTES)
    return header(site, "Alerts", notes) + yaml.dump({"groups": [group]})


def within(site: Site, expr: str) -> str:
    """The expression over the series of this cluster: one Prometheus may watch several."""

    def select(match: re.Match[str]) -> str:
        return f'{match[1]}{{cluster="{site.name}"' + (", " if match[2] else "}")

    return _SERIES.sub(select, expr)


def _rule(site: Site, alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": within(site, alert.expr),
        "for": alert.hold,
        "labels": {"severity": alert.severity, "cluster": site.name},
        "annotations": {"summary": alert.summary, "runbook": f"objstore health {alert.code}"},
    }


def scrape(site: Site) -> str:
    """Gateways speak for the cluster and for themselves; the other processes where metrics.listen says."""
    metrics = site.config.metrics
    jobs: list[dict[str, Any]] = []
    notes: tuple[str, ...] = ()
    if metrics.gateway != "off":
        job = _job(site, GATEWAYS_JOB, "/_objstore/metrics", [gateway.address for gateway in site.gateways])
        if metrics.gateway == "token":
            notes = (f"Once, on the machine of Prometheus: objstore health --token > {TOKEN_FILE}",)
            job["authorization"] = {"type": "Bearer", "credentials_file": TOKEN_FILE}
        jobs.append(job)
    if metrics.listen and (port := port_of(metrics.listen)):
        targets = [f"{host}:{port}" for host in sorted({address.rpartition(":")[0] for address in site.node_addresses})]
        jobs.append(_job(site, NODES_JOB, "/metrics", targets))
    else:
        notes += ("Nodes and repairers export nothing: metrics.listen is not set, or without a port.",)
    return header(site, "Part of prometheus.yml", notes) + yaml.dump({"scrape_configs": jobs})


def _job(site: Site, name: str, path: str, targets: list[str]) -> dict[str, Any]:
    return {
        "job_name": name,
        "metrics_path": path,
        "static_configs": [{"targets": targets, "labels": {"cluster": site.name}}],
    }
