"""Delivers what a gateway has just written, right away. What it cannot deliver or hold is left to the sweeper."""

from __future__ import annotations

import asyncio
import logging

from objstore.model.errors import ObjstoreError
from objstore.model.records import RegisterKey
from objstore.notify.outbox import Registers, deliver
from objstore.notify.sender import Sender

log = logging.getLogger(__name__)

WIDTH = 32  # registers at a time
WAITING_MAX = 10_000  # registers; of more the sweeper will know


class Courier:
    """One of each gateway process; `hear` is told of registers that have events."""

    def __init__(self, registers: Registers, sender: Sender) -> None:
        self._registers = registers
        self._sender = sender
        self._waiting: dict[RegisterKey, None] = {}
        self._busy: dict[RegisterKey, asyncio.Task[None]] = {}
        self._closed = False

    def hear(self, key: RegisterKey) -> None:
        if not self._closed and len(self._waiting) < WAITING_MAX:
            self._waiting[key] = None
            self._go_on()

    def _go_on(self) -> None:
        if self._closed or len(self._busy) >= WIDTH:
            return
        key = next((one for one in self._waiting if one not in self._busy), None)
        if key is not None:
            del self._waiting[key]
            self._busy[key] = asyncio.create_task(self._deliver(key), name="notification")

    async def _deliver(self, key: RegisterKey) -> None:
        try:
            await deliver(self._registers, self._sender, key)
        except ObjstoreError as error:
            log.info("events of register %s are left to the repairer: %s", key.pack().hex(), error)
        except Exception:
            log.exception("events of register %s are left to the repairer", key.pack().hex())
        finally:
            del self._busy[key]
            self._go_on()

    async def close(self) -> None:
        """What is not delivered yet, the sweeper finds."""
        self._closed = True
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
