"""The demo cleans up after itself even when it is interrupted. That it succeeds is what `make demo` shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta.source import ROOT


@pytest.mark.long
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "objstore", "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None and demo.stderr is not None
        for line in demo.stdout:
            if line.startswith("Uploading"):
                break
        demo.send_signal(signal.SIGINT)
        errors = demo.stderr.read()
        assert demo.wait(60) == 130
    assert "Traceback" not in errors, errors
    assert list(tmp_path.iterdir()) == []
