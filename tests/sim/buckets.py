"""A bucket that is made and deleted while others write to it. Bucket and its one key are judged as one object."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from objstore.engine.engine import Engine
from objstore.model.errors import BucketAlreadyExists, BucketNotEmpty, GivenUp, NoSuchBucket, NoSuchKey, ObjstoreError
from tests.sim.workload import UNKNOWN, Workload, body

BUCKET = "fleeting"
KEY = "k"
Kind = Literal["create", "drop", "put", "delete", "get"]


@dataclass(frozen=True)
class BucketOp:
    """The state: None = no bucket; (ETag or None,) = a bucket, with its key or without."""

    kind: Kind
    start: float
    end: float
    value: str | None = None  # put, or got
    error: str = ""  # the class of the refusal

    @property
    def reads(self) -> bool:
        return self.kind == "get" or self.error != ""

    def apply(self, state: object) -> tuple[bool, object]:
        there = isinstance(state, tuple)
        etag = state[0] if isinstance(state, tuple) else None
        if self.end == inf:
            return True, self._after(there, etag, state)
        match self.error:
            case "":
                wanted = {"drop": etag is None, "get": etag == self.value}.get(self.kind, True)
                possible = not there if self.kind == "create" else there and wanted
                return possible, self._after(there, etag, state)
            case "BucketAlreadyExists" | "BucketNotEmpty":
                return there, state
            case "NoSuchKey":
                return there and etag is None, state
            case "NoSuchBucket":
                return not there, state
        raise AssertionError(self.error)

    def _after(self, there: bool, etag: str | None, state: object) -> object:
        match self.kind:
            case "create":
                return state if there else (None,)
            case "drop":
                return None if there and etag is None else state
            case "put":
                return (self.value,) if there else state
            case "delete":
                return (None,) if there else state
            case "get":
                return state


async def meddle(work: Workload) -> None:
    """One operation."""
    random, history = work.cluster.random, work.history
    kind: Kind = random.choice(("create", "create", "drop", "put", "put", "delete", "get"))
    data = random.randbytes(random.choice((10, 20_000)))
    value = history.body(data) if kind == "put" else None
    start = history.now()
    try:
        got = await history.run("put" if kind == "put" else "bucket", await work.gateway(), _operation(kind, data))
    except (BucketAlreadyExists, BucketNotEmpty, NoSuchKey, NoSuchBucket) as error:
        if kind == "put" and isinstance(error, NoSuchBucket):
            work.ghosts.add(str(value))  # it may lie in a bucket that is no more, which gateways remember for CACHE_S
            return
        op = BucketOp(kind, start, history.now(), value, type(error).__name__)
    except GivenUp:
        return
    except UNKNOWN:
        history.failed += 1
        if kind == "get":
            return
        op = BucketOp(kind, start, inf, value)
    except ObjstoreError as error:
        history.complain(f"{kind} of a fleeting bucket: unexpected {error!r}")
        return
    else:
        op = BucketOp(kind, start, history.now(), got if kind == "get" else value)
    history.add(f"bucket {BUCKET}", op)


def spare_ghosts(work: Workload) -> None:
    """Before the judgement. A gateway may read from a bucket for CACHE_S after it was deleted: it is empty then but for
    objects whose writers heard that there is no such bucket."""
    name = f"bucket {BUCKET}"
    ops = work.history.ops.get(name, [])
    ghosts = [op for op in ops if isinstance(op, BucketOp) and op.kind == "get" and op.value in work.ghosts]
    work.history.ops[name] = [op for op in ops if op not in ghosts]


def _operation(kind: Kind, data: bytes) -> Callable[[Engine], Coroutine[Any, Any, str | None]]:
    async def operation(engine: Engine) -> str | None:
        match kind:
            case "create":
                await engine.create_bucket(BUCKET)
            case "drop":
                await engine.delete_bucket(BUCKET)
            case "put":
                await engine.put_object(BUCKET, KEY, body(data), len(data), {})
            case "delete":
                await engine.delete_object(BUCKET, KEY)
            case "get":
                return (await engine.head_object(BUCKET, KEY)).etag
        return None

    return operation
