"""The engine: every operation of the store, for gateways and tools. A facade that wires its parts.

See engine/types.py for values and model/errors.py for what is raised. One per process; it holds no state that
another engine would need, so any number of gateways may run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from objstore.engine.adopting import Adoption
from objstore.engine.append import Appends
from objstore.engine.buckets import Buckets, bucket_info
from objstore.engine.lists import Lists
from objstore.engine.metering import Guarded, Metered
from objstore.engine.moving import ObjectKeys
from objstore.engine.multipart import Multipart
from objstore.engine.objects import Objects
from objstore.engine.peers import Peers
from objstore.engine.quotas import Quotas, UsageSource
from objstore.engine.reach import Reachability
from objstore.engine.reading import BlobReader
from objstore.engine.registers import Registers
from objstore.engine.renaming import Renames
from objstore.engine.types import BucketInfo
from objstore.engine.writing import BlobWriter
from objstore.model.records import RegisterKey
from objstore.ports import Clock, Random


class Operations:
    """All that can be done with buckets and objects, given registers and a place for bytes."""

    def __init__(
        self,
        registers: Registers,
        writer: BlobWriter,
        reader: BlobReader,
        clock: Clock,
        random: Random,
        usage: UsageSource | None = None,
    ) -> None:
        """`usage`: by which quotas are held; None: they are not."""
        self.registers = registers
        quotas = Quotas(usage, clock)
        self._buckets = Buckets(registers, clock, random)
        guarded = Guarded(registers, self._buckets, quotas)
        metered = cast(Registers, Metered(registers, quotas)) if usage is not None else registers
        keys = ObjectKeys(metered, registers, clock)
        self._objects = objects = Objects(metered, keys, self._buckets, writer, reader, clock, random)
        appends = Appends(keys, self._buckets, objects, writer)
        lists = Lists(registers, self._buckets)
        uploads = Multipart(metered, self._buckets, objects, writer, clock, random)

        self.create_bucket = self._buckets.create
        self.configure_bucket = self._buckets.configure
        self.delete_bucket = self._buckets.delete
        self.list_buckets = self._buckets.list
        self.put_object = guarded.put(objects.put) if usage is not None else objects.put
        self.append_object = guarded.append(appends.append) if usage is not None else appends.append
        self.head_object = objects.head
        self.amend_object = objects.amend
        self.read = objects.read
        self.delete_object = objects.delete
        self.list_objects = lists.objects
        self.list_versions = lists.versions
        self.create_upload = uploads.create
        self.put_part = guarded.put_part(uploads.put_part) if usage is not None else uploads.put_part
        self.list_parts = uploads.list_parts
        self.list_uploads = uploads.list_uploads
        self.complete_upload = guarded.complete(uploads.complete) if usage is not None else uploads.complete
        self.abort_upload = uploads.abort
        # what a rename adds under one name it takes away under the other: nothing is counted
        unmetered = ObjectKeys(registers, registers, clock)
        self.rename_object = Renames(registers, unmetered, self._buckets, objects, clock, random).rename
        adoption = Adoption(keys, self._buckets, objects, writer, clock)
        self.adopt_object = adoption.adopt
        self.forget_deleted = adoption.forget

    def lists_over(self, registers: Registers) -> Lists:
        """Of the same buckets, with other registers of what is in them."""
        return Lists(registers, self._buckets)

    def on_event(self, hear: Callable[[RegisterKey], None]) -> None:
        """`hear` is told of each register in which a change of this engine has put an event (see `objstore.notify`)."""
        self._objects.on_event = hear

    async def get_bucket(self, name: str, *, fresh: bool = True) -> BucketInfo:
        """Without `fresh` the answer may be some seconds old."""
        return bucket_info(name, await self._buckets.get(name, fresh=fresh))


class Engine(Operations):
    """Over the nodes of a cluster."""

    def __init__(self, peers: Peers, clock: Clock, random: Random, usage: UsageSource | None = None) -> None:
        self.peers = peers
        self._reader = BlobReader(peers)
        self._writer = BlobWriter(peers)
        super().__init__(Registers(peers, clock, random), self._writer, self._reader, clock, random, usage)
        self._reachability = Reachability(peers, clock)
        self.reach = self._reachability.check

    async def close(self) -> None:
        await self._reachability.close()
        await self._writer.close()
        await self._reader.close()
        self.peers.close()
