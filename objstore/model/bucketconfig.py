"""What can be configured of a bucket beside its versioning: records by short names in `BucketState.config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from objstore.model.cors import BucketCors
from objstore.model.encryption import BucketEncryption
from objstore.model.identity import BucketOwnership, BucketPolicy, PublicAccessBlock
from objstore.model.locking import CONFIG_NAME, BucketLock
from objstore.model.records import BucketState, encode
from objstore.model.tagging import BucketTags

CONFIG: Mapping[str, type[msgspec.Struct]] = {
    "cors": BucketCors,
    "encryption": BucketEncryption,
    CONFIG_NAME: BucketLock,
    "ownership": BucketOwnership,
    "policy": BucketPolicy,
    "publicaccess": PublicAccessBlock,
    "tags": BucketTags,
}
_NAMES = {kind: name for name, kind in CONFIG.items()}

T = TypeVar("T", bound=msgspec.Struct)


def get(config: Mapping[str, bytes], kind: type[T]) -> T | None:
    raw = config.get(_NAMES[kind])
    return msgspec.msgpack.decode(raw, type=kind) if raw is not None else None


def encoded(*records: msgspec.Struct) -> dict[str, bytes]:
    """The configuration of a new bucket."""
    return {_NAMES[type(record)]: encode(record) for record in records}


def with_(state: BucketState, record: msgspec.Struct) -> BucketState:
    """In place of what was configured of that kind."""
    return msgspec.structs.replace(state, config={**state.config, _NAMES[type(record)]: encode(record)})


def without(state: BucketState, kind: type[msgspec.Struct]) -> BucketState:
    config = {name: raw for name, raw in state.config.items() if name != _NAMES[kind]}
    return msgspec.structs.replace(state, config=config)
