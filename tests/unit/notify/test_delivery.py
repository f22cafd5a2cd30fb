"""Events from the write to the webhook, over the engine's real operations: who delivers, what remains, who goes on."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from objstore.adapters.clock import SystemClock
from objstore.engine.keystate import state_of
from objstore.engine.types import WriteCondition
from objstore.model import bucketconfig, limits
from objstore.model.errors import PreconditionFailed
from objstore.model.notification import COPY, TAGGED, BucketNotification, Event, Rule, Waiting, waiting
from objstore.model.records import RegisterKey, Space
from objstore.notify import courier
from objstore.notify.courier import Courier
from objstore.notify.outbox import deliver
from objstore.notify.sender import Sender, Target
from objstore.notify.sweeper import Sweeper
from objstore.ports import Buffer
from objstore.register.change import body_of
from tests.s3.memory_engine import MemoryEngine
from tests.s3.webhook import Webhook, webhook

ALL = ("ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:*")
SECRET = "a shared secret"


class Clock(SystemClock):
    """Its times can be moved on."""

    ahead_s = 0.0

    def wall_ms(self) -> int:
        return super().wall_ms() + int(1000 * self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Store:
    """A bucket with rules, and a target of them."""

    def __init__(self, hook: Webhook) -> None:
        self.hook = hook
        self.engine = MemoryEngine()
        self.clock = Clock()
        targets = {"hook": Target(hook.url, SECRET), "dead": Target("http://127.0.0.1:1/")}
        self.sender = Sender(targets, "us-east-1", self.clock)
        self.courier = Courier(self.engine.registers, self.sender)
        self.bucket = b""

    async def begin(self, *rules: Rule, versioning: str = "", courier: bool = True) -> None:
        config = bucketconfig.encoded(BucketNotification(rules or (Rule("r1", "hook", ALL),)))
        self.bucket = (await self.engine.create_bucket("b", versioning=versioning, config=config)).id
        if courier:
            self.engine.on_event(self.courier.hear)

    async def put(self, key: str, body: bytes = b"x", **options: Any) -> str:
        async def chunks() -> AsyncIterator[Buffer]:
            yield body

        return (await self.engine.put_object("b", key, chunks(), len(body), {}, **options)).version_id

    def register(self, key: str) -> RegisterKey:
        return RegisterKey(self.bucket, Space.OBJECT, key.encode())  # type: ignore[arg-type]

    async def events(self, key: str) -> tuple[Event, ...]:
        return state_of(body_of(await self.engine.registers.read(self.register(key)))).events

    async def pending(self, *keys: str) -> dict[bytes, tuple[Waiting, ...]]:
        """What a survey would have found."""
        return {self.register(key).pack(): waiting(await self.events(key)) for key in keys}

    async def settled(self, key: str) -> None:
        async with asyncio.timeout(20):
            while await self.events(key):  # noqa: ASYNC110 (a register tells nobody)
                await asyncio.sleep(0.01)


Play = Callable[[Store], Coroutine[Any, Any, None]]


def play(script: Play) -> None:
    async def main() -> None:
        async with webhook() as hook:
            store = Store(hook)
            try:
                await script(store)
            finally:
                await store.courier.close()
                await store.sender.close()

    asyncio.run(main())


def names(hook: Webhook) -> list[str]:
    return [record["eventName"] for record in hook.records]


def test_each_kind_of_write_is_told_in_order_and_then_forgotten() -> None:
    async def script(store: Store) -> None:
        await store.begin()
        await store.put("a b/ü", b"12345")
        await store.settled("a b/ü")
        await store.put("a b/ü", event=COPY)
        await store.engine.amend_object("b", "a b/ü", None, lambda version: version, event=TAGGED)
        await store.engine.delete_object("b", "a b/ü")
        await store.engine.delete_object("b", "a b/ü")  # finds nothing
        await store.settled("a b/ü")
        assert names(store.hook) == [
            "ObjectCreated:Put", "ObjectCreated:Copy", "ObjectTagging:Put", "ObjectRemoved:Delete",
        ]  # fmt: skip
        first = store.hook.records[0]
        assert (first["eventVersion"], first["eventSource"], first["awsRegion"]) == ("2.1", "aws:s3", "us-east-1")
        assert first["s3"]["bucket"] == {
            "name": "b", "ownerIdentity": {"principalId": "objstore"}, "arn": "arn:aws:s3:::b",
        }  # fmt: skip
        thing = first["s3"]["object"]
        assert thing["key"] == "a+b/%C3%BC"
        assert (thing["size"], thing["eTag"]) == (5, hashlib.md5(b"12345").hexdigest())
        assert "versionId" not in thing
        order = [record["s3"]["object"]["sequencer"] for record in store.hook.records]
        assert order == sorted(set(order))
        value = await store.engine.registers.read(store.register("a b/ü"))
        assert body_of(value) == b"", "a deleted key whose events are told says nothing any more"

    play(script)


def test_versions_are_named_and_a_delete_marker_is_one() -> None:
    async def script(store: Store) -> None:
        await store.begin(versioning="Enabled")
        first = await store.put("k")
        marker = (await store.engine.delete_object("b", "k")).version_id
        await store.engine.delete_object("b", "k", first)
        await store.settled("k")
        told = [(record["eventName"], record["s3"]["object"]["versionId"]) for record in store.hook.records]
        assert told == [
            ("ObjectCreated:Put", first),
            ("ObjectRemoved:DeleteMarkerCreated", marker),
            ("ObjectRemoved:Delete", first),
        ]  # fmt: skip

    play(script)


def test_only_what_a_rule_wants_is_told_and_a_refused_write_is_not() -> None:
    async def script(store: Store) -> None:
        await store.begin(Rule("images", "hook", ("ObjectCreated:Put",), "in/", ".jpg"))
        for key in ("in/a.jpg", "in/a.png", "out/a.jpg"):
            await store.put(key)
        with pytest.raises(PreconditionFailed):
            await store.put("in/a.jpg", condition=WriteCondition(if_none_match="*"))
        await store.put("in/a.jpg", event=COPY)
        await store.settled("in/a.jpg")
        found = [(record["s3"]["configurationId"], record["s3"]["object"]["key"]) for record in store.hook.records]
        assert found == [("images", "in/a.jpg")]

    play(script)


def test_messages_are_signed_and_a_repeat_has_the_same_name() -> None:
    async def script(store: Store) -> None:
        await store.begin(courier=False)
        await store.put("k")
        store.hook.status = 503
        assert not await deliver(store.engine.registers, store.sender, store.register("k"))
        store.hook.status, store.clock.ahead_s = 204, 5.0
        assert await deliver(store.engine.registers, store.sender, store.register("k"))
        (first, body), (again, _) = store.hook.messages
        assert first["x-objstore-delivery"] == again["x-objstore-delivery"]
        signed = first["x-objstore-timestamp"].encode() + b"." + body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        assert first["x-objstore-signature"] == f"sha256={expected}"

    play(script)


def test_what_a_gateway_wrote_that_died_the_repairer_tells() -> None:
    """The write is committed, nobody has heard of its event: all that is left of it is in the register."""

    async def script(store: Store) -> None:
        await store.begin(courier=False)
        await store.put("kept")
        await store.put("gone")
        await store.engine.delete_object("b", "gone")
        assert await store.engine.registers.scan_all(store.bucket, Space.OBJECT) != []  # type: ignore[arg-type]
        assert len(await store.events("gone")) == 2, "a deleted key stays until its events are told"
        pending = await store.pending("kept", "gone")
        sweeper = Sweeper(store.engine.registers, store.sender, pending, grace_s=60)
        await sweeper.sweep(lambda: True)
        assert store.hook.records == [], "so young an event is still with the gateway"
        store.clock.ahead_s = 61
        await sweeper.sweep(lambda: False)
        assert store.hook.records == [], "it leads no more"
        await sweeper.sweep(lambda: True)
        assert sorted(names(store.hook)) == ["ObjectCreated:Put", "ObjectCreated:Put", "ObjectRemoved:Delete"]
        assert not await store.events("kept") and not await store.events("gone")

    play(script)


def test_a_target_that_fails_is_left_alone_then_tried_once_and_all_is_told_in_the_end() -> None:
    async def script(store: Store) -> None:
        await store.begin(courier=False)
        keys = [f"k{number}" for number in range(20)]
        for key in keys:
            await store.put(key)
        store.hook.status = 500
        sweeper = Sweeper(store.engine.registers, store.sender, await store.pending(*keys), grace_s=0)
        await sweeper.sweep(lambda: True)
        after_first = len(store.hook.messages)
        await sweeper.sweep(lambda: True)
        assert len(store.hook.messages) == after_first, "it is left alone"
        report = next(one for one in sweeper.report if one.name == "hook")
        assert (report.pending, report.delivered, report.reason) == (20, 0, "it answered 500")
        assert report.failing_since_ms and report.oldest_ms
        store.clock.ahead_s += 2
        await sweeper.sweep(lambda: True)
        assert len(store.hook.messages) == after_first + 1, "one tries it"
        store.hook.status = 200
        store.clock.ahead_s += 10
        await sweeper.sweep(lambda: True)
        await sweeper.sweep(lambda: True)
        assert len(store.hook.records) == 20
        assert store.sender.health["hook"].failing_since_ms == 0
        assert not any([await store.events(key) for key in keys])

    play(script)


def test_one_failing_target_holds_up_no_other_and_only_its_deliveries_stay() -> None:
    async def script(store: Store) -> None:
        await store.begin(Rule("r1", "hook", ("ObjectCreated:*",)), Rule("r2", "dead", ("ObjectCreated:Put",)))
        await store.put("k")
        await store.hook.wait_for(1)
        async with asyncio.timeout(20):
            while len((await store.events("k"))[0].open) == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (event,) = await store.events("k")
        assert [one.target for one in event.open] == ["dead"]

    play(script)


def test_past_the_bound_the_oldest_events_of_a_key_go_and_the_next_says_how_many() -> None:
    async def script(store: Store) -> None:
        await store.begin(courier=False)
        over = 7
        for number in range(limits.EVENTS_PER_KEY_MAX + over):
            await store.put("k", b"%d" % number)
        events = await store.events("k")
        assert len(events) == limits.EVENTS_PER_KEY_MAX
        assert [event.omitted for event in events] == [over] + [0] * (limits.EVENTS_PER_KEY_MAX - 1)
        assert await deliver(store.engine.registers, store.sender, store.register("k"))
        things = [record["s3"]["object"] for record in store.hook.records]
        assert things[0]["objstore:omittedBefore"] == over
        last = hashlib.md5(b"%d" % (limits.EVENTS_PER_KEY_MAX + over - 1)).hexdigest()
        assert things[-1]["eTag"] == last, "what became of the key is told"

    play(script)


def test_what_waited_for_too_long_is_given_up_and_counted() -> None:
    async def script(store: Store) -> None:
        await store.begin(Rule("r1", "nobody", ALL), courier=False)
        await store.put("k")
        sweeper = Sweeper(store.engine.registers, store.sender, await store.pending("k"), grace_s=0)
        await sweeper.sweep(lambda: True)
        report = next(one for one in sweeper.report if one.name == "nobody")
        assert (report.pending, report.url) == (1, "") and "no target" in report.reason
        store.clock.ahead_s = limits.EVENT_KEPT_MS / 1000 + 1
        await sweeper.sweep(lambda: True)
        assert not await store.events("k")
        assert store.sender.health["nobody"].given_up == 1

    play(script)


def test_what_is_old_only_by_the_clock_of_its_gateway_is_sent_all_the_same() -> None:
    async def script(store: Store) -> None:
        await store.begin(courier=False)
        await store.put("k")
        store.clock.ahead_s = limits.EVENT_KEPT_MS / 1000 + 1
        await Sweeper(store.engine.registers, store.sender, await store.pending("k")).sweep(lambda: True)
        assert len(store.hook.records) == 1 and not await store.events("k")
        assert store.sender.health["hook"].given_up == 0

    play(script)


def test_an_event_that_comes_while_others_are_sent_stays() -> None:
    async def script(store: Store) -> None:
        await store.begin(courier=False)
        await store.put("k", b"1")
        inner = store.sender.send

        async def send(*arguments: Any) -> bool:
            sent = await inner(*arguments)
            await store.put("k", b"2")
            return sent

        store.sender.send = send  # type: ignore[method-assign]
        await deliver(store.engine.registers, store.sender, store.register("k"))
        (left,) = await store.events("k")
        assert left.etag == hashlib.md5(b"2").hexdigest()

    play(script)


def held(store: Store) -> asyncio.Event:
    """The target answers once this is set."""
    gate, attempt = asyncio.Event(), store.sender.attempt

    async def later(*arguments: str | bytes) -> str:
        await gate.wait()
        return await attempt(*arguments)  # type: ignore[arg-type]

    store.sender.attempt = later  # type: ignore[method-assign]
    return gate


def test_a_key_that_is_written_while_it_is_told_of_is_told_of_again() -> None:
    async def script(store: Store) -> None:
        await store.begin()
        gate = held(store)
        await store.put("k", b"1")
        await asyncio.sleep(0.05)
        await store.put("k", b"2")
        gate.set()
        await store.settled("k")
        etags = [record["s3"]["object"]["eTag"] for record in store.hook.records]
        assert etags == [hashlib.md5(body).hexdigest() for body in (b"1", b"2")]

    play(script)


def test_what_a_gateway_cannot_hold_is_left_to_the_repairer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "WIDTH", 1)
    monkeypatch.setattr(courier, "WAITING_MAX", 2)

    async def script(store: Store) -> None:
        await store.begin()
        gate = held(store)
        keys = [f"k{number}" for number in range(5)]
        for key in keys:
            await store.put(key)
        gate.set()
        for key in keys[:3]:
            await store.settled(key)
        assert len(store.hook.records) == 3
        assert [len(await store.events(key)) for key in keys] == [0, 0, 0, 1, 1]
        await Sweeper(store.engine.registers, store.sender, await store.pending(*keys[3:]), 0).sweep(lambda: True)
        assert len(store.hook.records) == 5

    play(script)
