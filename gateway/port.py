"""What the gateway needs of an engine, as a Protocol; `objstore.engine` is one, tests bring a smaller one.

Everything raises `objstore.model.errors`. Conditions are decided by the engine at the moment of the commit,
never by the gateway before it. Names and keys arrive checked (`gateway.s3.names`); ETags are without quotes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, TypeAlias

from objstore.engine.types import (
    ALWAYS,
    BucketInfo,
    ObjectInfo,
    ObjectPage,
    PartInfo,
    PartPage,
    Reach,
    UploadPage,
    WriteCondition,
)
from objstore.ports import Buffer

Finish: TypeAlias = Callable[[], dict[str, str]]
"""Called after the last byte and before the commit: headers to add, or an exception that aborts."""


class Engine(Protocol):
    async def reach(self) -> Reach:
        """Why reads and writes would fail now: found out, not assumed."""

    async def create_bucket(self, name: str) -> BucketInfo: ...

    async def get_bucket(self, name: str) -> BucketInfo: ...

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
    ) -> ObjectInfo:
        """Reads `body` until it stops (not merely `size` bytes: what follows them is verified there), then calls
        `finish`. An exception from either leaves nothing visible. Chunks are views that may be kept."""

    async def head_object(self, bucket: str, key: str) -> ObjectInfo: ...

    def read(self, info: ObjectInfo, offset: int, length: int) -> AsyncIterator[Buffer]:
        """Exactly `length` verified bytes, or an exception."""

    async def delete_object(self, bucket: str, key: str, *, condition: WriteCondition = ALWAYS) -> bool: ...

    async def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> ObjectPage: ...

    async def create_upload(self, bucket: str, key: str, headers: dict[str, str]) -> str: ...

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
    ) -> ObjectInfo: ...

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None: ...
