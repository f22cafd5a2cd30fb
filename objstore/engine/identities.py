"""Users, access keys and policies: registers of the system bucket, named "user/NAME", "key/ID", "policy/NAME".

What a gateway knows of an access key is at most CACHE_S old, so that a revocation holds everywhere within 2 s.
Secrets are sealed under a key of the cluster (codec/secrets.py) before they leave this process.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import msgspec

from objstore.codec import secrets
from objstore.engine.registers import Registers
from objstore.model.errors import Conflict, InvalidRequest, NotFound, Unavailable
from objstore.model.identity import BUILT_IN, AccessKey, Identity, NamedPolicy, User
from objstore.model.ids import SYSTEM_BUCKET
from objstore.model.records import ListEntry, RegisterKey, Space, encode
from objstore.ports import Clock, Random
from objstore.register.change import Outcome, body_of

CACHE_S = 1.5
KNOWN_MAX = 4096  # access keys in memory, with those that do not exist
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}", re.ASCII)
_PREFIX: dict[type, str] = {User: "user/", AccessKey: "key/", NamedPolicy: "policy/"}
_KIND: dict[type, str] = {User: "user", AccessKey: "access key", NamedPolicy: "policy"}

T = TypeVar("T", User, AccessKey, NamedPolicy)


class Identities:
    def __init__(self, registers: Registers, clock: Clock, random: Random, cluster_secret: bytes) -> None:
        self._registers = registers
        self._clock = clock
        self._random = random
        self._under = secrets.derive(cluster_secret)
        self._known: OrderedDict[str, tuple[float, Identity | None]] = OrderedDict()
        self._finding: dict[str, asyncio.Task[Identity | None]] = {}

    # --- for gateways

    async def find(self, access_key: str) -> Identity | None:
        """None: there is no such key, or it or its user is disabled. At most CACHE_S old."""
        known = self._known.get(access_key)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        task = self._finding.get(access_key)
        if task is None:
            task = self._finding[access_key] = asyncio.ensure_future(self._find(access_key))
            task.add_done_callback(lambda _: self._finding.pop(access_key, None))
        return await asyncio.shield(task)

    async def _find(self, access_key: str) -> Identity | None:
        asked = self._clock.monotonic()  # before the reads: what changes while they run is seen in time
        found = await self._resolve(access_key) if _NAME.fullmatch(access_key) else None
        self._known[access_key] = (asked + CACHE_S, found)
        self._known.move_to_end(access_key)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    async def _resolve(self, access_key: str) -> Identity | None:
        key = await self._read(AccessKey, access_key)
        if key is None or key.disabled:
            return None
        user = await self._read(User, key.user)
        if user is None or user.disabled:
            return None
        documents = await asyncio.gather(*(self._document(name) for name in user.policies))
        return Identity(self._secret(key), user.name, tuple(zip(user.policies, documents, strict=True)))

    async def _document(self, name: str) -> bytes:
        if name in BUILT_IN:
            return BUILT_IN[name]
        found = await self._read(NamedPolicy, name)
        if found is None:  # what it may have denied is not known
            raise Unavailable(f"policy {name!r} is attached to a user, but does not exist")
        return found.document

    def _secret(self, key: AccessKey) -> str:
        secret = secrets.unseal(self._under, key.sealed, f"{key.id}/{key.user}")
        if secret is None:
            raise Unavailable(f"the secret of access key {key.id} does not open: was cluster.secret changed?")
        return secret

    # --- users

    async def create_user(self, name: str) -> User:
        _check_name(name)
        user = User(name, self._clock.wall_ms())
        await self._create(user, name)
        return user

    async def users(self) -> list[User]:
        return await self._all(User)

    async def user(self, name: str) -> User:
        return await self._one(User, name)

    async def set_user_disabled(self, name: str, disabled: bool) -> None:
        await self._edit(User, name, lambda user: msgspec.structs.replace(user, disabled=disabled))

    async def delete_user(self, name: str) -> None:
        """And its access keys, first: a key never outlives its user, even if this ends half way."""
        await self._one(User, name)
        await self.set_user_disabled(name, True)
        for key in await self.keys(name):
            await self.delete_key(key.id)
        await self._remove(User, name)

    async def attach(self, user: str, policy: str) -> None:
        if policy not in BUILT_IN:
            await self._one(NamedPolicy, policy)

        def edit(found: User) -> User:
            return found if policy in found.policies else msgspec.structs.replace(
                found, policies=(*found.policies, policy)
            )  # fmt: skip

        await self._edit(User, user, edit)

    async def detach(self, user: str, policy: str) -> None:
        def edit(found: User) -> User:
            if policy not in found.policies:
                raise NotFound(f"policy {policy!r} is not attached to user {user!r}")
            left = tuple(name for name in found.policies if name != policy)
            return msgspec.structs.replace(found, policies=left)

        await self._edit(User, user, edit)

    # --- access keys

    async def create_key(self, user: str) -> tuple[AccessKey, str]:
        """The key and its secret, which nobody is told again."""
        await self._one(User, user)
        id = "AKIA" + base64.b32encode(self._random.bytes(10)).decode()
        secret = base64.b64encode(self._random.bytes(30)).decode()
        sealed = secrets.seal(self._under, secret, f"{id}/{user}", self._random.bytes(secrets.NONCE))
        key = AccessKey(id, user, sealed, self._clock.wall_ms())
        await self._create(key, id)
        return key, secret

    async def keys(self, user: str = "") -> list[AccessKey]:
        return [key for key in await self._all(AccessKey) if user in ("", key.user)]

    async def set_key_disabled(self, id: str, disabled: bool) -> None:
        await self._edit(AccessKey, id, lambda key: msgspec.structs.replace(key, disabled=disabled))

    async def delete_key(self, id: str) -> None:
        await self._remove(AccessKey, id)

    # --- policies; their documents arrive checked

    async def put_policy(self, name: str, document: bytes) -> None:
        _check_name(name)
        if name in BUILT_IN:
            raise Conflict(f"policy {name!r} is built in; choose another name")
        policy = NamedPolicy(name, document, self._clock.wall_ms())
        await self._registers.change(_key(NamedPolicy, name), lambda _: _written(policy, policy.modified_ms))

    async def policies(self) -> list[NamedPolicy]:
        built_in = [NamedPolicy(name, document, 0) for name, document in BUILT_IN.items()]
        return built_in + await self._all(NamedPolicy)

    async def policy(self, name: str) -> NamedPolicy:
        if name in BUILT_IN:
            return NamedPolicy(name, BUILT_IN[name], 0)
        return await self._one(NamedPolicy, name)

    async def delete_policy(self, name: str) -> None:
        if name in BUILT_IN:
            raise Conflict(f"policy {name!r} is built in")
        await self._one(NamedPolicy, name)
        users = [user.name for user in await self.users() if name in user.policies]
        if users:
            raise Conflict(f"policy {name!r} is attached to {', '.join(users)}; detach it first")
        await self._remove(NamedPolicy, name)

    # --- registers

    async def _read(self, kind: type[T], name: str) -> T | None:
        body = body_of(await self._registers.read(_key(kind, name)))
        return msgspec.msgpack.decode(body, type=kind) if body else None

    async def _one(self, kind: type[T], name: str) -> T:
        found = await self._read(kind, name)
        if found is None:
            raise _missing(kind, name)
        return found

    async def _all(self, kind: type[T]) -> list[T]:
        prefix = _PREFIX[kind].encode()
        end = prefix[:-1] + bytes((prefix[-1] + 1,))
        found = await self._registers.scan_all(SYSTEM_BUCKET, Space.IDENTITY, start=prefix, end=end)
        records = await asyncio.gather(*(self._read(kind, name[len(prefix) :].decode()) for name, _ in found))
        return [record for record in records if record is not None]

    async def _create(self, record: User | AccessKey, name: str) -> None:
        kind = type(record)

        def change(body: bytes) -> Outcome:
            if body:
                raise Conflict(f"{_KIND[kind]} {name!r} exists already")
            return _written(record, record.created_ms)

        await self._registers.change(_key(kind, name), change)

    async def _edit(self, kind: type[T], name: str, edit: Callable[[T], T]) -> None:
        def change(body: bytes) -> Outcome:
            if not body:
                raise _missing(kind, name)
            return _written(edit(msgspec.msgpack.decode(body, type=kind)), 0)

        await self._registers.change(_key(kind, name), change)

    async def _remove(self, kind: type[T], name: str) -> None:
        def change(body: bytes) -> Outcome:
            if not body:
                raise _missing(kind, name)
            return Outcome(b"", b"")

        await self._registers.change(_key(kind, name), change)


def _written(record: msgspec.Struct, at_ms: int) -> Outcome:
    return Outcome(b"", encode(record), encode(ListEntry(0, "", at_ms)))


def _missing(kind: type, name: str) -> NotFound:
    return NotFound(f"{_KIND[kind]} {name!r} does not exist")


def _key(kind: type, name: str) -> RegisterKey:
    return RegisterKey(SYSTEM_BUCKET, Space.IDENTITY, (_PREFIX[kind] + name).encode())


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits and +=,.@_-")
