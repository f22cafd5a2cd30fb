"""Time as the contract suite sets it, for coordinators with a clock of ours and for etcd, which has none.

With etcd a lease lasts `REAL_TTL_S` whatever was asked for, and is kept alive behind the test's back until its end in
the time of the test has come; then it is left alone, and `advance` waits until etcd says that it is gone.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Protocol

from objstore.cluster.etcd import EtcdCoordinator
from tests.sim.coordinator import ManualClock

REAL_TTL_S = 2.0
BEAT_S = 0.3


class Time(Protocol):
    async def advance(self, seconds: float) -> None: ...


class SetTime:
    """Of coordinators that read our clock."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)


class EtcdTime:
    """Implements Time, and cluster.port.Coordinator around an etcd."""

    def __init__(self, real: EtcdCoordinator, url: str) -> None:
        self._real = real
        self._url = url
        self._now = 0.0
        self._leases: dict[int, tuple[float, float]] = {}  # ttl asked for, and when it ends in the test's time
        self._beating = asyncio.create_task(self._beat())
        self.get = real.get
        self.range = real.range
        self.put = real.put
        self.delete = real.delete
        self.watch = real.watch

    async def advance(self, seconds: float) -> None:
        self._now += seconds
        over = [lease for lease, (_, ends) in self._leases.items() if ends <= self._now]
        for lease in over:
            del self._leases[lease]
        for lease in over:
            while self._is_there(lease):  # noqa: ASYNC110 (etcd tells nobody)
                await asyncio.sleep(0.05)

    async def grant(self, ttl_s: float) -> int:
        lease = await self._real.grant(REAL_TTL_S)
        self._leases[lease] = (ttl_s, self._now + ttl_s)
        return lease

    async def keep_alive(self, lease: int) -> bool:
        if lease in self._leases:
            ttl_s, _ = self._leases[lease]
            self._leases[lease] = (ttl_s, self._now + ttl_s)
        return await self._real.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        self._leases.pop(lease, None)
        await self._real.revoke(lease)

    async def close(self) -> None:
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        await self._real.close()

    async def _beat(self) -> None:
        while True:
            for lease in list(self._leases):
                await self._real.keep_alive(lease)
            await asyncio.sleep(BEAT_S)

    def _is_there(self, lease: int) -> bool:
        connection = http.client.HTTPConnection(self._url.removeprefix("http://"), timeout=5.0)
        try:
            connection.request("POST", "/v3/lease/timetolive", json.dumps({"ID": str(lease)}))
            return int(json.loads(connection.getresponse().read()).get("TTL", "0")) >= 0
        finally:
            connection.close()
