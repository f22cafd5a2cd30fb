"""What `objstore config print` makes: accepted by the programs that read it, or at least by a parser, and true."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml as parser

from objstore.admin import metrics
from objstore.cli.serve import configure as configure_serve
from objstore.config import Config, load
from objstore.config.sections import SECTION_TYPES, env_name, kinds_of
from objstore.deploy import compose, containers, grafana, haproxy, kubernetes, prometheus, systemd
from objstore.deploy.site import Gateway, Site

SECRET, KEY = "this must not be printed", "nor must this be printed"
TEXT = f"""
[cluster]
name = "prod"
code = "4+2"
secret = "{SECRET}"
[coordinator]
data = "/var/lib/objstore/coordinator"
[node]
data = "/srv/objstore"
reserve = "2GiB"
[gateway]
workers = 3
stop_timeout_s = 40
[[gateway.keys]]
access_key = "someone"
secret_key = "{KEY}"
[repair]
out_after_s = 900
"""
GATEWAYS = (Gateway("g1", "10.0.0.1:9000"), Gateway("g2", "10.0.0.2:9000"))


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is not installed, and CI needs it: see .ci/run")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "cluster.toml"
    path.write_text(TEXT)
    path.chmod(0o600)
    program = str(Path(sys.executable).parent / "objstore")
    return Site(load(path, {}), GATEWAYS, config_path=str(path), program=program)


def with_etcd(site: Site) -> Site:
    coordinator = replace(site.config.coordinator, kind="etcd", endpoints=("https://10.0.0.9:2379",))
    origins = {**site.config.origins, "coordinator.kind": "line 1", "coordinator.endpoints": "line 2"}
    return replace(site, config=replace(site.config, coordinator=coordinator, origins=origins))


def with_tls(site: Site) -> Site:
    """And a password for etcd and a token for metrics, which are as secret."""
    chosen = with_etcd(site)
    files: dict[str, Any] = {name: Path(f"/etc/pki/{name}.pem") for name in ("tls_ca", "tls_cert", "tls_key")}
    coordinator = replace(chosen.config.coordinator, user="objstore", password=SECRET, **files)
    origins = {**chosen.config.origins, "coordinator.user": "line 3", "coordinator.password": "line 4"}
    metrics = replace(chosen.config.metrics, token=KEY)
    return replace(chosen, config=replace(chosen.config, coordinator=coordinator, metrics=metrics, origins=origins))


def everything(site: Site) -> dict[str, str]:
    units = {f"systemd {role}": systemd.render(site, role) for role in systemd.roles_of(site)}
    return {
        "haproxy": haproxy.render(site),
        "compose": compose.render(site),
        "kubernetes": kubernetes.render(site),
        "prometheus": prometheus.scrape(site),
        "alerts": prometheus.alerts(site),
        "grafana": grafana.render(site),
        **units,
    }


def test_no_secret_is_in_any_file(site: Site) -> None:
    for chosen in (site, with_tls(site)):
        for name, text in everything(chosen).items():
            assert SECRET not in text and KEY not in text, name


def test_the_same_configuration_makes_the_same_files(site: Site) -> None:
    assert everything(site) == everything(site)


# --- haproxy


def test_haproxy_accepts_its_configuration(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(haproxy.render(site))
    found = subprocess.run([need("haproxy"), "-c", "-f", str(path)], capture_output=True, text=True, timeout=30)
    assert found.returncode == 0 and "warning" not in found.stderr.lower(), found.stderr


def test_haproxy_knows_every_gateway_and_asks_whether_it_is_ready(site: Site) -> None:
    text = haproxy.render(site)
    assert re.findall(r"^    server (\S+) (\S+)$", text, re.MULTILINE) == [tuple(one) for one in GATEWAYS]
    assert "uri /_objstore/health/ready" in text


# --- systemd


@pytest.mark.parametrize("data", ["/srv/objstore", "/var/lib/objstore/node", "relative", None])
def test_systemd_accepts_every_unit(site: Site, tmp_path: Path, data: str | None) -> None:
    node = replace(site.config.node, data=Path(data) if data else None)
    chosen = replace(site, config=replace(site.config, node=node))
    paths = []
    for role in systemd.roles_of(chosen):
        paths.append(tmp_path / f"objstore-{role}.service")
        paths[-1].write_text(systemd.render(chosen, role))
    command = [need("systemd-analyze"), "verify", "--man=no", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_folder_outside_of_var_lib_belongs_to_a_user_who_stays(site: Site) -> None:
    assert "User=objstore\nReadWritePaths=/srv/objstore\n" in systemd.render(site, "node")
    unit = systemd.render(site, "coordinator")
    assert "DynamicUser=yes\nStateDirectory=objstore/coordinator\n" in unit
    assert "--data /var/lib/objstore/coordinator\n" in unit


def test_a_gateway_gets_the_time_to_stop_that_it_may_take(site: Site) -> None:
    assert "TimeoutStopSec=60\n" in systemd.render(site, "gateway")  # 5 + 40, and some


def test_with_etcd_there_is_no_coordinator_of_ours(site: Site) -> None:
    chosen = with_etcd(site)
    assert systemd.roles_of(chosen) == ("node", "repairer", "gateway")
    assert "c1" not in parser.safe_load(compose.render(chosen))["services"]
    assert "OBJSTORE_COORDINATOR__ADDRESS" not in kubernetes.render(chosen)
    assert "OBJSTORE_COORDINATOR__ENDPOINTS" in kubernetes.render(chosen)


# --- containers


def known_variables() -> set[str]:
    keys = {env_name(f"{section}.{name}") for section, kind in SECTION_TYPES.items() for name in kinds_of(kind)}
    return keys | {"OBJSTORE_GATEWAY__KEYS"}


def check_arguments(words: list[str]) -> None:
    import argparse

    assert words[0] == "serve"
    flags = argparse.ArgumentParser(exit_on_error=False)
    configure_serve(flags)
    flags.parse_args(words[1:])


def check_environment(variables: dict[str, str]) -> None:
    """As a process of that container would read it."""
    assert set(variables) <= known_variables()
    filled = {name: "A:0123456789abcdef" if "__KEYS" in name else value for name, value in variables.items()}
    config = load(None, {**filled, "OBJSTORE_CLUSTER__SECRET": "0123456789abcdef"})
    assert (config.cluster.name, str(config.cluster.code), config.node.reserve) == ("prod", "4+2", 2 << 30)
    assert (config.gateway.workers, config.repair.out_after_s) == (3, 900)
    assert config.coordinator.address in ("c1:7700", "prod-coordinator:7700")


def test_compose_starts_what_a_cluster_needs(site: Site) -> None:
    found = parser.safe_load(compose.render(replace(site, zones=("a", "b"))))
    services = found["services"]
    assert list(services) == ["c1", *(f"n{i}" for i in range(1, 8)), "r1", "r2", "g1", "g2", "balancer"]
    for name, service in services.items():
        if name != "balancer":
            check_arguments(service["command"])
            check_environment(service["environment"])
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert set(found["volumes"]) == {"c1", *(f"n{i}" for i in range(1, 8))}
    assert {services[f"n{i}"]["environment"]["OBJSTORE_NODE__ZONE"] for i in range(1, 8)} == {"a", "b"}
    assert services["balancer"]["depends_on"]["g1"] == {"condition": "service_healthy"}
    assert services["g1"]["healthcheck"]["test"][:3] == ["CMD", "objstore", "health"]
    assert services["g1"]["stop_grace_period"] == "50s"


def test_compose_starts_nothing_without_secrets(site: Site) -> None:
    services = parser.safe_load(compose.render(site))["services"]
    assert services["n1"]["environment"]["OBJSTORE_CLUSTER__SECRET"].startswith("${OBJSTORE_CLUSTER__SECRET:?")
    assert services["g1"]["environment"]["OBJSTORE_GATEWAY__KEYS"].startswith("${OBJSTORE_GATEWAY__KEYS:?")
    assert "OBJSTORE_GATEWAY__KEYS" not in services["n1"]["environment"]


def check_access_to_etcd(variables: dict[str, str], folder: str) -> None:
    """All that the configuration says of etcd is there, or comes from where secrets are."""
    filled = {
        name: f"{value}-0123456789abcdef" if value.startswith("$") else value for name, value in variables.items()
    }
    given = {"OBJSTORE_CLUSTER__SECRET", "OBJSTORE_COORDINATOR__PASSWORD", "OBJSTORE_METRICS__TOKEN"}
    assert {name for name, value in variables.items() if value.startswith("$")} - {containers.KEYS} == given
    filled.pop(containers.KEYS, None)
    coordinator = load(None, filled).coordinator
    assert (coordinator.kind, coordinator.user, bool(coordinator.password)) == ("etcd", "objstore", True)
    files = (coordinator.tls_ca, coordinator.tls_cert, coordinator.tls_key)
    assert [str(path) for path in files] == [f"{folder}/{name}" for name in ("tls_ca", "tls_cert", "tls_key")]


def test_containers_reach_an_etcd_with_certificates_and_a_password(site: Site) -> None:
    chosen = with_tls(site)
    found = parser.safe_load(compose.render(chosen))
    assert found["secrets"]["tls_key"] == {"file": "/etc/pki/tls_key.pem"}
    for name, service in found["services"].items():
        if name != "balancer":
            assert set(service["secrets"]) == set(found["secrets"])
            check_access_to_etcd(service["environment"], compose.FILES)
    for kind, name, spec in by_kind(kubernetes.render(chosen)):
        if kind in ("StatefulSet", "Deployment"):
            pod = spec["template"]["spec"]
            container = pod["containers"][0]
            assert {"name": "files", "mountPath": kubernetes.FILES, "readOnly": True} in container["volumeMounts"], name
            assert {"secretName": "objstore-files", "defaultMode": 0o440} in [v.get("secret") for v in pod["volumes"]]
            variables = {one["name"]: one.get("value", "$") for one in container["env"] if "fieldRef" not in str(one)}
            check_access_to_etcd(variables, kubernetes.FILES)
    assert "--from-file=tls_key=/etc/pki/tls_key.pem" in kubernetes.render(chosen)


def test_the_balancer_of_compose_is_accepted(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    found = parser.safe_load(compose.render(site))["configs"]["haproxy"]["content"]
    path.write_text(found.replace("$$", "$"))
    assert "    server g1 g1:9000\n" in found and "resolvers dns init-addr last,libc,none" in found
    subprocess.run([need("haproxy"), "-c", "-f", str(path)], check=True, capture_output=True, timeout=30)


def by_kind(text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for document in parser.safe_load_all(text):
        assert document["apiVersion"] in ("v1", "apps/v1", "policy/v1")
        yield document["kind"], document["metadata"]["name"], document["spec"]


def test_kubernetes_runs_nodes_as_they_need_it(site: Site) -> None:
    found = {(kind, name): spec for kind, name, spec in by_kind(kubernetes.render(site))}
    nodes = found["StatefulSet", "prod-node"]
    assert (nodes["replicas"], nodes["podManagementPolicy"], nodes["serviceName"]) == (7, "Parallel", "prod-node")
    service = found["Service", "prod-node"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    assert found["PodDisruptionBudget", "prod-node"]["maxUnavailable"] == 1
    pod = nodes["template"]["spec"]
    container = pod["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "objstore health --maintenance" in container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert pod["terminationGracePeriodSeconds"] > 300
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 24 * 3600
    assert container["readinessProbe"]["tcpSocket"] == container["livenessProbe"]["tcpSocket"] == {"port": 7701}
    assert "$(POD).prod-node:7701" in container["args"]


def test_every_pod_of_kubernetes_has_right_arguments_and_settings(site: Site) -> None:
    seen = set()
    for kind, name, spec in by_kind(kubernetes.render(site)):
        if kind not in ("StatefulSet", "Deployment"):
            continue
        seen.add(name)
        template = spec["template"]
        labels = template["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        container = template["spec"]["containers"][0]
        check_arguments([word.replace("$(POD)", "pod-0") for word in container["args"]])
        variables = {one["name"]: one.get("value", "from-elsewhere") for one in container["env"]}
        assert variables.pop("POD") == "from-elsewhere"
        check_environment(variables)
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        assert mounted == {volume["name"] for volume in template["spec"]["volumes"]} | claimed
    assert seen == {"prod-coordinator", "prod-node", "prod-repairer", "prod-gateway"}


def test_with_zones_kubernetes_has_a_set_of_nodes_for_each(site: Site) -> None:
    chosen = replace(site, zones=("a", "b", "c"))
    sets = {name: spec for kind, name, spec in by_kind(kubernetes.render(chosen)) if kind == "StatefulSet"}
    nodes = {name: spec for name, spec in sets.items() if "node" in name}
    assert [spec["replicas"] for spec in nodes.values()] == [3, 2, 2]
    for zone, spec in zip("abc", nodes.values(), strict=True):
        pod = spec["template"]["spec"]
        assert pod["nodeSelector"] == {"topology.kubernetes.io/zone": zone}
        assert {"name": "OBJSTORE_NODE__ZONE", "value": zone} in pod["containers"][0]["env"]
    selectors = [json.dumps(spec["selector"]) for spec in nodes.values()]
    assert len(set(selectors)) == 3  # no set may take the pods of another for its own


def test_the_image_runs_the_program_as_nobody_in_particular() -> None:
    assert f"USER {containers.USER}\n" in containers.DOCKERFILE
    assert 'ENTRYPOINT ["objstore"]' in containers.DOCKERFILE


def test_a_cluster_of_defaults_can_be_printed_too() -> None:
    for text in everything(Site(Config(), GATEWAYS)).values():
        assert text.endswith("\n")


# --- prometheus and grafana


def with_metrics(site: Site, **changes: str) -> Site:
    return replace(site, config=replace(site.config, metrics=replace(site.config.metrics, **changes)))


def test_prometheus_scrapes_gateways_with_a_token_and_nodes_where_they_listen(site: Site) -> None:
    chosen = replace(with_metrics(site, listen="0.0.0.0:9101"), node_addresses=("10.0.0.7:7701", "10.0.0.6:7701"))
    gateways, nodes = parser.safe_load(prometheus.scrape(chosen))["scrape_configs"]
    assert gateways["static_configs"] == [
        {"targets": ["10.0.0.1:9000", "10.0.0.2:9000"], "labels": {"cluster": "prod"}}
    ]
    assert gateways["metrics_path"] == "/_objstore/metrics" and "credentials_file" in gateways["authorization"]
    assert nodes["static_configs"][0]["targets"] == ["10.0.0.6:9101", "10.0.0.7:9101"]


def test_containers_show_their_metrics_on_the_port_that_is_configured(site: Site) -> None:
    chosen = with_metrics(site, listen="10.0.0.1:9101")
    for service in parser.safe_load(compose.render(chosen))["services"].values():
        assert "environment" not in service or service["environment"]["OBJSTORE_METRICS__LISTEN"] == "0.0.0.0:9101"
    for kind, name, spec in by_kind(kubernetes.render(chosen)):
        if kind in ("StatefulSet", "Deployment"):
            (container,) = spec["template"]["spec"]["containers"]
            assert {"name": "metrics", "containerPort": 9101} in container["ports"], name


def test_prometheus_needs_no_token_where_none_is_asked_for_and_leaves_out_what_is_off(site: Site) -> None:
    (gateways,) = parser.safe_load(prometheus.scrape(with_metrics(site, gateway="open")))["scrape_configs"]
    assert "authorization" not in gateways
    assert parser.safe_load(prometheus.scrape(with_metrics(site, gateway="off"))) == {"scrape_configs": []}


def names_in(expression: str) -> set[str]:
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bobjstore_\w+", expression)}


def test_every_alert_is_a_rule_on_metrics_that_exist(site: Site) -> None:
    (group,) = parser.safe_load(prometheus.alerts(site))["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in metrics.ALERTS]
    for rule in group["rules"]:
        assert names_in(rule["expr"]) <= set(metrics.CATALOGUE)
        assert rule["expr"].count('cluster="prod"') == len(re.findall(r"\bobjstore_\w+|\bup\b", rule["expr"])) > 0
        assert re.fullmatch(r"\d+[smhd]", rule["for"]) and rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "runbook"}


def test_the_dashboard_has_every_panel_in_a_place_of_its_own(site: Site) -> None:
    board = json.loads(grafana.render(site))
    assert [panel["title"] for panel in board["panels"]] == [panel.title for panel in metrics.PANELS]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"]) == len({panel["id"] for panel in board["panels"]})
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            assert names_in(target["expr"]) and names_in(target["expr"]) <= set(metrics.CATALOGUE)
    assert board["schemaVersion"] == grafana.SCHEMA
    assert board["templating"]["list"][0]["type"] == "datasource"
