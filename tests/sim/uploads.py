"""Clients that write objects in parts, change their minds, and repeat themselves. Part of a Workload."""

from __future__ import annotations

import asyncio
import hashlib
from math import inf

from objstore.engine.engine import Engine
from objstore.engine.types import ObjectInfo
from objstore.model.errors import InvalidPart, NoSuchUpload, ObjstoreError
from tests.sim.history import etag_of
from tests.sim.linearize import Op
from tests.sim.workload import KEYS, REFUSED, UNKNOWN, Workload, body, write_condition

PART_SIZES = (10, 70_000, 100_000)
LAST_PART_SIZES = (1, 5000, 40_000)
REPEATS = 4  # of a Complete or an Abort whose outcome is unknown


async def upload(work: Workload) -> None:
    """One upload from beginning to some end."""
    random, history = work.cluster.random, work.history
    key = KEYS[random.randrange(work.keys)]
    try:
        gateway = await work.gateway()
        name = await history.run("upload", gateway, lambda engine: engine.create_upload(work.bucket, key, {}))
    except UNKNOWN:
        history.failed += 1
        return
    except ObjstoreError as error:
        history.complain(f"create upload: unexpected {error!r}")
        return
    sent: dict[int, bytes] = {}
    sizes = [*random.choices(PART_SIZES[1:], k=random.choice((0, 0, 1, 2))), random.choice(LAST_PART_SIZES)]
    for number, size in enumerate(sizes, 1):
        known = True
        for _ in range(random.choice((1, 1, 2))):  # the last one counts
            data = random.randbytes(size)
            known = await _put_part(work, key, name, number, data) and known  # one without an answer may come yet
            sent[number] = data
        if not known:
            del sent[number]
    ending = random.choice(("complete", "complete", "complete", "abort", "both", "leave"))
    if ending in ("complete", "both") and len(sent) == len(sizes):
        rival = asyncio.create_task(_abort(work, key, name, later=True)) if ending == "both" else None
        await _complete(work, key, name, [sent[number] for number in sorted(sent)], contested=rival is not None)
        if rival is not None:
            await rival
    elif ending != "leave":
        await _abort(work, key, name)
    elif len(sent) == len(sizes):
        work.left.append((key, name, [sent[number] for number in sorted(sent)]))


async def end_all(work: Workload) -> None:
    """In the end, when everything works: complete what was left open and is known, abort all other uploads."""
    for key, name, parts in work.left:
        await _complete(work, key, name, parts)
    engine = work.cluster.engines[0]
    page = await engine.list_uploads(work.bucket)
    for entry in page.uploads:
        await _abort(work, entry.key, entry.upload_id)
    if (await engine.list_uploads(work.bucket)).uploads:
        work.history.complain("uploads are listed that were completed or aborted")


async def _put_part(work: Workload, key: str, name: str, number: int, data: bytes) -> bool:
    """False: it is not known whether the part is there."""
    history = work.history

    async def operation(engine: Engine) -> str:
        return (await engine.put_part(work.bucket, key, name, number, body(data), len(data))).etag

    try:
        etag = await history.run("part", await work.gateway(), operation)
    except UNKNOWN:
        history.failed += 1
        return False
    except ObjstoreError as error:
        history.complain(f"part of an open upload: unexpected {error!r}")
        return False
    if etag != etag_of(data):
        history.complain(f"part {number} of {name} has ETag {etag}")
    return True


async def _complete(work: Workload, key: str, name: str, parts: list[bytes], *, contested: bool = False) -> None:
    """A Complete and its repeats are one write; it takes effect at most once. `contested`: somebody aborts it."""
    random, history = work.cluster.random, work.history
    etags = [etag_of(part) for part in parts]
    joint = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False).hexdigest() + f"-{len(parts)}"
    history.contents[joint] = b"".join(parts)
    condition = random.choice(("", "", "absent", "present"))
    start, unknown = history.now(), False

    async def operation(engine: Engine) -> ObjectInfo:
        named = list(enumerate(etags, 1))
        return await engine.complete_upload(work.bucket, key, name, named, condition=write_condition(condition))

    def record(end: float, ok: bool = True) -> None:
        history.add(f"key {key}", Op("write", start, end, joint, condition, ok))

    again = random.random() < 0.3  # repeat it though it has succeeded
    for _ in range(REPEATS):
        patience_s = random.choice((0.02, 0.3)) if random.random() < 0.15 else None
        try:
            async with asyncio.timeout(patience_s):
                info = await history.run("complete", await work.gateway(), operation)
        except REFUSED:
            record(inf) if unknown else record(history.now(), ok=False)
            return
        except (NoSuchUpload, InvalidPart) as error:
            # Aborted: its parts may be gone first. What an earlier try of ours did before that, nobody can tell.
            if isinstance(error, InvalidPart) and not contested:
                history.complain(f"complete of {name} does not find a part: {error!r}")
            if unknown:
                record(inf)
            return
        except UNKNOWN:
            history.failed += 1
            unknown = True
            await asyncio.sleep(random.uniform(0, 1.0))
            continue
        except ObjstoreError as error:
            history.complain(f"complete of {name}: unexpected {error!r}")
            record(inf)
            return
        if info.etag != joint:
            history.complain(f"the upload {name} became {info.etag}, not {joint}")
        record(history.now())
        if again:
            await _repeat(work, key, name, etags, joint)
        return
    record(inf)


async def _repeat(work: Workload, key: str, name: str, etags: list[str], joint: str) -> None:
    """A repeat of a Complete that has succeeded is answered alike, or the upload is forgotten; it writes nothing."""
    history = work.history
    await asyncio.sleep(work.cluster.random.uniform(0, 2.0))

    async def operation(engine: Engine) -> ObjectInfo:
        return await engine.complete_upload(work.bucket, key, name, list(enumerate(etags, 1)))

    try:
        info = await history.run("complete", await work.gateway(), operation)
    except (*UNKNOWN, NoSuchUpload):
        return
    except ObjstoreError as error:
        history.complain(f"repeated complete of {name}: unexpected {error!r}")
        return
    if info.etag != joint:
        history.complain(f"the repeated complete of {name} says {info.etag}, not {joint}")


async def _abort(work: Workload, key: str, name: str, *, later: bool = False) -> None:
    random, history = work.cluster.random, work.history
    if later:
        await asyncio.sleep(random.uniform(0, 0.1))
    for _ in range(REPEATS):
        try:
            await history.run("abort", await work.gateway(), lambda engine: engine.abort_upload(work.bucket, key, name))
        except NoSuchUpload:
            return
        except UNKNOWN:
            history.failed += 1
            await asyncio.sleep(random.uniform(0, 1.0))
            continue
        except ObjstoreError as error:
            history.complain(f"abort of {name}: unexpected {error!r}")
        return
