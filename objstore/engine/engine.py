"""The engine: every operation of the store, for gateways and tools. A facade that wires its parts.

See engine/types.py for values and model/errors.py for what is raised. One per process; it holds no state that
another engine would need, so any number of gateways may run.
"""

from __future__ import annotations

from objstore.engine.buckets import Buckets
from objstore.engine.multipart import Multipart
from objstore.engine.objects import Objects
from objstore.engine.peers import Peers
from objstore.engine.reach import Reachability
from objstore.engine.reading import BlobReader
from objstore.engine.registers import Registers
from objstore.engine.types import BucketInfo
from objstore.engine.writing import BlobWriter
from objstore.ports import Clock, Random


class Engine:
    def __init__(self, peers: Peers, clock: Clock, random: Random) -> None:
        self.peers = peers
        self.registers = Registers(peers, clock, random)
        self._reader = BlobReader(peers)
        self._writer = BlobWriter(peers)
        self._buckets = Buckets(self.registers, peers, clock, random)
        objects = Objects(peers, self.registers, self._buckets, self._writer, self._reader, clock, random)
        uploads = Multipart(peers, self.registers, self._buckets, objects, self._writer, clock, random)

        self.create_bucket = self._buckets.create
        self.delete_bucket = self._buckets.delete
        self.list_buckets = self._buckets.list
        self.put_object = objects.put
        self.head_object = objects.head
        self.read = objects.read
        self.delete_object = objects.delete
        self.list_objects = objects.list
        self.create_upload = uploads.create
        self.put_part = uploads.put_part
        self.list_parts = uploads.list_parts
        self.list_uploads = uploads.list_uploads
        self.complete_upload = uploads.complete
        self.abort_upload = uploads.abort
        self._reachability = Reachability(peers, clock)
        self.reach = self._reachability.check

    async def get_bucket(self, name: str) -> BucketInfo:
        state = await self._buckets.get(name, fresh=True)
        return BucketInfo(name, state.id, state.created_ms)

    async def close(self) -> None:
        await self._reachability.close()
        await self._writer.close()
        await self.registers.close()
        await self._reader.close()
