"""What every coordinator must do, whatever is behind the port. Leases end by a clock that the tests set; with etcd,
which has its own, `advance` waits until those leases have ended that should have (`tests.contract.etcd_time`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from objstore.adapters.kv import LmdbKV
from objstore.adapters.randomness import SystemRandom
from objstore.cluster.embedded import TABLE, CoordinatorService, RemoteCoordinator, open_coordinator
from objstore.cluster.etcd import EtcdCoordinator
from objstore.cluster.etcd_access import EtcdAccess
from objstore.cluster.port import Coordinator
from objstore.cluster.store import CoordinatorStore
from objstore.ports import Buffer
from objstore.rpc.client import TcpTransport
from objstore.rpc.server import serve
from objstore.wire.messages import Reply, Request, decode_reply, decode_request, encode_message
from tests.contract.etcd_time import EtcdTime, SetTime, Time
from tests.process import etcd
from tests.sim.coordinator import LocalCoordinator, ManualClock
from tests.sim.kv import SimKV
from tests.sim.network import Sending

Opened = AbstractAsyncContextManager[tuple[Coordinator, Time]]
Make = Callable[[Path], Opened]
Claims = Callable[[Coordinator, Time], Awaitable[None]]
SECRET = b"the secret of the contract suite"
PATIENCE_S = 30.0  # of watches that must be woken: only a failure waits so long


class DirectTransport(Sending):
    """Calls the service in this process; messages go through their encoding, so that its bounds hold."""

    def __init__(self, service: CoordinatorService) -> None:
        self._service = service

    async def call(
        self, address: str, request: Request, payload: Buffer = b"", *, timeout_s: float
    ) -> tuple[Reply, bytes]:
        reply, _ = await self._service.handle(decode_request(encode_message(request)), b"")
        return decode_reply(encode_message(reply)), b""


@asynccontextmanager
async def _store(path: Path) -> AsyncIterator[tuple[Coordinator, Time]]:
    clock = ManualClock()
    yield LocalCoordinator(CoordinatorStore(), clock), SetTime(clock)


@asynccontextmanager
async def _embedded(path: Path) -> AsyncIterator[tuple[Coordinator, Time]]:
    clock = ManualClock()
    service = await open_coordinator(SimKV([TABLE]), clock, SystemRandom(), name="test")
    yield RemoteCoordinator(DirectTransport(service), "here"), SetTime(clock)
    await service.close()


@asynccontextmanager
async def _embedded_over_rpc(path: Path) -> AsyncIterator[tuple[Coordinator, Time]]:
    clock = ManualClock()
    service = await open_coordinator(LmdbKV(path / "kv", [TABLE]), clock, SystemRandom(), name="test")
    server = await serve(service, "127.0.0.1", 0, SECRET, "")
    transport = TcpTransport(SECRET, "")
    yield RemoteCoordinator(transport, server.address), SetTime(clock)
    await transport.close()
    await server.close()
    await service.close()


class EtcdOfModule:
    """Started by the first test that needs it; every test has a namespace of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._running: etcd.Etcd | None = None

    @asynccontextmanager
    async def open(self, path: Path) -> AsyncIterator[tuple[Coordinator, Time]]:
        if self._running is None:
            self._running = self._stack.enter_context(etcd.running(self._folder))
        real = EtcdCoordinator(EtcdAccess(tuple(self._running.urls), f"/objstore/{path.name}/"))
        time = EtcdTime(real, self._running.urls[0])
        yield time, time
        await time.close()

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def _etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdOfModule]:
    shared = EtcdOfModule(tmp_path_factory.mktemp("etcd"))
    yield shared
    shared.close()


@pytest.fixture(
    params=[_store, _embedded, _embedded_over_rpc, pytest.param(None, marks=pytest.mark.process)],
    ids=["store", "embedded", "embedded over RPC", "etcd"],
)
def run(request: pytest.FixtureRequest, tmp_path: Path, _etcd: EtcdOfModule) -> Callable[[Claims], None]:
    """Runs one test body against one implementation."""
    if request.param is None:
        etcd.program()
    make: Make = request.param or _etcd.open

    def run_claims(claims: Claims) -> None:
        async def main() -> None:
            async with make(tmp_path) as (coordinator, time):
                await claims(coordinator, time)

        asyncio.run(main())

    return run_claims


Run = Callable[[Claims], None]


def test_a_key_holds_what_was_put_last(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        assert await co.get("a") is None
        first = await co.put("a", b"1")
        second = await co.put("a", b"\x00\xff")
        assert first is not None and second is not None and 0 < first < second
        found = await co.get("a")
        assert found is not None
        assert tuple(found) == ("a", b"\x00\xff", second, 0)

    run(claims)


def test_a_range_has_the_keys_of_its_prefix_in_order(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        for key in ("n/b", "n/a", "m", "n", "o/a", "n/a/x"):
            newest = await co.put(key, key.encode())
        entries, revision = await co.range("n/")
        assert [entry.key for entry in entries] == ["n/a", "n/a/x", "n/b"]
        assert [entry.value for entry in entries] == [b"n/a", b"n/a/x", b"n/b"]
        assert revision == newest
        assert (await co.range("none"))[0] == []

    run(claims)


def test_a_put_takes_place_only_at_the_expected_revision(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        assert await co.put("a", b"x", expected=1) is None
        first = await co.put("a", b"1", expected=0)
        assert first is not None
        assert await co.put("a", b"x", expected=0) is None
        second = await co.put("a", b"2", expected=first)
        assert second is not None
        assert await co.put("a", b"x", expected=first) is None
        found = await co.get("a")
        assert found is not None and (found.value, found.revision) == (b"2", second)

    run(claims)


def test_a_delete_takes_place_only_at_the_expected_revision(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        assert await co.delete("a") is False
        revision = await co.put("a", b"1")
        assert revision is not None
        assert await co.delete("a", expected=revision - 1) is False
        assert await co.get("a") is not None
        assert await co.delete("a", expected=revision) is True
        assert await co.get("a") is None
        again = await co.put("a", b"2", expected=0)
        assert again is not None and again > revision

    run(claims)


def test_of_many_who_create_one_key_one_wins(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        outcomes = await asyncio.gather(*(co.put("a", b"%d" % i, expected=0) for i in range(20)))
        won = [i for i, revision in enumerate(outcomes) if revision is not None]
        found = await co.get("a")
        assert len(won) == 1
        assert found is not None and found.value == b"%d" % won[0]

    run(claims)


def test_the_keys_of_a_lease_go_with_it(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        lease = await co.grant(10)
        other = await co.grant(30)
        await co.put("n/a", b"1", lease=lease)
        await co.put("n/b", b"2", lease=other)
        await co.put("n/c", b"3")
        found = await co.get("n/a")
        assert found is not None and found.lease == lease
        await clock.advance(9)
        assert await co.get("n/a") is not None
        await clock.advance(2)
        assert await co.get("n/a") is None
        assert [entry.key for entry in (await co.range("n/"))[0]] == ["n/b", "n/c"]
        assert await co.put("n/a", b"1", lease=lease) is None
        assert await co.keep_alive(lease) is False

    run(claims)


def test_a_lease_lives_as_long_as_it_is_kept_alive(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        lease = await co.grant(10)
        await co.put("a", b"1", lease=lease)
        for _ in range(5):
            await clock.advance(9)
            assert await co.keep_alive(lease) is True
        assert await co.get("a") is not None
        await clock.advance(11)
        assert await co.keep_alive(lease) is False
        assert await co.get("a") is None

    run(claims)


def test_a_revoked_lease_takes_its_keys_at_once(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        lease = await co.grant(10)
        await co.put("a", b"1", lease=lease)
        await co.put("b", b"1", lease=lease)
        await co.revoke(lease)
        assert (await co.range(""))[0] == [entry for entry in (await co.range(""))[0] if entry.key == "cluster"]
        assert await co.keep_alive(lease) is False
        await co.revoke(lease)
        await co.revoke(123456)

    run(claims)


def test_a_key_belongs_to_the_lease_of_its_last_put(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        lease, other = await co.grant(10), await co.grant(20)
        await co.put("kept", b"1", lease=lease)
        await co.put("kept", b"2")
        await co.put("moved", b"1", lease=lease)
        await co.put("moved", b"2", lease=other)
        await co.put("taken", b"1")
        await co.put("taken", b"2", lease=lease)
        await clock.advance(11)
        assert await co.get("taken") is None
        assert await co.get("moved") is not None
        await clock.advance(10)
        assert await co.get("moved") is None
        kept = await co.get("kept")
        assert kept is not None and (kept.value, kept.lease) == (b"2", 0)

    run(claims)


def test_leases_are_never_given_out_twice(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        seen = []
        for _ in range(10):
            lease = await co.grant(10)
            seen.append(lease)
            await co.revoke(lease)
        assert len(set(seen)) == 10 and 0 not in seen

    run(claims)


def test_a_watch_answers_for_what_has_changed_already(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        _, before = await co.range("")
        changed = await co.put("n/a", b"1")
        await co.put("other", b"1")
        assert changed is not None
        assert await co.watch("n/", before, PATIENCE_S) >= changed
        assert await co.watch("n/", changed, 0) == changed

    run(claims)


@pytest.mark.parametrize("kind", ["put", "delete", "revoke", "lease ends"])
def test_a_waiting_watch_is_woken_by_a_change(run: Run, kind: str) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        lease = await co.grant(10)
        await co.put("n/a", b"1", lease=lease)
        _, before = await co.range("n/")
        watch = asyncio.create_task(co.watch("n/", before, PATIENCE_S))
        await co.put("other", b"1")
        if kind == "put":
            await co.put("n/b", b"1")
        elif kind == "delete":
            await co.delete("n/a")
        elif kind == "revoke":
            await co.revoke(lease)
        else:
            await clock.advance(11)
            assert await co.get("n/a") is None
        assert await watch > before

    run(claims)


def test_a_watch_ends_without_a_change_in_its_time(run: Run) -> None:
    async def claims(co: Coordinator, clock: Time) -> None:
        await co.put("n/a", b"1")
        _, before = await co.range("n/")
        watch = asyncio.create_task(co.watch("n/", before, 0.05))
        await co.put("m", b"1")
        await co.put("n", b"1")
        assert await watch == before

    run(claims)
