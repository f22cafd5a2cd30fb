"""Manifests for Kubernetes: nodes as a StatefulSet that starts all at once, one disruption at a time.

Nodes are found by stable names before they are ready, since they wait for each other. Before a pod of a node is stopped
on purpose it waits until the cluster can do without it. Zones: one StatefulSet each where they are named, so that no
pod needs rights to read labels of machines; else the label that newer releases of Kubernetes copy to each pod.
"""

from __future__ import annotations

from typing import Any

from objstore.deploy import containers, yaml
from objstore.deploy.site import Site, header, port_of

ZONE_LABEL = "topology.kubernetes.io/zone"
HOST_LABEL = "kubernetes.io/hostname"
SECRET = "objstore"
SECRET_KEYS = {  # of the Secret, by the variable that they become
    containers.SECRET: "cluster",
    containers.KEYS: "keys",
    containers.PASSWORD: "password",
    containers.TOKEN: "token",
}
FILES_SECRET, FILES = "objstore-files", "/run/objstore"
_READABLE_BY_GROUP = 0o440
_PART, _INSTANCE, _NAME = ("app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name")
_START_S = 24 * 3600  # a node reads its whole index before it listens
_NODE_STOP_S = 330  # of which preStop may take 300
_WAIT_OK = "for i in $(seq 60); do objstore health --maintenance {name} && exit 0; sleep 5; done; exit 0"
_NOTES = (
    "The secrets, once:",
    "  kubectl create secret generic objstore {literals}",
    "{files}",
    "Sizes of the volumes and their storage class are yours to choose: look for `storage`.",
)


def render(site: Site) -> str:
    literals = {name: f"'({how})'" for name, how in containers.secrets(site, "gateway").items()}
    literals |= {containers.SECRET: "$(openssl rand -hex 32)", containers.KEYS: "NAME:$(openssl rand -hex 20)"}
    words = {
        "literals": " ".join(f"--from-literal={SECRET_KEYS[name]}={value}" for name, value in literals.items()),
        "files": f"  kubectl create secret generic {FILES_SECRET} "
        + " ".join(f"--from-file={name}={path}" for name, path in containers.files(site).items()),
    }
    notes = (note.format(**words) for note in _NOTES if containers.files(site) or note != "{files}")
    return header(site, "Manifests", tuple(notes)) + yaml.dump_all(_documents(site))


def _documents(site: Site) -> list[dict[str, Any]]:
    config = site.config
    documents: list[dict[str, Any]] = []
    if containers.uses_coordinator(site):
        port = port_of(config.coordinator.listen)
        documents += [
            _service(site, "coordinator", port, headless=True),
            _stateful_set(site, "coordinator", _full(site, "coordinator"), 1, "4Gi", {}),
        ]
    documents += [_service(site, "node", port_of(config.node.listen), headless=True), _budget(site, "node")]
    documents += _node_sets(site)
    documents += [
        _deployment(site, "repairer", 2),
        _service(site, "gateway", port_of(config.gateway.listen), headless=False),
        _budget(site, "gateway"),
        _deployment(site, "gateway", 2),
    ]
    return documents


def _node_sets(site: Site) -> list[dict[str, Any]]:
    name = _full(site, "node")
    if not site.zones:
        return [_stateful_set(site, "node", name, site.nodes, "100Gi", {})]
    shares = [len(range(index, site.nodes, len(site.zones))) for index in range(len(site.zones))]
    return [
        _stateful_set(site, "node", f"{name}-{zone}", share, "100Gi", {ZONE_LABEL: zone})
        for zone, share in zip(site.zones, shares, strict=True)
    ]


def _stateful_set(
    site: Site, role: str, name: str, replicas: int, storage: str, selector: dict[str, str]
) -> dict[str, Any]:
    labels = {**_labels(site, role), **({"objstore/zone": selector[ZONE_LABEL]} if selector else {})}
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "serviceName": _full(site, role),
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": _pod(site, role, labels, selector),
            "volumeClaimTemplates": [claim],
        },
    }


def _deployment(site: Site, role: str, replicas: int) -> dict[str, Any]:
    labels = _labels(site, role)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _full(site, role), "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": _pod(site, role, labels, {}),
        },
    }


def _pod(site: Site, role: str, labels: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    spread = {"matchLabels": _labels(site, role)}
    constraints = [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": spread}
        for key in (HOST_LABEL, *([] if selector else [ZONE_LABEL]))
    ]
    stops_s = {"node": _NODE_STOP_S, "gateway": containers.stop_s(site)}
    has_zone = role == "node" and not selector
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if containers.files(site):
        kept = {"secretName": FILES_SECRET, "defaultMode": _READABLE_BY_GROUP}
        volumes.append({"name": "files", "secret": kept})
    # A port below 1024 is nothing that a user like ours may have otherwise.
    ports = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}] if 0 < _port(site, role) < 1024 else []
    return {
        # Newer releases of Kubernetes write the zone of the machine over this one.
        "metadata": {"labels": {**labels, **({ZONE_LABEL: site.config.node.zone} if has_zone else {})}},
        "spec": {
            "containers": [_container(site, role, selector)],
            "volumes": volumes,
            "terminationGracePeriodSeconds": stops_s.get(role, 30),
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": containers.USER,
                "fsGroup": containers.USER,
                "seccompProfile": {"type": "RuntimeDefault"},
                **({"sysctls": ports} if ports else {}),
            },
            "topologySpreadConstraints": constraints,
            **({"nodeSelector": selector} if selector else {}),
        },
    }


def _container(site: Site, role: str, selector: dict[str, str]) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    if containers.files(site):
        mounts.append({"name": "files", "mountPath": FILES, "readOnly": True})
    if role in ("coordinator", "node"):
        mounts.append({"name": "data", "mountPath": containers.DATA})
    advertise = f"$(POD).{_full(site, 'node')}:{port_of(site.config.node.listen)}" if role == "node" else ""
    container: dict[str, Any] = {
        "name": role,
        "image": site.image,
        "args": containers.arguments(site, role, name="$(POD)", advertise=advertise),
        "env": _environment(site, role, selector),
        "volumeMounts": mounts,
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if port := _port(site, role):
        container["ports"] = [{"name": _PORT_NAMES[role], "containerPort": port}]
        connects = {"tcpSocket": {"port": port}, "periodSeconds": 5}
        container["startupProbe"] = {**connects, "failureThreshold": _START_S // 5}
        container["readinessProbe"] = connects  # else an update would go on while this one still starts
        container["livenessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 10, "failureThreshold": 6}
    if listen := site.config.metrics.listen:
        container.setdefault("ports", []).append({"name": "metrics", "containerPort": port_of(listen)})
    if role == "gateway":
        container["readinessProbe"] = {
            "httpGet": {"path": "/_objstore/health/ready", "port": port},
            "periodSeconds": 2,
            "failureThreshold": 1,
        }
        container["livenessProbe"] = {
            "httpGet": {"path": "/_objstore/health/live", "port": port},
            "periodSeconds": 10,
            "failureThreshold": 6,
        }
    if role == "node":
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", _WAIT_OK.format(name="$POD")]}}}
    return container


_PORT_NAMES = {"coordinator": "rpc", "node": "rpc", "gateway": "s3"}


def _port(site: Site, role: str) -> int:
    config = site.config
    listen = {"coordinator": config.coordinator.listen, "node": config.node.listen, "gateway": config.gateway.listen}
    return port_of(listen[role]) if role in listen else 0


def _environment(site: Site, role: str, selector: dict[str, str]) -> list[dict[str, Any]]:
    plain = dict(containers.environment(site, _full(site, "coordinator"), FILES))
    if role == "repairer":  # which makes the first map
        plain["OBJSTORE_CLUSTER__INITIAL_NODES"] = str(site.nodes)
    if selector:
        plain["OBJSTORE_NODE__ZONE"] = selector[ZONE_LABEL]
    found: list[dict[str, Any]] = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    if role == "node" and not selector:
        found.append({
            "name": "OBJSTORE_NODE__ZONE",
            "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{ZONE_LABEL}']"}},
        })  # fmt: skip
    found += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": SECRET_KEYS[name]}}}
        for name in containers.secrets(site, role)
    ]
    return found + [{"name": name, "value": value} for name, value in sorted(plain.items())]


def _service(site: Site, role: str, port: int, *, headless: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "selector": _labels(site, role),
        "ports": [{"name": _PORT_NAMES[role], "port": port, "targetPort": port}],
    }
    if headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _full(site, role), "labels": _labels(site, role)},
        "spec": spec,
    }


def _budget(site: Site, role: str) -> dict[str, Any]:
    """Of those that stand in for each other one may be taken away at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": _full(site, role), "labels": _labels(site, role)},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(site, role)}},
    }


def _labels(site: Site, role: str) -> dict[str, str]:
    return {_NAME: "objstore", _INSTANCE: site.name, _PART: role}


def _full(site: Site, role: str) -> str:
    """A DNS label."""
    return f"{site.name.lower().replace('.', '-').replace('_', '-')}-{role}"
