"""Ambushes of renames: keys that are renamed in circles while others write them, gateways that die in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from objstore.engine.engine import Engine
from objstore.engine.types import ALWAYS, WriteCondition
from objstore.model.errors import NoSuchKey, ObjstoreError, PreconditionFailed
from tests.sim.ambush.bodies import chunks, fetch, put
from tests.sim.checks import collected, make_old
from tests.sim.cluster import Gone, SimCluster
from tests.sim.linearize import Operation, check
from tests.sim.loop import run

KEYS = ("a", "b", "c")
CLIENTS, STEPS = 4, 7
WATCHERS, LOOKS = 2, 40
SETTLED_S = 60.0
SIZES = (300, 40_000)  # inline, in a blob
ONLY_IF_NEW = WriteCondition(if_none_match="*")

State = tuple[object, ...]  # what each key has; None: nothing


@dataclass(frozen=True)
class Step:
    """What one client did to the keys, all of which are one object: a rename changes two of them at once."""

    kind: Literal["put", "delete", "get", "rename", "append"]
    start: float
    end: float  # inf: nobody told how it ended
    at: int
    value: object = None  # written, read, or appended
    to: int = 0
    only_new: bool = False
    answer: str = ""  # "" done | "missing" | "refused"

    @property
    def reads(self) -> bool:
        return self.kind == "get" or bool(self.answer)

    def apply(self, state: object) -> tuple[bool, object]:
        assert isinstance(state, tuple)
        found = state[self.at]
        after = list(state)
        would = ""
        match self.kind:
            case "get":
                return found == self.value, state
            case "put":
                after[self.at] = self.value
            case "delete":
                after[self.at] = None
            case "rename" if found is None:
                would = "missing"
            case "rename" if self.only_new and state[self.to] is not None:
                would = "refused"
            case "rename":
                after[self.at], after[self.to] = None, found
        if self.end == inf:
            return True, state if would else tuple(after)
        return would == self.answer, state if would else tuple(after)


class Story:
    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.steps: list[Operation] = []
        self.bodies: dict[bytes, int] = {}
        self.wrong: list[str] = []

    async def client(self) -> None:
        random = self.cluster.random
        for _ in range(STEPS):
            await asyncio.sleep(random.uniform(0, 0.1))
            at, to = random.sample(range(len(KEYS)), 2)
            kind = random.choices(("rename", "get", "put", "delete"), (5, 4, 2, 1))[0]
            await getattr(self, f"_{kind}")(self._gateway(), at, to)

    async def watcher(self) -> None:
        """Looks all the time, so that what is there for a moment only is seen."""
        for _ in range(LOOKS):
            await asyncio.sleep(self.cluster.random.uniform(0, 0.01))
            await self._get("gateway1", self.cluster.random.randrange(len(KEYS)), 0)

    def _gateway(self) -> str:
        gateway = self.cluster.random.choice(["gateway1", "gateway2"])
        return gateway if gateway in self.cluster.ready else "gateway1"

    async def _do(
        self, step: dict[str, Any], gateway: str, work: Callable[[Engine], Coroutine[Any, Any, object]]
    ) -> None:
        start = self.cluster.loop.time()
        answer, end = "", inf
        try:
            value = await self.cluster.at(gateway, work)
            end = self.cluster.loop.time()
            if step["kind"] == "get":
                step["value"] = value
        except NoSuchKey:
            answer, end = "missing", self.cluster.loop.time()
        except PreconditionFailed:
            answer, end = "refused", self.cluster.loop.time()
        except (ObjstoreError, Gone):
            if step["kind"] == "get":
                return
        if step["kind"] == "get" and answer:
            answer = ""
        self.steps.append(Step(**step, start=start, end=end, answer=answer))

    async def _put(self, gateway: str, at: int, to: int) -> None:
        body = self._body()
        await self._do(
            {"kind": "put", "at": at, "value": self.bodies[body]},
            gateway,
            lambda engine: put(engine, "b", KEYS[at], body),
        )

    def _body(self) -> bytes:
        number = len(self.bodies) + 1
        body = bytes((number,)) * (self.cluster.random.choice(SIZES) + number)
        self.bodies[body] = number
        return body

    async def _delete(self, gateway: str, at: int, to: int) -> None:
        await self._do({"kind": "delete", "at": at}, gateway, lambda engine: engine.delete_object("b", KEYS[at]))

    async def _get(self, gateway: str, at: int, to: int) -> None:
        await self._do({"kind": "get", "at": at}, gateway, lambda engine: self._fetched(engine, at))

    async def _fetched(self, engine: Engine, at: int) -> int:
        info = await engine.head_object("b", KEYS[at])
        return next(number for body, number in self.bodies.items() if len(body) == info.size)

    async def _rename(self, gateway: str, at: int, to: int) -> None:
        only_new = self.cluster.random.random() < 0.5
        token = self.cluster.random.randbytes(8).hex() if self.cluster.random.random() < 0.5 else ""

        async def work(engine: Engine) -> None:
            condition = ONLY_IF_NEW if only_new else ALWAYS
            await engine.rename_object("b", KEYS[at], KEYS[to], condition=condition, token=token)

        await self._do({"kind": "rename", "at": at, "to": to, "only_new": only_new}, gateway, work)

    async def final(self) -> None:
        """What every key has now, byte for byte, through both gateways."""
        for engine in self.cluster.engines:
            for at, key in enumerate(KEYS):
                start = self.cluster.loop.time()
                try:
                    body = await fetch(engine, "b", key)
                except NoSuchKey:
                    value = None
                except ObjstoreError as error:
                    self.wrong.append(f"{key} cannot be read: {type(error).__name__}: {error}")
                    continue
                else:
                    value = self.bodies.get(body)
                    if value is None:
                        self.wrong.append(f"{key} has bytes that nobody wrote there")
                        continue
                self.steps.append(Step("get", start, self.cluster.loop.time(), at, value))

    def judge(self) -> list[str]:
        if not check(self.steps, (None,) * len(KEYS)):
            shown = "\n".join(str(step) for step in sorted(self.steps, key=lambda step: step.start))
            self.wrong.append(f"no order of the operations explains what was seen:\n{shown}")
        return self.wrong


def renames(seed: int) -> list[str]:
    """INV-24, INV-25: a rename is one moment, whoever dies in it; what it has moved stays, and nothing else does."""

    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            await cluster.engines[0].create_bucket("b")
            story = Story(cluster)
            trouble = asyncio.ensure_future(_trouble(cluster))
            await asyncio.gather(*(story.client() for _ in range(CLIENTS)), *(story.watcher() for _ in range(WATCHERS)))
            await trouble
            await story.final()
            wrong = story.judge() or await _borrowed(cluster)
            if wrong:
                return wrong
            await asyncio.sleep(SETTLED_S)  # what becomes a tombstone then is old with all else
            await make_old(cluster)
            left = await collected(cluster)
            await story.final()
            return left or story.judge()

    return run(main, seed)[0]


async def _trouble(cluster: SimCluster) -> None:
    """Gateways die, or are not answered, or stand still."""
    random = cluster.random
    for _ in range(3):
        await asyncio.sleep(random.uniform(0.0, 0.3))
        match random.randrange(3):
            case 0:
                cluster.stop("gateway2")
                await asyncio.sleep(random.uniform(0.0, 1.5))
                await cluster.start("gateway2")
            case 1:
                cluster.network.blocked = {(machine.name, "gateway1") for machine in cluster.machines}
                await asyncio.sleep(random.uniform(0.0, 1.0))
                cluster.network.blocked = set()
            case _:
                cluster.freeze("gateway2")
                await asyncio.sleep(random.uniform(0.0, 3.0))
                cluster.thaw("gateway2")
    while "gateway2" not in cluster.ready:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def _borrowed(cluster: SimCluster) -> list[str]:
    """From name to name, appended to, and the names written anew, while garbage is collected all the time."""
    random, engine = cluster.random, cluster.engines[0]
    whole = random.randbytes(50_000)
    names = ["x0", "x1", "x2"]
    await put(engine, "b", names[0], whole)
    for _ in range(12):
        other = random.choice(names[1:])
        await engine.rename_object("b", names[0], other)
        names.remove(other)
        names.insert(0, other)
        match random.randrange(4):
            case 0:
                more = random.randbytes(random.choice((100, 60_000)))
                base = await engine.head_object("b", other)
                await engine.append_object("b", other, base, chunks(more), len(more), {})
                whole += more
            case 1:
                await put(engine, "b", random.choice(names[1:]), random.randbytes(30_000))
            case 2:
                await engine.delete_object("b", random.choice(names[1:]))
        await asyncio.sleep(random.uniform(0, 12.0))
    if await fetch(cluster.engines[1], "b", names[0]) != whole:
        return ["what was renamed and appended to is not there any more"]
    if random.random() < 0.5:
        await engine.delete_object("b", names[0])
    return []
