"""A seeded network between simulated processes: delay, loss, repetition, reordering, partitions, dead peers.

Messages are encoded and decoded on the way, so that nothing is shared between processes. A lost request and a
lost answer look the same to the caller, as they do in life. A process has the same name as its address.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from objstore.model.errors import CODES, DeadlineExceeded, ObjstoreError, Unreachable
from objstore.ports import Buffer, Service, Told
from objstore.wire.messages import ErrorReply, Reply, Request, decode_reply, decode_request, encode_message
from tests.sim.loop import SimLoop, in_process

_OUTSIDE = contextvars.Context()  # what is on the wire belongs to no process


@dataclass(frozen=True)
class NetworkFaults:
    """Probabilities per message, seconds per delay."""

    loss: float = 0.0
    repeat: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.002)
    slow: float = 0.0  # chance of a delay up to slow_s
    slow_s: float = 1.0


@dataclass
class SimNetwork:
    loop: SimLoop
    faults: NetworkFaults = field(default_factory=NetworkFaults)
    services: dict[str, tuple[str, Service]] = field(default_factory=dict)  # address -> (process, service)
    blocked: set[tuple[str, str]] = field(default_factory=set)  # (from process, to process), one way
    dark: set[str] = field(default_factory=set)  # addresses that do not even refuse: the machine has no power
    messages: int = 0

    @property
    def paused(self) -> set[str]:
        """Processes under SIGSTOP: nothing of them runs, their messages wait."""
        return self.loop.paused

    def listen(self, address: str, process: str, service: Service) -> None:
        self.services[address] = (process, service)
        self.dark.discard(address)

    def unlisten(self, process: str) -> None:
        self.services = {a: s for a, s in self.services.items() if s[0] != process}

    def delay(self) -> float:
        random = self.loop.random
        if random.random() < self.faults.slow:
            return random.uniform(0, self.faults.slow_s)
        return random.uniform(*self.faults.delay_s)

    def lost(self, source: str, target: str) -> bool:
        return (source, target) in self.blocked or self.loop.random.random() < self.faults.loss


class Sending:
    """`Transport.send` for what has a `call`: by a task."""

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes | memoryview]:
        raise NotImplementedError

    def send(self, address: str, request: Request, payload: Buffer, *, timeout_s: float, told: Told) -> None:
        begin_telling(lambda: self.call(address, request, payload, timeout_s=timeout_s), told)


def begin_telling(call: Callable[[], Awaitable[tuple[Reply, bytes | memoryview]]], told: Told) -> None:
    task = asyncio.get_running_loop().create_task(_tell(call, told))
    _telling.add(task)
    task.add_done_callback(_telling.discard)


async def _tell(call: Callable[[], Awaitable[tuple[Reply, bytes | memoryview]]], told: Told) -> None:
    try:
        answer = await call()
    except ObjstoreError as error:
        told(error, b"")
    else:
        told(*answer)


_telling: set[asyncio.Task[None]] = set()


class SimTransport(Sending):
    """The Transport port of one process."""

    def __init__(self, network: SimNetwork, process: str) -> None:
        self._network = network
        self._process = process

    def connected(self, address: str) -> bool:
        return address in self._network.services

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes | memoryview]:
        network, loop = self._network, self._network.loop
        if loop.is_dead():
            raise asyncio.CancelledError
        network.messages += 1
        if address not in network.services and address not in network.dark:
            await asyncio.sleep(network.delay())
            raise Unreachable(f"{address} refuses the connection")
        answer: asyncio.Future[tuple[bytes, bytes]] = loop.create_future()
        raw, body = encode_message(request), bytes(payload)
        copies = 2 if loop.random.random() < network.faults.repeat else 1
        for _ in range(copies):
            loop.call_later(network.delay(), self._deliver, address, raw, body, answer, context=_OUTSIDE)
        try:
            async with asyncio.timeout(timeout_s):
                reply_raw, reply_body = await answer
        except TimeoutError:
            raise DeadlineExceeded(f"{address} did not answer {type(request).__name__} in {timeout_s:g} s") from None
        reply = decode_reply(reply_raw)
        if isinstance(reply, ErrorReply):
            raise CODES.get(reply.code, ObjstoreError)(reply.text)
        return reply, reply_body

    def _deliver(self, address: str, raw: bytes, body: bytes, answer: asyncio.Future[tuple[bytes, bytes]]) -> None:
        network, loop = self._network, self._network.loop
        if network.lost(self._process, address) or address in network.dark:
            return
        entry = network.services.get(address)
        if entry is None:
            self._break(answer, f"the connection to {address} broke")
            return
        process, service = entry
        loop.note(address.encode(), raw, len(body).to_bytes(4, "big"))
        in_process(process, loop.create_task, self._serve(process, service, raw, body, answer))

    async def _serve(
        self, process: str, service: Service, raw: bytes, body: bytes, answer: asyncio.Future[tuple[bytes, bytes]]
    ) -> None:
        network, loop = self._network, self._network.loop
        try:
            reply, payload = await service.handle(decode_request(raw), body)
        except ObjstoreError as error:
            reply, payload = ErrorReply(type(error).__name__, str(error)), b""
        except asyncio.CancelledError:
            if process not in network.dark:
                self._break(answer, "the peer died before it answered")
            raise
        if not network.lost(process, self._process):
            result = (encode_message(reply), bytes(payload))
            loop.note(process.encode(), *result)
            loop.call_later(network.delay(), _arrive, answer, result, context=_OUTSIDE)

    def _break(self, answer: asyncio.Future[tuple[bytes, bytes]], why: str) -> None:
        if not answer.done():
            answer.set_exception(Unreachable(why))


def _arrive(answer: asyncio.Future[tuple[bytes, bytes]], result: tuple[bytes, bytes]) -> None:
    if not answer.done():
        answer.set_result(result)
