"""The pending events of one register: sent in order, and taken away when they were answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from objstore.engine.keystate import state_of, told, turned
from objstore.engine.tasks import apart
from objstore.model.limits import EVENT_KEPT_MS
from objstore.model.notification import Delivery, Event
from objstore.model.records import RegisterKey, Value
from objstore.notify.messages import delivery_id, event_document
from objstore.notify.sender import Sender
from objstore.register.change import Change, Outcome, body_of

log = logging.getLogger(__name__)


class Registers(Protocol):
    """Part of `objstore.engine.registers.Registers`."""

    async def read(self, key: RegisterKey, *, with_data: bool = False) -> Value: ...

    async def change(
        self, key: RegisterKey, change: Change, *, op: bytes | None = None, born: int | None = None, above: int = 0
    ) -> bytes: ...


async def deliver(registers: Registers, sender: Sender, key: RegisterKey) -> bool:
    """Send what can be sent now. True: nothing is left. Raises ObjstoreError when the register cannot be reached.

    Of one target the events of a key go in the order of their writes: after one that failed none is tried, unless it is
    so old that it is given up."""
    events = state_of(body_of(await registers.read(key))).events  # as chosen: what is read is not taken back
    targets = dict.fromkeys(delivery.target for event in events for delivery in event.open)
    done: dict[bytes, set[Delivery]] = {event.sequence: set() for event in events}
    oldest_ms = sender.now_ms() - EVENT_KEPT_MS

    async def serve(target: str) -> None:
        for event, delivery in _of(target, events):
            if not await _send(sender, event, delivery, key):
                if event.at_ms >= oldest_ms:
                    return
                _give_up(sender, event, delivery, key)
            done[event.sequence].add(delivery)

    async def serve_all() -> None:
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(serve(target))

    try:
        await apart(serve_all())
    finally:
        if any(done.values()):
            await registers.change(key, _without(done))
    return all(len(done[event.sequence]) == len(event.open) for event in events)


def _of(target: str, events: Sequence[Event]) -> list[tuple[Event, Delivery]]:
    return [(event, delivery) for event in events for delivery in event.open if delivery.target == target]


async def _send(sender: Sender, event: Event, delivery: Delivery, key: RegisterKey) -> bool:
    body = event_document(event, delivery, key.name, sender.region)
    return await sender.send(delivery.target, body, delivery_id(event, delivery, key.name))


def _give_up(sender: Sender, event: Event, delivery: Delivery, key: RegisterKey) -> None:
    health = sender.health_of(delivery.target)
    health.given_up += 1
    log.error(
        "event %s of %s/%s was never taken by target %s and is dropped: %s",
        event.name,
        event.bucket,
        key.name.decode(errors="replace"),
        delivery.target,
        health.reason or "it is too old",
    )


def _without(done: dict[bytes, set[Delivery]]) -> Change:
    def change(body: bytes) -> Outcome:
        state = state_of(body)
        return turned(state, told(state, done))

    return change
