"""What messages are made of: their base, and fields with bounds.

Encoded by msgspec as tagged arrays: fields may be added at the end with a default, never reordered. Ballots
travel packed (16 bytes). `tag` is the layout tag of the proposer (objstore/register).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from objstore.model import limits

Key = Annotated[bytes, Meta(min_length=17, max_length=17 + limits.KEY_BYTES_MAX + 17)]  # RegisterKey.pack()
PackedBallot = Annotated[bytes, Meta(min_length=16, max_length=16)]
Blob = Annotated[bytes, Meta(min_length=16, max_length=16)]
Fragment = Annotated[bytes, Meta(min_length=21, max_length=21)]  # FragmentId.pack()
Partition = Annotated[int, Meta(ge=0, lt=1 << limits.PARTITION_BITS_MAX)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Text = Annotated[str, Meta(max_length=4096)]
Path = Annotated[str, Meta(max_length=512)]
NO_BALLOT = bytes(16)  # model.clock.ZERO, packed


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """On the wire the tag is the name of the class."""
