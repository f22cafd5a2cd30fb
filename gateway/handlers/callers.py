"""Who asks: the secret behind an access key, and whom it stands for.

The keys of the configuration are the root of the account, others are those of users. The key of a session is worth
something together with its token only, and as long as what is behind it exists: the permanent key with which the
session was asked for, and for a role the role itself and its trust in the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from gateway.port import IdentityStore
from gateway.s3 import policies, sigv2
from gateway.s3.errors import S3Error
from gateway.s3.policies import Policy
from gateway.s3.sigv4 import (
    S3,
    TOKEN,
    TOKEN_IN_QUERY,
    Auth,
    Service,
    SigningKeys,
    anonymous,
    check_claim,
    is_anonymous,
    read_claim,
)
from gateway.s3.target import Target
from objstore.model.identity import BUILT_IN, Principal, Session

ROOT = Principal()
_ALL_OF_ROOT = (("the root of the account", policies.parse(BUILT_IN["admin"])),)


@dataclass(frozen=True, slots=True)
class Caller:
    principal: Principal | None  # None: did not sign
    policies: tuple[tuple[str, Policy], ...] = ()
    limits: tuple[tuple[str, Policy], ...] = ()  # of a session that may not do all that `policies` allow
    session: Session | None = field(default=None, repr=False)  # None: signed with a permanent key
    secret: str = field(default="", repr=False)  # of the permanent key

    @property
    def is_root(self) -> bool:
        """May do everything."""
        return self.principal == ROOT and not self.limits


NOBODY = Caller(None)


async def authenticate(
    method: str,
    target: Target,
    headers: Mapping[str, str],
    *,
    root: Mapping[str, str],
    identities: IdentityStore | None,
    keys: SigningKeys,
    now: float,
    service: Service = S3,
) -> tuple[Auth, Caller]:
    """S3Error."""
    if is_anonymous(target, headers):
        if headers.get(TOKEN) or TOKEN_IN_QUERY in target.query:
            raise S3Error("InvalidToken")
        return anonymous(headers), NOBODY
    if service is S3 and sigv2.is_signed(target, headers):
        old = sigv2.read_claim(target, headers, now)
        secret, caller = await secret_of(old.access_key, old.token, root, identities, now)
        return sigv2.check_claim(method, target, headers, old, secret), caller
    claim = read_claim(target, headers, now, service)
    secret, caller = await secret_of(claim.credential.access_key, claim.token, root, identities, now)
    return check_claim(method, target, headers, claim, secret, keys), caller


@lru_cache(maxsize=64)
def _root(secret: str) -> Caller:
    return Caller(ROOT, secret=secret)


async def secret_of(
    access_key: str, token: str | None, root: Mapping[str, str], identities: IdentityStore | None, now: float
) -> tuple[str | None, Caller]:
    """None: there is no such key. S3Error InvalidToken, ExpiredToken."""
    if token is not None:
        return await _of_session(access_key, token, root, identities, now)
    secret = root.get(access_key)
    if secret is not None:
        return secret, _root(secret)
    found = await identities.find(access_key) if identities is not None else None
    if found is None:
        return None, NOBODY
    return found.secret, Caller(Principal(found.user), _read(found.policies), secret=found.secret)


async def _of_session(
    access_key: str, token: str, root: Mapping[str, str], identities: IdentityStore | None, now: float
) -> tuple[str, Caller]:
    session = identities.open_session(access_key, token) if identities is not None else None
    if session is None or identities is None:
        raise S3Error("InvalidToken")
    if session.expires_s <= now:
        raise S3Error("ExpiredToken", extra={"Token-0": token})
    secret, behind = await secret_of(session.parent, None, root, identities, now)
    if secret is None or behind.principal is None or not identities.is_parent(session, secret):
        raise S3Error("InvalidToken", "The access key with which the session began is no longer valid.")
    limits = (("the policy of the session", policies.parse(session.policy)),) if session.policy else ()
    caller = replace(behind, limits=limits, session=session)
    if not session.role:
        if limits and behind.is_root:
            caller = replace(caller, policies=_ALL_OF_ROOT)
        return session.secret, caller
    role = await identities.find_role(session.role)
    if role is None or role.id != session.role_id or behind.principal.user not in role.trusted:
        raise S3Error("InvalidToken", "The role of the session was deleted, or no longer trusts who assumed it.")
    principal = Principal(role=session.role, role_id=session.role_id, session=session.name)
    return session.secret, replace(caller, principal=principal, policies=_read(role.policies))


def _read(documents: tuple[tuple[str, bytes], ...]) -> tuple[tuple[str, Policy], ...]:
    return tuple((f"policy {name}", policies.parse(document)) for name, document in documents)
