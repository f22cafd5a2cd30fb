"""Requests that need no task: what the client hears of them, and that they count among those at work."""

from __future__ import annotations

import asyncio

import pytest

from objstore.model.errors import ObjstoreError, QuorumLost, Unavailable
from objstore.ports import Later
from objstore.wire.messages import Ok, Ping, Request
from tests.unit.rpc.scripted import PATIENCE_S, Answer, Run, Scripted, both_loops, cluster_of_two


@both_loops
def test_an_answer_at_once_and_one_that_waits(run: Run) -> None:
    async def main() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        service = Scripted()
        service.at_once = lambda request, payload: Later(done, (Ok(), b"later")) if payload else (Ok(), b"now")
        async with cluster_of_two(service) as (transport, server):
            waiting = asyncio.ensure_future(transport.call(server.address, Ping(), b"x", timeout_s=PATIENCE_S))
            assert (await transport.call(server.address, Ping(), timeout_s=PATIENCE_S))[1] == b"now"
            assert not waiting.done()
            done.set_result(None)
            assert bytes((await waiting)[1]) == b"later"

    run(main())


@pytest.mark.parametrize("error", [QuorumLost("so"), ZeroDivisionError("a bug"), asyncio.CancelledError()])
@pytest.mark.parametrize("late", [False, True])
def test_what_fails_is_answered_and_gives_its_place_back(error: BaseException, late: bool) -> None:
    if isinstance(error, asyncio.CancelledError) and not late:
        return

    async def main() -> None:
        def begin(request: Request, payload: bytes | memoryview) -> Answer | Later:
            if not late:
                raise error
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if isinstance(error, asyncio.CancelledError):
                done.cancel()
            else:
                done.set_exception(error)
            return Later(done, (Ok(), b""))

        service = Scripted()
        service.at_once = begin
        async with cluster_of_two(service, in_flight_max=1) as (transport, server):
            for _ in range(3):
                with pytest.raises(ObjstoreError) as caught:
                    await transport.call(server.address, Ping(), timeout_s=PATIENCE_S)
                kind = {QuorumLost: QuorumLost, asyncio.CancelledError: Unavailable}.get(type(error), ObjstoreError)
                assert type(caught.value) is kind

    asyncio.run(main())


def test_one_that_waits_is_given_time_when_the_server_closes() -> None:
    async def main() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        service, begun = Scripted(), asyncio.Event()

        def begin(request: Request, payload: bytes | memoryview) -> Later:
            begun.set()
            return Later(done, (Ok(), b"in time"))

        service.at_once = begin
        async with cluster_of_two(service) as (transport, server):
            waiting = asyncio.ensure_future(transport.call(server.address, Ping(), timeout_s=PATIENCE_S))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.05, done.set_result, None)
            await server.close(grace_s=PATIENCE_S)
            assert bytes((await waiting)[1]) == b"in time"

    asyncio.run(main())
