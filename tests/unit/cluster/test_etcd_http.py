"""Members that fail in every way: which request is sent again, and which one never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from objstore.cluster.etcd import EtcdCoordinator
from objstore.cluster.etcd_access import EtcdAccess, too_old, unsound
from objstore.model.errors import InsufficientStorage, InvalidRequest, ObjstoreError, Unavailable

NO_LEADER = (503, {"error": "etcdserver: no leader", "code": 14})
Answer = tuple[int, dict[str, object]]


class Member:
    """Answers by the script, one entry per request, its last for ever. "break": closes the connection instead."""

    def __init__(self, *script: Answer | str, version: str = "3.5.9") -> None:
        self.script = list(script)
        self.asked: list[str] = []  # paths, without those of the version
        self.tokens: list[str] = []
        self.url = ""
        self._version = version

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"etcdserver": self._version})
        self.asked.append(request.path)
        self.tokens.append(request.headers.get("Authorization", ""))
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(found, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(found[1], status=found[0])


def at(revision: int, **more: object) -> Answer:
    return 200, {"header": {"revision": str(revision)}, **more}


@asynccontextmanager
async def serving(*members: Member) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:
        for member in members:
            runner = web.ServerRunner(web.Server(member.answer))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            member.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield [member.url for member in members]


def run(*members: Member, body: Callable[[EtcdCoordinator], Awaitable[None]], dead: str = "", user: str = "") -> None:
    async def main() -> None:
        async with serving(*members) as urls:
            endpoints = (*([dead] if dead else []), *urls)
            coordinator = EtcdCoordinator(EtcdAccess(endpoints, "/objstore/x/", user=user, password=user and "secret"))
            try:
                await body(coordinator)
            finally:
                await coordinator.close()

    asyncio.run(main())


async def fails(action: Awaitable[object], kind: type[ObjstoreError], *words: str) -> None:
    with pytest.raises(kind) as error:
        await action
    for word in words:
        assert word in str(error.value)


def test_a_read_goes_on_to_the_next_member_after_any_failure() -> None:
    for failure in ("break", (500, {"error": "what", "code": 13}), NO_LEADER):
        first, second = Member(failure), Member(at(7))

        async def body(co: EtcdCoordinator) -> None:
            assert await co.range("") == ([], 7)
            assert await co.range("") == ([], 7)

        run(first, second, body=body)
        assert len(first.asked) == 1, "a member that failed is not asked again while the other answers"
        assert len(second.asked) == 2


def test_a_change_whose_outcome_is_unknown_is_not_sent_again() -> None:
    for failure in ("break", (500, {"error": "what", "code": 13}), (200, {"header": "nonsense"})):
        for expected in (None, 3):
            first, second = Member(failure), Member(at(8, succeeded=True))

            async def body(co: EtcdCoordinator, expected: int | None = expected) -> None:
                change = co.put("k", b"v", expected=expected)
                await fails(change, Unavailable, "whether the change took place is not known")
                assert await co.put("k", b"v", expected=expected) == 8  # the next change asks the other at once

            run(first, second, body=body)
            assert (len(first.asked), len(second.asked)) == (1, 1)


def test_a_change_that_did_not_take_place_is_sent_to_the_next_member() -> None:
    for failure in (NO_LEADER, (429, {"error": "etcdserver: too many requests", "code": 8})):
        first, second = Member(failure), Member(at(8, succeeded=True))

        async def body(co: EtcdCoordinator) -> None:
            assert await co.put("k", b"v", expected=3) == 8

        run(first, second, body=body)
        assert (len(first.asked), len(second.asked)) == (1, 1)
    alive = Member(at(8, succeeded=True))

    async def past_a_dead_one(co: EtcdCoordinator) -> None:
        assert await co.put("k", b"v", expected=3) == 8

    run(alive, body=past_a_dead_one, dead="http://127.0.0.1:1")


def test_while_a_leader_is_elected_the_members_are_asked_again() -> None:
    first, second = Member(NO_LEADER), Member(NO_LEADER, NO_LEADER, at(9))

    async def body(co: EtcdCoordinator) -> None:
        assert await co.put("k", b"v") == 9

    run(first, second, body=body)


def test_when_nobody_answers_every_member_and_its_problem_are_named() -> None:
    async def body(co: EtcdCoordinator) -> None:
        await fails(co.get("k"), Unavailable, "http://127.0.0.1:1: no connection (Connect", member.url, "etcdserver: x")

    member = Member((500, {"error": "etcdserver: x", "code": 13}))
    run(member, body=body, dead="http://127.0.0.1:1")


def test_what_will_never_be_taken_is_said_with_the_way_out() -> None:
    for text, kind, word in (
        ("etcdserver: request is too large", InvalidRequest, "--max-request-bytes"),
        ("etcdserver: mvcc: database space exceeded", InsufficientStorage, "--auto-compaction-retention"),
        ("etcdserver: permission denied", Unavailable, "coordinator.user"),
        ("etcdserver: user name is empty", Unavailable, "set coordinator.user"),
    ):
        first, second = Member((400, {"error": text, "code": 3})), Member(at(8))

        async def body(co: EtcdCoordinator, kind: type[ObjstoreError] = kind, word: str = word) -> None:
            await fails(co.put("k", b"v"), kind, word)

        run(first, second, body=body)
        assert second.asked == []


def test_a_token_that_expired_is_replaced_and_the_change_sent_again() -> None:
    member = Member((200, {"token": "T1"}), at(1), (401, {"error": "etcdserver: invalid auth token"}),
                    (200, {"token": "T2"}), at(2))  # fmt: skip

    async def body(co: EtcdCoordinator) -> None:
        assert await co.put("k", b"v") == 1
        assert await co.put("k", b"v") == 2

    run(member, body=body, user="me")
    assert [path.rpartition("/")[2] for path in member.asked] == ["authenticate", "put", "put", "authenticate", "put"]
    assert member.tokens == ["", "T1", "T1", "", "T2"]


def test_a_wrong_password_and_an_etcd_without_passwords() -> None:
    refused = Member((400, {"error": "etcdserver: authentication failed, invalid user ID or password", "code": 3}))

    async def wrong(co: EtcdCoordinator) -> None:
        await fails(co.get("k"), Unavailable, "authentication failed", "coordinator.password")

    run(refused, body=wrong, user="me")
    without = Member((412, {"error": "etcdserver: authentication is not enabled", "code": 9}), at(1))

    async def right(co: EtcdCoordinator) -> None:
        assert await co.put("k", b"v") == 1

    without.script.insert(1, without.script[0])  # asked before the request and with it
    run(without, body=right, user="me")


def test_a_revision_that_falls_is_an_error_once() -> None:
    member = Member(at(50), at(7), at(7))

    async def body(co: EtcdCoordinator) -> None:
        assert (await co.range(""))[1] == 50
        await fails(co.range(""), Unavailable, "fell from 50 to 7")
        assert (await co.range(""))[1] == 7

    run(member, body=body)


def test_an_etcd_that_is_too_old_or_none_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def old(co: EtcdCoordinator) -> None:
        await fails(co.get("k"), Unavailable, "etcd 3.3.27 is too old: 3.4.22 or 3.5.6 is the least")

    run(Member(at(1), version="3.3.27"), body=old)

    async def foreign(co: EtcdCoordinator) -> None:
        await fails(co.get("k"), Unavailable, "this is not etcd")

    class Foreign(Member):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            return web.Response(status=404, text="Not Found")

    run(Foreign(at(1)), body=foreign)

    async def faulty(co: EtcdCoordinator) -> None:
        assert await co.get("k") is None

    run(Member(at(1), version="3.5.1"), body=faulty)
    assert "upgrade it to 3.5.6 or later" in caplog.text


def test_versions() -> None:
    assert [version for version in ("3.3.27", "2.0.0", "3.4.0", "3.5.0-rc.1", "4.0.0") if too_old(version)] == [
        "3.3.27", "2.0.0",
    ]  # fmt: skip
    faulty = [v for v in ("3.4.21", "3.4.22", "3.5.5", "3.5.6", "3.5.0-rc.1", "3.6.0", "4.0") if unsound(v)]
    assert faulty == ["3.4.21", "3.5.5", "3.5.0-rc.1"]


def test_numbers_beyond_what_a_double_holds_survive() -> None:
    lease = 7533855895446863367
    sent: list[dict[str, object]] = []

    class Recording(Member):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            if request.path != "/version":
                sent.append(json.loads(await request.read()))
            return await super().answer(request)

    kv = {"key": "L29ianN0b3JlL3gvaw==", "value": "AP8=", "mod_revision": "9007199254740993", "lease": str(lease)}
    member = Recording((200, {"ID": str(lease), "TTL": "3"}), at(9007199254740993), at(9007199254740993, kvs=[kv]))

    async def body(co: EtcdCoordinator) -> None:
        assert await co.grant(2.5) == lease
        assert await co.put("k", b"\x00\xff", lease=lease) == 9007199254740993
        assert await co.get("k") == ("k", b"\x00\xff", 9007199254740993, lease)

    run(member, body=body)
    assert sent[0] == {"TTL": "3"}, "whole seconds, rounded up"
    assert sent[1] == {"key": "L29ianN0b3JlL3gvaw==", "value": "AP8=", "lease": str(lease)}
