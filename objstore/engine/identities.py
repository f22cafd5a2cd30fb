"""Users, access keys, roles and policies: registers of the system bucket: "user/NAME", "key/ID", "role/NAME", ...

What a gateway knows of an access key or a role is at most CACHE_S old, so that a revocation holds everywhere within
2 s. Secrets are sealed under a key of the cluster (codec/secrets.py) before they leave this process. Sessions are not
stored: their tokens hold them (codec/session_tokens.py).
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from objstore.codec import secrets, session_tokens
from objstore.engine.recent import Recent
from objstore.engine.registers import Registers
from objstore.model.errors import Conflict, InvalidRequest, NotFound, Unavailable
from objstore.model.identity import (
    BUILT_IN,
    AccessKey,
    Identity,
    NamedPolicy,
    Role,
    RoleIdentity,
    Session,
    User,
)
from objstore.model.ids import SYSTEM_BUCKET
from objstore.model.records import ListEntry, RegisterKey, Space, encode
from objstore.ports import Clock, Random
from objstore.register.change import Outcome, body_of

CACHE_S = 1.5
KNOWN_MAX = 4096  # access keys in memory, with those that do not exist; roles as well
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}", re.ASCII)
_PREFIX: dict[type, str] = {User: "user/", AccessKey: "key/", Role: "role/", NamedPolicy: "policy/"}
_KIND: dict[type, str] = {User: "user", AccessKey: "access key", Role: "role", NamedPolicy: "policy"}

T = TypeVar("T", User, AccessKey, Role, NamedPolicy)
H = TypeVar("H", User, Role)  # what has policies


class Identities:
    def __init__(self, registers: Registers, clock: Clock, random: Random, cluster_secret: bytes) -> None:
        self._registers = registers
        self._clock = clock
        self._random = random
        self._under = secrets.derive(cluster_secret)
        self._sealing = session_tokens.derive(cluster_secret)
        self._known = Recent(self._resolve, clock, CACHE_S, KNOWN_MAX)
        self._known_roles = Recent(self._resolve_role, clock, CACHE_S, KNOWN_MAX)

    # --- for gateways

    async def find(self, access_key: str) -> Identity | None:
        """None: there is no such key, or it or its user is disabled. At most CACHE_S old."""
        return await self._known.get(access_key) if _NAME.fullmatch(access_key) else None

    async def find_role(self, name: str) -> RoleIdentity | None:
        """None: there is no such role. At most CACHE_S old."""
        return await self._known_roles.get(name) if _NAME.fullmatch(name) else None

    def begin_session(self, session: Session, parent_secret: str) -> tuple[Session, str]:
        """With an access key, a secret and the proof of its parent; and its token."""
        made = msgspec.structs.replace(
            session,
            access_key="ASIA" + self._random_id(),
            secret=self._random_secret(),
            proof=session_tokens.proof_of(self._sealing, session.parent, parent_secret),
        )
        return made, session_tokens.seal(self._sealing, made, self._random.bytes(session_tokens.NONCE))

    def open_session(self, access_key: str, token: str) -> Session | None:
        """None: the token is not from here, was changed, or is of another key. It may have expired."""
        return session_tokens.unseal(self._sealing, access_key, token)

    def is_parent(self, session: Session, secret: str) -> bool:
        """Whether the key behind the session still has the secret that it had."""
        return session.proof == session_tokens.proof_of(self._sealing, session.parent, secret)

    async def _resolve(self, access_key: str) -> Identity | None:
        key = await self._read(AccessKey, access_key)
        if key is None or key.disabled:
            return None
        user = await self._read(User, key.user)
        if user is None or user.disabled:
            return None
        return Identity(self._secret(key), user.name, await self._documents(user.policies))

    async def _resolve_role(self, name: str) -> RoleIdentity | None:
        role = await self._read(Role, name)
        return RoleIdentity(role.id, role.trusted, await self._documents(role.policies)) if role is not None else None

    async def _documents(self, names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
        return tuple(zip(names, await asyncio.gather(*map(self._document, names)), strict=True))

    async def _document(self, name: str) -> bytes:
        if name in BUILT_IN:
            return BUILT_IN[name]
        found = await self._read(NamedPolicy, name)
        if found is None:  # what it may have denied is not known
            raise Unavailable(f"policy {name!r} is attached, but does not exist")
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
        """And its access keys and the trust of roles, first: neither outlives a user, even if this ends half way."""
        await self._one(User, name)
        await self.set_user_disabled(name, True)
        for key in await self.keys(name):
            await self.delete_key(key.id)
        for role in await self.roles():
            if name in role.trusted:
                await self.distrust(role.name, name)
        await self._remove(User, name)

    async def attach(self, user: str, policy: str) -> None:
        await self._check_policies(policy)
        await self._edit(User, user, lambda found: _with_policy(found, policy))

    async def detach(self, user: str, policy: str) -> None:
        await self._edit(User, user, lambda found: _without_policy(found, policy))

    # --- roles

    async def create_role(self, name: str, trusted: Sequence[str] = (), policies: Sequence[str] = ()) -> Role:
        _check_name(name)
        for user in trusted:
            await self._one(User, user)
        await self._check_policies(*policies)
        once = tuple(dict.fromkeys(trusted)), tuple(dict.fromkeys(policies))
        role = Role(name, "AROA" + self._random_id(), self._clock.wall_ms(), *once)
        await self._create(role, name)
        return role

    async def roles(self) -> list[Role]:
        return await self._all(Role)

    async def role(self, name: str) -> Role:
        return await self._one(Role, name)

    async def trust(self, role: str, user: str) -> None:
        await self._one(User, user)

        def edit(found: Role) -> Role:
            left = tuple(name for name in found.trusted if name != user)
            return msgspec.structs.replace(found, trusted=(*left, user))

        await self._edit(Role, role, edit)

    async def distrust(self, role: str, user: str) -> None:
        def edit(found: Role) -> Role:
            if user not in found.trusted:
                raise NotFound(f"role {role!r} does not trust user {user!r}")
            return msgspec.structs.replace(found, trusted=tuple(name for name in found.trusted if name != user))

        await self._edit(Role, role, edit)

    async def attach_to_role(self, role: str, policy: str) -> None:
        await self._check_policies(policy)
        await self._edit(Role, role, lambda found: _with_policy(found, policy))

    async def detach_from_role(self, role: str, policy: str) -> None:
        await self._edit(Role, role, lambda found: _without_policy(found, policy))

    async def delete_role(self, name: str) -> None:
        """And with it every session that it has."""
        await self._remove(Role, name)

    # --- access keys

    async def create_key(self, user: str) -> tuple[AccessKey, str]:
        """The key and its secret, which nobody is told again."""
        await self._one(User, user)
        id, secret = "AKIA" + self._random_id(), self._random_secret()
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

    def _random_id(self) -> str:
        return base64.b32encode(self._random.bytes(10)).decode()

    def _random_secret(self) -> str:
        return base64.b64encode(self._random.bytes(30)).decode()

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
        roles = [f"role {role.name}" for role in await self.roles() if name in role.policies]
        if users or roles:
            raise Conflict(f"policy {name!r} is attached to {', '.join(users + roles)}; detach it first")
        await self._remove(NamedPolicy, name)

    async def _check_policies(self, *names: str) -> None:
        for name in names:
            if name not in BUILT_IN:
                await self._one(NamedPolicy, name)

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

    async def _create(self, record: User | AccessKey | Role, name: str) -> None:
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


def _with_policy(found: H, policy: str) -> H:
    if policy in found.policies:
        return found
    return msgspec.structs.replace(found, policies=(*found.policies, policy))


def _without_policy(found: H, policy: str) -> H:
    if policy not in found.policies:
        raise NotFound(f"policy {policy!r} is not attached to {_KIND[type(found)]} {found.name!r}")
    return msgspec.structs.replace(found, policies=tuple(name for name in found.policies if name != policy))


def _missing(kind: type, name: str) -> NotFound:
    return NotFound(f"{_KIND[kind]} {name!r} does not exist")


def _key(kind: type, name: str) -> RegisterKey:
    return RegisterKey(SYSTEM_BUCKET, Space.IDENTITY, (_PREFIX[kind] + name).encode())


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits and +=,.@_-")
