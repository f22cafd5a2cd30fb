"""Tags of a bucket. (Those of an object lie in its version.)"""

from __future__ import annotations

import msgspec


class BucketTags(msgspec.Struct, frozen=True, array_like=True):
    tags: dict[str, str] = msgspec.field(default_factory=dict)
