"""What a machine can do is measured at all; how much it is, nobody can say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from objstore.bench import limits

SHORT = {"seconds": 0.01}


@pytest.mark.parametrize(
    "measure",
    [
        partial(limits.memcpy, block=4096, arena=1 << 16, **SHORT),
        partial(limits.md5, block=4096, **SHORT),
        partial(limits.loopback, **SHORT),
        partial(limits.loopback_stream, block=4096, **SHORT),
    ],
)
def test_a_limit_is_a_figure(measure: Callable[[], float]) -> None:
    assert measure() > 0


@pytest.mark.parametrize("extend", [True, False])
def test_syncing_leaves_nothing_behind(tmp_path: Path, extend: bool) -> None:
    assert limits.fdatasync(tmp_path, 512, 0.01, extend=extend) > 0
    assert list(tmp_path.iterdir()) == []
