"""Roles in the registers: what they may name, and what ends with what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from objstore.adapters.clock import SystemClock
from objstore.adapters.randomness import SystemRandom
from objstore.engine.identities import Identities
from objstore.model.errors import Conflict, InvalidRequest, NotFound
from tests.s3.memory_engine import MemoryEngine


def over(job: Callable[[Identities], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Identities(MemoryEngine().registers, SystemClock(), SystemRandom(), b"of the cluster")
        for name in ("ann", "bob"):
            await store.create_user(name)
        await store.put_policy("own", b"{}")
        await job(store)

    asyncio.run(main())


def test_a_role_names_users_and_policies_that_are_there_each_once() -> None:
    async def job(store: Identities) -> None:
        for trusted, policies in ((("eve",), ()), (("ann",), ("none",))):
            with pytest.raises(NotFound):
                await store.create_role("r", trusted, policies)
        with pytest.raises(InvalidRequest):
            await store.create_role("a/b")
        made = await store.create_role("r", ("ann", "ann"), ("own", "readonly", "own"))
        assert (made.trusted, made.policies) == (("ann",), ("own", "readonly"))
        assert await store.role("r") == made and await store.roles() == [made]
        with pytest.raises(Conflict):
            await store.create_role("r")
        with pytest.raises(NotFound):
            await store.trust("r", "eve")
        with pytest.raises(NotFound):
            await store.attach_to_role("r", "none")
        await store.trust("r", "bob")
        await store.trust("r", "bob")
        await store.attach_to_role("r", "own")
        found = await store.role("r")
        assert (found.trusted, found.policies, found.id) == (("ann", "bob"), ("own", "readonly"), made.id)
        await store.distrust("r", "ann")
        await store.detach_from_role("r", "own")
        for again in (store.distrust("r", "ann"), store.detach_from_role("r", "own"), store.distrust("none", "ann")):
            with pytest.raises(NotFound):
                await again
        found = await store.role("r")
        assert (found.trusted, found.policies) == (("bob",), ("readonly",))

    over(job)


def test_a_policy_of_a_role_stays_and_a_user_that_goes_is_trusted_no_longer() -> None:
    async def job(store: Identities) -> None:
        await store.create_role("r", ("ann", "bob"), ("own",))
        await store.create_role("other", ("bob",))
        with pytest.raises(Conflict, match="role r"):
            await store.delete_policy("own")
        await store.delete_user("bob")
        assert {role.name: role.trusted for role in await store.roles()} == {"r": ("ann",), "other": ()}
        await store.delete_role("r")
        await store.delete_policy("own")
        with pytest.raises(NotFound):
            await store.delete_role("r")

    over(job)


def test_a_role_of_the_same_name_is_another_one() -> None:
    async def job(store: Identities) -> None:
        first = await store.create_role("r")
        known = await store.find_role("r")
        assert known is not None and known.id == first.id and first.id.startswith("AROA")
        await store.delete_role("r")
        assert (await store.create_role("r")).id != first.id
        assert await store.find_role("none") is None and await store.find_role("no name/") is None

    over(job)
