"""Whether somebody may: the one place where requests are authorised.

The keys of the configuration are the root of the account: it may do everything that the policy of the bucket does not
deny, and nothing can keep it from that policy itself. A user may do what a policy of theirs, or of the bucket, allows
and none denies; whoever does not sign, what the policy of the bucket allows to everybody. What no policy
allows or denies the ACL of the bucket or object may grant, where ACLs count.
A session may do what its role, or its user, may; if it was given a policy of its own, only what that allows as well,
and what the policy of the bucket allows to that very session.
What policies ask is collected only if there is a policy to ask, and tags of an object only if one asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gateway.handlers.callers import Caller
from gateway.port import Engine
from gateway.s3 import acls, policies
from gateway.s3.actions import Need, needs
from gateway.s3.errors import S3Error
from gateway.s3.operations import Operation
from gateway.s3.policies import Decision, Policy, Request
from gateway.s3.policy_context import request_context, tag_context, tag_values
from gateway.s3.sigv4 import Auth
from gateway.s3.target import Target
from objstore.engine.types import BucketInfo, ObjectInfo
from objstore.model import bucketconfig
from objstore.model.errors import NoSuchBucket, NotFound
from objstore.model.identity import BucketAcl, BucketPolicy, PublicAccessBlock

# A root that locked itself out could not undo it otherwise.
_OF_ROOT = frozenset(("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"))
_TELLING = frozenset((Operation.GET_OBJECT, Operation.HEAD_OBJECT, Operation.GET_OBJECT_ATTRIBUTES))
_DEFERRED = frozenset((Operation.POST_OBJECT,))  # who asks stands in the body
_ROOT_MAY = Decision(allowed="the root of the account")


_Name = tuple[str, str, str | None]  # bucket, key, version


class Access:
    """What one request may do."""

    def __init__(
        self,
        engine: Engine,
        request: web.BaseRequest,
        target: Target,
        headers: Mapping[str, str],
        auth: Auth,
        caller: Caller,
        now_ms: int,
    ) -> None:
        self._engine = engine
        self._request = request
        self._target = target
        self._headers = headers
        self._auth = auth
        self.caller = caller
        self._now_ms = now_ms
        self._context: dict[str, tuple[str, ...]] | None = None
        self.bucket: BucketInfo | None = None  # that was looked at last, as of the check of this request
        self._seen: dict[_Name, tuple[ObjectInfo, str]] = {}  # whose ACL allows what no policy does, with which grant

    async def check_operation(self, operation: Operation) -> None:
        """Before the handler. S3Error AccessDenied."""
        if operation in _DEFERRED:
            return
        target = self._target
        for need in needs(operation, target.bucket, target.key, target.query, self._headers):
            await self.check(need)

    async def may_know(self, operation: Operation) -> None:
        """That an object is not there is told only to those who may list the bucket. S3Error AccessDenied."""
        if self.caller.is_root or operation not in _TELLING:
            return
        need = Need("s3:ListBucket", self._target.bucket)
        decision, why = await self.decide(need)
        if not decision.allowed:
            raise self._denied(need, decision, why)

    async def check(self, need: Need, tags: Mapping[str, str] | None = None) -> None:
        """`tags`: that the request wants to give, where they stand in its body."""
        decision, why = await self.decide(need, tags)
        if not decision.allowed:
            raise self._denied(need, decision, why)

    async def may(self, need: Need) -> bool:
        return bool((await self.decide(need))[0].allowed)

    async def decide(self, need: Need, tags: Mapping[str, str] | None = None) -> tuple[Decision, str]:
        of_bucket, block = await self._bucket_policy(need)
        caller = self.caller
        if caller.is_root and (of_bucket is None or need.action in _OF_ROOT):
            return _ROOT_MAY, ""
        context = await self._context_of(need, tags, of_bucket)
        request = Request(need.action, need.resource, caller.principal, context)
        found = policies.decide([("the policy of the bucket", of_bucket)], request) if of_bucket else Decision()
        if found.denied:
            return found, ""
        if caller.principal is None:
            why = "no statement of the policy of the bucket allows it to everybody"
            if found.allowed and of_bucket and block.restrict_buckets and policies.is_public(of_bucket):
                found, why = Decision(), "the public access block of the bucket does not let its policy reach anybody"
            return found if found.allowed else await self._by_acl(need), why
        if caller.is_root:
            return _ROOT_MAY, ""
        own = policies.decide(caller.policies, request)
        if own.denied:
            return own, ""
        decision = own if own.allowed else found if found.allowed else await self._by_acl(need)
        if caller.limits:
            limit = policies.decide(caller.limits, request)
            if limit.denied:
                return limit, ""
            if not limit.allowed and not (of_bucket and policies.names_session(of_bucket, request)):
                return Decision(), f"no session policy allows the {need.action} action"
        return decision, "no statement of a policy of the user, the role or the bucket allows it"

    async def _by_acl(self, need: Need) -> Decision:
        """What the ACL of the bucket or of the object grants to everybody, or to whoever signs."""
        right = acls.right_for(need.action)
        if right is None or need.bucket is None or need.made:
            return Decision()
        config = (await self._engine.get_bucket(need.bucket, fresh=False)).config
        block = bucketconfig.get(config, PublicAccessBlock)
        if not bucketconfig.ownership_of(config).has_acls or (block is not None and block.ignore_acls):
            return Decision()
        signed = self.caller.principal is not None
        acl = bucketconfig.get(config, BucketAcl)
        of_bucket = acl.grants if acl is not None else ""
        if not right.of_object:
            allowed = acls.permits(of_bucket, right.permission, signed=signed)
            return Decision(allowed="the ACL of the bucket" if allowed else "")
        assert need.key is not None, "what the ACL of an object grants is asked of an object"
        try:
            info = await self._engine.head_object(need.bucket, need.key, need.version_id)
        except NotFound:  # whoever may list the bucket is told so
            listed = right.permission == acls.READ and acls.permits(of_bucket, acls.READ, signed=signed)
            return Decision(allowed="the ACL of the bucket" if listed else "")
        if not acls.permits(info.headers.get(acls.STORED, ""), right.permission, signed=signed):
            return Decision()
        self._seen[need.bucket, need.key, need.version_id] = info, right.permission
        return Decision(allowed="the ACL of the object")

    async def look_up(self, bucket: str, key: str, version_id: str | None) -> ObjectInfo:
        """The object; where its ACL let this request pass, as it was then: what has come in its place since may have
        another one."""
        seen = self._seen.get((bucket, key, version_id))
        return seen[0] if seen is not None else await self._engine.head_object(bucket, key, version_id)

    def still_granted(self, bucket: str, key: str, version_id: str | None, stored: str) -> bool:
        """Whether what the ACL of the object allowed is allowed by this one, if it was an ACL that did."""
        seen = self._seen.get((bucket, key, version_id))
        return seen is None or acls.permits(stored, seen[1], signed=self.caller.principal is not None)

    async def _bucket_policy(self, need: Need) -> tuple[Policy | None, PublicAccessBlock]:
        if need.bucket is None or need.made:
            return None, PublicAccessBlock()
        try:
            bucket = self.bucket = await self._engine.get_bucket(need.bucket, fresh=False)
        except NoSuchBucket:
            if self.caller.is_root:
                return None, PublicAccessBlock()  # the handler says what is missing
            raise
        raw = bucketconfig.get(bucket.config, BucketPolicy)
        if raw is None:
            return None, PublicAccessBlock()
        block = bucketconfig.get(bucket.config, PublicAccessBlock) or PublicAccessBlock()
        return policies.parse(raw.document, need.bucket), block

    async def _context_of(
        self, need: Need, tags: Mapping[str, str] | None, of_bucket: Policy | None
    ) -> dict[str, tuple[str, ...]]:
        if self._context is None:
            self._context = request_context(
                self._target.query,
                self._headers,
                self._auth,
                self.caller.principal,
                remote=self._request.remote or "",
                secure=self._request.secure,
                now_ms=self._now_ms,
                session=self.caller.session,
            )
        context = self._context
        if need.version_id is not None:
            context = {**context, "s3:versionid": (need.version_id,)}
        if tags is not None:
            context = {**context, **tag_context(tags)}
        own = (*self.caller.policies, *self.caller.limits)
        asked = [policy for _, policy in own] + ([of_bucket] if of_bucket else [])
        if need.key is not None and any(policy.asks_for_tags for policy in asked):
            context = {**context, **await self._existing_tags(need)}
        return context

    async def _existing_tags(self, need: Need) -> dict[str, tuple[str, ...]]:
        assert need.bucket is not None and need.key is not None
        try:
            info = await self._engine.head_object(need.bucket, need.key, need.version_id)
        except NotFound:
            return {}
        return tag_values("s3:existingobjecttag/", info.tags)

    def _denied(self, need: Need, decision: Decision, why: str) -> S3Error:
        """Whoever signed is told what to ask for; anybody else only that it is not theirs."""
        principal = self.caller.principal
        if principal is None:
            return S3Error("AccessDenied", "Anonymous access is not allowed: the request has no signature.")
        if decision.denied:
            why = f"with an explicit deny: {decision.denied}"
        else:
            why = f"because {why}"
        shown = need.resource
        message = f"{principal.arn} is not authorized to perform: {need.action} on resource: {shown} {why}."
        return S3Error("AccessDenied", message)
