"""Real clusters of real processes. Each test says how long it may take; a hanging one must not hold up the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from objstore.testing.cluster import LocalCluster
from tests.meta.source import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.timeout(150))


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster for one test alone: to be damaged for good."""
    with LocalCluster(8, "4+2", repairers=2) as running:
        running.wait_healthy(30)
        yield running


@pytest.fixture(scope="module")  # an idle cluster costs more within a minute than a start
def _shared() -> Iterator[LocalCluster]:
    with LocalCluster(8, "4+2", out_after=600) as running:
        yield running


@pytest.fixture
def shared(_shared: LocalCluster) -> LocalCluster:
    """One cluster for all tests of a module that leave every process running; healthy at the start of each."""
    _shared.wait_healthy(60)
    return _shared


def program(name: str) -> str:
    """Its path. CI must have it; elsewhere its test is skipped."""
    beside = Path(sys.executable).parent / name  # awscli is installed with the tests
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, and CI needs it: see .ci/run")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


Objstore = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def objstore(tmp_path: Path) -> Iterator[Objstore]:
    """Run the command line with a home of its own; whatever `up` left running is ended."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OBJSTORE_")},
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "OBJSTORE_DATA": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "objstore", *arguments],
            cwd=tmp_path, env={**environment, **(more or {})}, capture_output=True, text=True, timeout=90,
        )  # fmt: skip

    yield run
    run("down")
