"""Which seeds of a test run always, and which only where OBJSTORE_LONG=1 is set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first_of(always: int, seeds: Sequence[int]) -> list[Any]:
    """For `parametrize`: all seeds, of which those after the first few are marked `long`."""
    return [*seeds[:always], *(pytest.param(seed, marks=pytest.mark.long) for seed in seeds[always:])]
