"""Bugs in a storage node (objstore/node) and in the format of what it stores (objstore/codec)."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

REGISTERS = "objstore.node.registers"
FRAGMENTS = "objstore.node.fragments"
VOLUMES = "objstore.node.volumes"
COMMIT = "objstore.node.commit"
REGISTER_ROWS = "objstore.node.register_rows"
PARTS = "objstore.node.parts"
IDENTITY = "objstore.node.identity"
ENVELOPE = "objstore.codec.envelope"

CANARIES = (
    Canary(
        "promise before the disk",
        REGISTERS,
        (
            Edit(
                'return Later(done, (report, held.data if request.with_data else b""))',
                'return report, held.data if request.with_data else b""',
            ),
        ),
        "ambush counters",
        "INV-2: a promise is told before it is durable",
        limit=1500,
    ),
    Canary(
        "a promised value refused",
        REGISTERS,
        (
            Edit(
                "(request.listing or payload) and held.acceptor.promised != state.accepted",
                "request.listing or payload",
            ),
        ),
        "pytest tests/unit/node/test_registers.py",
        "a full disk refuses the value that settles what another replica holds, and reads fail",
        limit=1,
    ),
    Canary(
        "accept before the disk",
        REGISTERS,
        (
            Edit(
                'return Later(self._put(request.partition, request.tag, [(place, held, taken)]), (RegAccepted(), b""))',
                'self._put(request.partition, request.tag, [(place, held, taken)])\n        return RegAccepted(), b""',
            ),
        ),
        "ambush counters",
        "INV-2: an accept is told before it is durable",
        limit=50,
        quick=True,
    ),
    Canary(
        "repeat before the disk",
        REGISTERS,
        (
            Edit(
                "return Later(self._commits.submit(), answer) if place in self._queued else answer",
                "return answer",
            ),
        ),
        "ambush glimpses",
        "INV-2: a repeated accept is granted while the first one is still on its way to the disk",
        limit=100,
    ),
    Canary(
        "whole of rows that wait",
        REGISTERS,
        (
            Edit(
                "before = [None] * len(asks) if self._commits.ahead else self._wholes(request)",
                "before = self._wholes(request)",
            ),
        ),
        "pytest tests/unit/node/test_register_pages.py",
        "INV-4: a page is told with the digest of a partition of which newer rows are durable and not in the store yet",
        limit=1,
    ),
    Canary(
        "whole of rows on their way",
        REGISTERS,
        (Edit("[None if ask.partition in moving else self._whole(ask.partition)", "[self._whole(ask.partition)"),),
        "pytest tests/unit/node/test_register_pages.py",
        "INV-4: a partition is vouched for as it was before what reads show of it already",
        limit=1,
    ),
    Canary(
        "whole of some other time",
        REGISTERS,
        (Edit("then is not None and then == now", "then is not None"),),
        "pytest tests/unit/node/test_register_pages.py",
        "INV-4: a page is told with the digest of a partition that changed while it was read",
        limit=1,
    ),
    Canary(
        "read what is not durable",
        REGISTERS,
        (
            Edit(
                "held = rows.load(self._kv, place, ahead=self._commits.ahead, with_data=request.with_data)",
                "held = self._current(request.partition, place)",
            ),
        ),
        "ambush glimpses",
        "INV-2: a read reports a value that is still in the commit queue",
        limit=30,
    ),
    Canary(
        "no fence",
        REGISTERS,
        (
            Edit(
                "            self._fences[partition] = tag\n            self._fencing[partition] =",
                "            self._fencing[partition] =",
            ),
        ),
        "ambush split",
        "a fence is written, but until its next start the node goes on to serve the old layout",
        limit=50,
        quick=True,
    ),
    Canary(
        "fence not durable",
        REGISTERS,
        (Edit("self._fences[partition] = tag\n        self._floors.update(", "pass\n        self._floors.update("),),
        "pytest tests/unit/node/test_crash_points.py",
        "a node forgets its fences at its next start",
    ),
    Canary(
        "the journal is not caught up with",
        PARTS,
        (Edit("*register_rows.caught_up(kv, ahead), ", ""),),
        "pytest tests/unit/node/test_ahead.py",
        "INV-12: promises and values whose rows waited are gone after a power cut",
    ),
    Canary(
        "rows that wait hide those of a running commit",
        REGISTER_ROWS,
        (Edit("row, ahead = None, _NONE_AHEAD", "row = None"),),
        "pytest tests/unit/node/test_ahead.py",
        "INV-12: a promise that waits is read with the inline row of a later value, and an index is called damaged",
    ),
    Canary(
        "rows that wait pass those that cannot",
        COMMIT,
        (Edit("self._kv.commit([*ahead, *writes, appended.row,", "self._kv.commit([*writes, appended.row,"),),
        "pytest tests/unit/node/test_ahead.py",
        "INV-12: the end of the journal is committed without the rows that waited before it",
    ),
    Canary(
        "no reset of joining acceptors",
        REGISTERS,
        (Edit("writes.extend(rows.removing(self._kv, partition))", "pass"),),
        "ambush ghost",
        "INV-6: a node that becomes an owner again keeps what it accepted in an earlier membership",
        limit=40,
    ),
    Canary(
        "digest not updated",
        REGISTERS,
        (Edit("self._digests[partition] ^= digest", "self._digests[partition] ^= digest if born else 0"),),
        "ambush lag",
        "the digest by which replicas are compared follows new registers only, not new values of old ones",
        limit=20,
        quick=True,
    ),
    Canary(
        "index keeps its old name",
        IDENTITY,
        (
            Edit(
                "    identity = Identity(fresh_id, cluster_id, partition_bits)",
                "    identity = Identity(filed.node_id if filed else fresh_id, cluster_id, partition_bits)",
            ),
        ),
        "ambush amnesia",
        "a node that lost its index, and its promises and values with it, goes on as the same acceptor",
        limit=20,
        quick=True,
    ),
    Canary(
        "volume not synced",
        VOLUMES,
        (
            Edit(
                "                file.sync()\n                if not volume.named:",
                "                if not volume.named:",
            ),
        ),
        "ambush blackout",
        "shards are acknowledged while their bytes are in the page cache",
        limit=20,
        quick=True,
    ),
    Canary(
        "folder not synced",
        VOLUMES,
        (Edit("                if not volume.named:\n                    self._disk.sync_dir(FOLDER)\n", ""),),
        "ambush blackout",
        "the name of a new volume is not made durable",
        limit=20,
        quick=True,
    ),
    Canary(
        "index row before data",
        FRAGMENTS,
        (
            Edit(
                "            if later:\n"
                "                self._volumes.write_later(extent, payload)\n"
                "            await done",
                "            await done\n"
                "            if later:\n"
                "                await self.write(extent, payload, 0, bool)",
            ),
        ),
        "ambush blackout",
        "the bytes of a fragment are written after the commit of its row",
        limit=60,
    ),
    Canary(
        "commit names no volume",
        FRAGMENTS,
        (
            Edit("later = length <= WRITTEN_LATER_MAX", "later = False"),
            Edit(
                "done = self._commits.submit(writes, volumes=(held.extent.volume,), settled=settled)",
                "done = self._commits.submit(writes, settled=settled)",
            ),
        ),
        "ambush blackout",
        "the commit of a fragment does not wait for the sync of its volume",
        limit=20,
        quick=True,
    ),
    Canary(
        "checksum not verified",
        ENVELOPE,
        (
            Edit(
                "    if seal(fragment, stripe, cell) != view[-CHECKSUM:]:",
                "    if len(seal(fragment, stripe, cell)) != len(view[-CHECKSUM:]):",
            ),
        ),
        "ambush rot",
        "INV-10: a cell leaves the reader though it does not match its checksum",
        limit=20,
        quick=True,
    ),
    Canary(
        "a drained node goes on taking",
        "objstore.node.service",
        (
            Edit(
                "        if not self._has_share():\n            raise StaleEpoch",
                "        if False:\n            raise StaleEpoch",
            ),
        ),
        "pytest tests/sim/test_topology.py::test_a_write_from_before_a_drain_stores_nothing_on_the_node_that_leaves",
        "INV-17: what a writer with an old map stores on a node that was drained leaves with it",
        limit=1,
        quick=True,
    ),
)
