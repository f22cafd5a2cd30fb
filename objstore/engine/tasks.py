"""Groups of tasks that leave no trace in a task that outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Do it in a task of its own; whoever is cancelled here waits until that has ended too.

    For what opens an `asyncio.TaskGroup` in a task that goes on after the group has failed. When one of the tasks fails
    while the others are waited for, asyncio before 3.13 asks the surrounding task to cancel itself and never takes it
    back (`cancelling()` stays 1). From then on, before 3.11.4, the first `asyncio.timeout` that expires lets
    CancelledError through instead of TimeoutError, and ends a task that nobody has cancelled.
    """
    return await asyncio.create_task(work)
