"""Following what changes under one prefix of etcd: a stream that is held open, and begun again where it stood.

A stream that says nothing may be one whose other end has stopped, so after `SILENCE_S` it is replaced, and the answer
to that proves that somebody is there: a dead watch is noticed within `SILENCE_S` + `ATTEMPT_S`. Nothing is lost or seen
twice, because a stream begins at a revision. Invariants:

- `newest` is at least the revision of every change under the prefix that was seen since `start`;
- an etcd whose revision fell (another one, or restored from a copy) ends the following, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from objstore.cluster import etcd_json as etcd
from objstore.cluster.etcd_http import PAUSE_S, EtcdHttp, WatchEnded
from objstore.model.errors import ObjstoreError, Unavailable

log = logging.getLogger(__name__)

SILENCE_S = 3.0


class Follower:
    """`revision_now`: the revision of the whole store, by a linearizable read."""

    def __init__(self, http: EtcdHttp, prefix: str, after: int, revision_now: Callable[[], Awaitable[int]]) -> None:
        self._http = http
        self._prefix = prefix
        self._revision_now = revision_now
        self._changed = asyncio.Event()  # replaced at every change
        self.start = after + 1
        self.newest = after
        self.problem: ObjstoreError | None = None  # why it has ended
        self._task = asyncio.create_task(self._run(), name=f"watch {prefix}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.end(Unavailable("this watch was closed"))

    def end(self, problem: ObjstoreError) -> None:
        """Whoever waits is told; no effect after the end."""
        if self.problem is None:
            self._task.cancel()
            self.problem = problem
            self._wake()

    async def wait(self, after: int, timeout_s: float) -> int:
        """As Coordinator.watch."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.newest <= after:
                    if self.problem is not None:
                        raise type(self.problem)(str(self.problem))
                    await self._changed.wait()
        except TimeoutError:
            return after
        return self.newest

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        try:
            while True:
                await self._listen()
        except ObjstoreError as error:
            self.end(error)
        except Exception as error:
            log.exception("the watch of %s failed", self._prefix)
            self.end(Unavailable(f"the watch of {self._prefix} failed: {error}"))

    async def _listen(self) -> None:
        """One stream, until it ends or is silent. Raises Unavailable when no member answers."""
        request = etcd.watch_under(self._prefix, self.newest + 1)
        async with self._http.watch(request) as (first, answers):
            endpoint = self._http.endpoint
            await self._take(first)
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        answer = await anext(answers, None)
                except TimeoutError:
                    return
                except WatchEnded as error:
                    log.info("a watch at %s broke: %s", endpoint, error)
                    answer = None
                if answer is None:
                    self._http.leave(endpoint)
                    await asyncio.sleep(PAUSE_S)
                    return
                if await self._take(answer):
                    return

    async def _take(self, answer: etcd.Watched) -> bool:
        """True: the stream is over."""
        if answer.created and answer.header.revision < self.newest:  # a member that is behind, or ...
            now = await self._revision_now()
            if now < self.newest:
                raise Unavailable(f"the revision of etcd fell from {self.newest} to {now}: is it another one?")
        if answer.newest > self.newest:
            self.newest = answer.newest
            self._wake()
        if answer.canceled:
            # Our history was compacted away: whoever waits looks again.
            self.newest = max(self.newest, answer.compact_revision, await self._revision_now())
            self._wake()
        return answer.canceled
