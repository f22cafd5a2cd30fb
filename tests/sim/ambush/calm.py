"""No ambush at all: a small cluster on a good day, where every operation works and nothing has to be repaired."""

from __future__ import annotations

from objstore.engine.types import WriteCondition
from objstore.model.errors import BucketNotEmpty, NoSuchKey, ObjstoreError, PreconditionFailed
from tests.sim.ambush.bodies import chunks, fetch, put
from tests.sim.cluster import SimCluster
from tests.sim.loop import run


def calm(seed: int) -> list[str]:
    async def main() -> list[str]:
        async with SimCluster(seed, nodes=6, repairer_count=1) as cluster:
            return [*await _use(cluster), *filter(None, [await cluster.converged(30)])]

    return run(main, seed)[0]


async def _use(cluster: SimCluster) -> list[str]:
    one, two = cluster.engines
    wrong: list[str] = []
    await one.create_bucket("b")
    bodies = {f"k{size}": cluster.random.randbytes(size) for size in (0, 9, 50_000, 1_300_000)}
    for key, body in bodies.items():
        await put(one, "b", key, body)
        if await fetch(two, "b", key) != body:
            wrong.append(f"{key} came back with other bytes")
    try:
        await put(two, "b", "k9", b"another", condition=WriteCondition(if_none_match="*"))
        wrong.append("a condition did not hold and was not refused")
    except PreconditionFailed:
        pass
    bodies["k9"] = bodies["k50000"][:20]
    await put(two, "b", "k9", bodies["k9"])
    await two.delete_object("b", "k0")
    del bodies["k0"]
    upload = await one.create_upload("b", "joined", {})
    part = await two.put_part("b", "joined", upload, 1, chunks(bodies["k1300000"]), len(bodies["k1300000"]))
    await one.complete_upload("b", "joined", upload, [(1, part.etag)])
    bodies["joined"] = bodies["k1300000"]
    listed = [entry.key for entry in (await one.list_objects("b")).entries]
    if listed != sorted(bodies):
        wrong.append(f"the list shows {listed}")
    try:
        await two.delete_bucket("b")
        wrong.append("a bucket with objects was deleted")
    except BucketNotEmpty:
        pass
    for key, body in bodies.items():
        if await fetch(one, "b", key) != body:
            wrong.append(f"{key} has other bytes at the end")
        await one.delete_object("b", key)
        try:
            await two.head_object("b", key)
            wrong.append(f"{key} is still there after its deletion")
        except NoSuchKey:
            pass
    try:
        await two.delete_bucket("b")
    except ObjstoreError as error:
        wrong.append(f"the empty bucket cannot be deleted: {error}")
    return wrong
