"""Prometheus: what to scrape, and the rules of its alerts, from the catalogue that the processes export by."""

from __future__ import annotations

from typing import Any

from objstore.admin.metrics import ALERTS, Alert
from objstore.deploy import yaml
from objstore.deploy.site import Site, header, port_of

TOKEN_FILE = "/etc/prometheus/objstore.token"


def alerts(site: Site) -> str:
    group: dict[str, Any] = {"name": "objstore", "rules": [_rule(site, alert) for alert in ALERTS]}
    return header(site, "Alerts", ("Each names the code whose meaning and cure `objstore health CODE` prints.",)) + (
        yaml.dump({"groups": [group]})
    )


def _rule(site: Site, alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
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
        job = _job(site, "objstore-gateways", "/_objstore/metrics", [gateway.address for gateway in site.gateways])
        if metrics.gateway == "token":
            notes = (f"Once, on the machine of Prometheus: objstore health --token > {TOKEN_FILE}",)
            job["authorization"] = {"type": "Bearer", "credentials_file": TOKEN_FILE}
        jobs.append(job)
    if metrics.listen and (port := port_of(metrics.listen)):
        targets = [f"{host}:{port}" for host in sorted({address.rpartition(":")[0] for address in site.node_addresses})]
        jobs.append(_job(site, "objstore-nodes", "/metrics", targets))
    else:
        notes += ("Nodes and repairers export nothing: metrics.listen is not set, or without a port.",)
    return header(site, "Part of prometheus.yml", notes) + yaml.dump({"scrape_configs": jobs})


def _job(site: Site, name: str, path: str, targets: list[str]) -> dict[str, Any]:
    return {
        "job_name": name,
        "metrics_path": path,
        "static_configs": [{"targets": targets, "labels": {"cluster": site.name}}],
    }
