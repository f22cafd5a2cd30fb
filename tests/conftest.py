"""What is marked `long` runs only where it is asked for: in `make prove`."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("OBJSTORE_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip("takes long: set OBJSTORE_LONG=1, as make prove does"))
