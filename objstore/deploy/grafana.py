"""A dashboard for Grafana, from the panels of the catalogue. To be imported as it is; it asks for the data source."""

from __future__ import annotations

import json
from typing import Any

from objstore.admin.metrics import PANELS, Panel
from objstore.deploy.prometheus import within
from objstore.deploy.site import Site

SCHEMA = 39  # of the dashboard's JSON; newer releases of Grafana convert it
UID_CHARS_MAX = 40
COLUMNS = 2
_WIDTH = 24 // COLUMNS
_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def render(site: Site) -> str:
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    board = {
        "uid": f"objstore-{site.name}".replace(".", "-")[:UID_CHARS_MAX],
        "title": f"objstore {site.name}",
        "tags": ["objstore"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source]},
        "panels": [_panel(site, number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(board, indent=2) + "\n"


def _panel(site: Site, number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {
            "x": number % COLUMNS * _WIDTH,
            "y": number // COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": within(site, expr), "legendFormat": legend}
            for index, (legend, expr) in enumerate(panel.series)
        ],
    }
