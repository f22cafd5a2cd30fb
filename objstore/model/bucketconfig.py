"""What can be configured of a bucket beside its versioning: records by short names in `BucketState.config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from objstore.model.cors import BucketCors
from objstore.model.encryption import BucketEncryption
from objstore.model.identity import BucketAcl, BucketOwnership, BucketPolicy, PublicAccessBlock
from objstore.model.inventory import BucketInventory
from objstore.model.lifecycle import BucketLifecycle
from objstore.model.locking import CONFIG_NAME, BucketLock
from objstore.model.notification import BucketNotification
from objstore.model.origin import Origin
from objstore.model.quota import BucketQuota
from objstore.model.records import BucketState, encode
from objstore.model.tagging import BucketTags

CONFIG: Mapping[str, type[msgspec.Struct]] = {
    "acl": BucketAcl,
    "cors": BucketCors,
    "encryption": BucketEncryption,
    "lifecycle": BucketLifecycle,
    CONFIG_NAME: BucketLock,
    "inventory": BucketInventory,
    "notification": BucketNotification,
    "origin": Origin,
    "ownership": BucketOwnership,
    "policy": BucketPolicy,
    "publicaccess": PublicAccessBlock,
    "quota": BucketQuota,
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


def ownership_of(config: Mapping[str, bytes]) -> BucketOwnership:
    return get(config, BucketOwnership) or BucketOwnership()


def migration_of(config: Mapping[str, bytes]) -> bytes:
    """The id of the migration that is on, or b""."""
    origin = get(config, Origin)
    return origin.id if origin is not None else b""
