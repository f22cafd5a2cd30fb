"""Running tasks step by step, without real time: give others their turn until something holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TURNS_MAX = 20_000


async def until(holds: Callable[[], bool], what: str) -> None:
    """Real time passes only as far as the tasks at work sleep; they are given tiny intervals."""
    for _ in range(TURNS_MAX):
        if holds():
            return
        await asyncio.sleep(0.0005)
    raise AssertionError(f"this never came true: {what}")
