"""Temporary credentials (AWS STS), at the endpoint of S3 itself.

AssumeRole: whom a role trusts may assume it, unless a policy of theirs denies it. GetSessionToken: a user, or the root,
for some time and without a second factor. A session is not stored: its token, which every gateway can open, holds it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.handlers.bodies import incoming
from gateway.handlers.call import Trace
from gateway.handlers.callers import Caller, authenticate
from gateway.handlers.responses import as_s3_error
from gateway.port import IdentityStore
from gateway.s3 import policies, sts
from gateway.s3.errors import S3Error
from gateway.s3.policies import Request
from gateway.s3.policy_context import request_context
from gateway.s3.sigv4 import Auth, SigningKeys
from gateway.s3.target import Target
from gateway.settings import GatewaySettings
from objstore.model.identity import Principal, Session

_log = logging.getLogger("gateway")  # nothing else tells afterwards whose a temporary key was

OPERATION = "STS"  # in metrics and the log, while it is not known what is asked for
_XML_TYPE = "text/xml"


async def answer(
    request: web.BaseRequest,
    trace: Trace,
    target: Target,
    headers: Mapping[str, str],
    settings: GatewaySettings,
    keys: SigningKeys,
) -> web.StreamResponse:
    trace.operation = OPERATION
    try:
        status, document = 200, await _answer(request, trace, target, headers, settings, keys)
    except Exception as error:  # noqa: BLE001  every failure has the form of this protocol
        fault = error if isinstance(error, sts.Fault) else sts.from_s3(as_s3_error(error, trace))
        trace.error = fault.code
        status, document = fault.status, sts.fault_document(fault, trace.request_id)
    more = {"x-amzn-RequestId": trace.request_id, "Cache-Control": "no-store"}
    return web.Response(status=status, body=document, headers={"Content-Type": _XML_TYPE, **more})


async def _answer(
    request: web.BaseRequest,
    trace: Trace,
    target: Target,
    headers: Mapping[str, str],
    settings: GatewaySettings,
    keys: SigningKeys,
) -> bytes:
    body = bytearray()
    async for data in incoming(request, trace, settings):
        body += data
        if len(body) > sts.BODY_BYTES_MAX:
            raise S3Error("EntityTooLarge")
    fields = sts.fields_of(target, bytes(body))
    now_ms = settings.clock.wall_ms()
    auth, caller = await authenticate(
        request.method,
        target,
        headers,
        root=settings.keys,
        identities=settings.identities,
        keys=keys,
        now=now_ms / 1000,
        service=sts.service(bytes(body)),
    )
    trace.access_key = auth.access_key
    if caller.principal is None:
        raise sts.Fault("MissingAuthenticationToken", 403, "Request is missing Authentication Token")
    trace.operation = action = sts.action_of(fields)
    sts.check_fields(action, fields, caller.principal)
    if action == sts.GET_CALLER_IDENTITY:
        return sts.identity_document(caller.principal, trace.request_id)
    if settings.identities is None:
        raise sts.Fault("NotImplemented", 501, f"{action} is not implemented: this gateway knows no users.")
    asked = _Asked(request, target, headers, auth, caller, caller.principal, settings.identities, now_ms)
    if action == sts.GET_SESSION_TOKEN:
        return sts.session_document(*_session_token(asked, fields), trace.request_id)
    return sts.role_document(*await _assume_role(asked, sts.read_assume_role(fields)), trace.request_id)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An authenticated request."""

    request: web.BaseRequest
    target: Target
    headers: Mapping[str, str]
    auth: Auth
    caller: Caller
    principal: Principal
    identities: IdentityStore
    now_ms: int


def _session_token(asked: _Asked, fields: Mapping[str, str]) -> tuple[Session, str]:
    if asked.caller.session is not None:
        raise sts.Fault("AccessDenied", 403, "Cannot call GetSessionToken with session credentials")
    if not _is_let(asked, "sts:GetSessionToken", "*"):
        raise sts.denied(asked.principal, "sts:GetSessionToken", "")
    return _begin(asked, sts.read_seconds(fields, asked.principal.is_root))


async def _assume_role(asked: _Asked, wanted: sts.AssumeRole) -> tuple[Session, str]:
    denied = sts.denied(asked.principal, "sts:AssumeRole", wanted.arn)
    if not wanted.arn:
        if asked.caller.session is not None or not _is_let(asked, "sts:AssumeRole", "*"):
            raise denied
        return _begin(asked, wanted.seconds, policy=wanted.policy)
    if asked.principal.is_root:
        raise sts.Fault("AccessDenied", 403, "Roles may not be assumed by root accounts.")
    role = await asked.identities.find_role(wanted.role) if wanted.role is not None else None
    if role is None or wanted.role is None or asked.principal.user not in role.trusted:
        raise denied  # the same for a role that is not there: nobody shall find out which there are
    if not _is_let(asked, "sts:AssumeRole", wanted.arn):
        raise denied
    return _begin(asked, wanted.seconds, role=wanted.role, role_id=role.id, name=wanted.session, policy=wanted.policy)


def _is_let(asked: _Asked, action: str, resource: str) -> bool:
    """No policy has to allow it, but one may deny it, and that of the session that asks must allow it."""
    context = request_context(
        asked.target.query,
        asked.headers,
        asked.auth,
        asked.principal,
        remote=asked.request.remote or "",
        secure=asked.request.secure,
        now_ms=asked.now_ms,
        session=asked.caller.session,
    )
    request = Request(action, resource, asked.principal, context)
    limit = policies.decide(asked.caller.limits, request)
    if limit.denied or policies.decide(asked.caller.policies, request).denied:
        return False
    return bool(limit.allowed) or not asked.caller.limits


def _begin(asked: _Asked, seconds: int, **what: Any) -> tuple[Session, str]:
    now_s = asked.now_ms // 1000
    behind = asked.caller.session.parent if asked.caller.session is not None else asked.auth.access_key
    session = Session("", "", now_s, now_s + seconds, behind, b"", **what)
    made, token = asked.identities.begin_session(session, asked.caller.secret)
    what_for = f"role {made.role}, session {made.name}" if made.role else "the user itself"
    _log.info("%s began session %s: %s, for %d s", asked.principal.arn, made.access_key, what_for, seconds)
    return made, token
