"""What was looked up lately: answers that may be some time old, and are asked for once when many want them at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from objstore.ports import Clock

V = TypeVar("V")


class Recent(Generic[V]):
    """`find`: by name. At most `names_max` answers are kept, those that say "there is none" among them."""

    def __init__(self, find: Callable[[str], Awaitable[V]], clock: Clock, age_s: float, names_max: int) -> None:
        self._find = find
        self._clock = clock
        self._age_s = age_s
        self._names_max = names_max
        self._known: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._finding: dict[str, asyncio.Task[V]] = {}

    async def get(self, name: str) -> V:
        """At most `age_s` old."""
        known = self._known.get(name)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        task = self._finding.get(name)
        if task is None:
            task = self._finding[name] = asyncio.ensure_future(self._ask(name))
            task.add_done_callback(lambda _: self._finding.pop(name, None))
        return await asyncio.shield(task)

    async def _ask(self, name: str) -> V:
        asked = self._clock.monotonic()  # before the reads: what changes while they run is seen in time
        found = await self._find(name)
        self._known[name] = (asked + self._age_s, found)
        self._known.move_to_end(name)
        while len(self._known) > self._names_max:
            self._known.popitem(last=False)
        return found

    def clear(self) -> None:
        self._known.clear()
