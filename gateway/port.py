"""What the gateway needs of an engine, as a Protocol; `objstore.engine` is one, tests bring a smaller one.

Everything raises `objstore.model.errors`. Conditions are decided by the engine at the moment of the commit,
never by the gateway before it. Names and keys arrive checked (`gateway.s3.names`); ETags are without quotes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from objstore.engine.sealing import Sealing, Unseal
from objstore.engine.types import (
    ALWAYS,
    BucketInfo,
    Deleted,
    ObjectInfo,
    ObjectPage,
    PartInfo,
    PartPage,
    Reach,
    UploadPage,
    VersionPage,
    WriteCondition,
)
from objstore.model import notification
from objstore.model.identity import Identity, RoleIdentity, Session
from objstore.model.records import NO_LOCK, BucketState, Lock, ObjectVersion
from objstore.model.sealed import Sealed
from objstore.ports import Buffer

Finish: TypeAlias = Callable[[], dict[str, str]]
"""Called after the last byte and before the commit: headers to add, or an exception that aborts."""


class IdentityStore(Protocol):
    async def find(self, access_key: str) -> Identity | None:
        """None: no such key, or a disabled one. At most 2 s old."""

    async def find_role(self, name: str) -> RoleIdentity | None:
        """At most 2 s old."""

    def begin_session(self, session: Session, parent_secret: str) -> tuple[Session, str]:
        """With its access key and secret, and its token."""

    def open_session(self, access_key: str, token: str) -> Session | None:
        """None: the token is not one of these, or of another key. It may have expired."""

    def is_parent(self, session: Session, secret: str) -> bool:
        """Whether the permanent key behind the session still has the secret that it had."""


class Engine(Protocol):
    async def reach(self) -> Reach:
        """Why reads and writes would fail now: found out, not assumed."""

    async def create_bucket(
        self, name: str, *, owner: str = "", versioning: str = "", config: Mapping[str, bytes] | None = None
    ) -> BucketInfo: ...

    async def get_bucket(self, name: str, *, fresh: bool = True) -> BucketInfo:
        """Without `fresh` the answer may be some seconds old."""

    async def configure_bucket(self, name: str, edit: Callable[[BucketState], BucketState]) -> BucketInfo:
        """`edit` is pure, may run several times, and may raise what is to be raised."""

    async def delete_bucket(self, name: str) -> None: ...

    async def list_buckets(self) -> list[BucketInfo]: ...

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        *,
        condition: WriteCondition = ALWAYS,
        content_md5: bytes | None = None,
        finish: Finish | None = None,
        tags: Mapping[str, str] | None = None,
        lock: Lock = NO_LOCK,
        sealing: Sealing | None = None,
        event: str = notification.PUT,
    ) -> ObjectInfo:
        """Reads `body` until it stops (not merely `size` bytes: what follows them is verified there), then calls
        `finish`. An exception from either leaves nothing visible. Chunks are views that may be kept."""

    async def append_object(
        self,
        bucket: str,
        key: str,
        base: ObjectInfo | None,
        body: AsyncIterator[Buffer],
        size: int,
        headers: dict[str, str],
        *,
        condition: WriteCondition = ALWAYS,
        content_md5: bytes | None = None,
        finish: Finish | None = None,
        tags: Mapping[str, str] | None = None,
        sealing: Sealing | None = None,
    ) -> ObjectInfo:
        """Put these bytes behind those of `base`, which was read before and must still be there; None: there was no
        object, and it is made with these `headers` and `tags`. `finish` gives the checksums of the whole.
        InvalidWriteOffset, TooManyParts, NotAppendable (versioned)."""

    async def head_object(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        """The newest version, or the one that is named. NoSuchKey, NoSuchVersion, IsDeleteMarker."""

    async def amend_object(
        self,
        bucket: str,
        key: str,
        version_id: str | None,
        edit: Callable[[ObjectVersion], ObjectVersion],
        *,
        event: str = "",
    ) -> str:
        """Change what is known of a version (tags, lock), not its bytes; its id as shown. `edit` as above. `event`: how
        notifications call it, if they tell of it."""

    async def rename_object(
        self,
        bucket: str,
        source: str,
        target: str,
        *,
        condition: WriteCondition = ALWAYS,
        source_condition: WriteCondition = ALWAYS,
        token: str = "",
    ) -> None:
        """Give the object `source` the key `target`, in one moment; `condition` is of what is there. `token`: the same
        for all repeats of a request. NoSuchKey, PreconditionFailed, NotRenamable (versioned), TooManyRenames."""

    def read(self, info: ObjectInfo, offset: int, length: int, sealing: Sealing | None = None) -> AsyncIterator[Buffer]:
        """Exactly `length` verified bytes, or an exception. An encrypted object needs its `sealing`."""

    async def delete_object(
        self,
        bucket: str,
        key: str,
        version_id: str | None = None,
        *,
        condition: WriteCondition = ALWAYS,
        bypass: bool = False,
    ) -> Deleted:
        """`bypass`: governance retention does not count. ObjectLocked."""

    async def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> ObjectPage: ...

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionPage: ...

    async def create_upload(
        self,
        bucket: str,
        key: str,
        headers: dict[str, str],
        *,
        tags: Mapping[str, str] | None = None,
        lock: Lock = NO_LOCK,
        sealed: Sealed | None = None,
    ) -> str: ...

    async def put_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: AsyncIterator[Buffer],
        size: int,
        *,
        content_md5: bytes | None = None,
        finish: Finish | None = None,
        unseal: Unseal | None = None,
        admit: Callable[[Mapping[str, str]], None] | None = None,
    ) -> PartInfo: ...

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartPage: ...

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after_key: str = "",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadPage: ...

    async def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, str]],
        *,
        condition: WriteCondition = ALWAYS,
        headers: dict[str, str] | None = None,
        part_checksums: bytes = b"",
    ) -> ObjectInfo: ...

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None: ...
