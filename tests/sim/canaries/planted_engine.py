"""Bugs in the operations across nodes (objstore/engine) and in the merge of scans."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

WRITING = "objstore.engine.writing"
READING = "objstore.engine.reading"
OBJECTS = "objstore.engine.objects"
BUCKETS = "objstore.engine.buckets"
MULTIPART = "objstore.engine.multipart"
REBUILDING = "objstore.engine.rebuilding"
WINDOWS = "objstore.codec.windows"
PEERS = "objstore.engine.peers"
DIRECTORY = "objstore.cluster.directory"
PEERS = "objstore.engine.peers"
CHANGE = "objstore.register.change"
SCAN = "objstore.register.scan"

CANARIES = (
    Canary(
        "acknowledged at k",
        WRITING,
        (
            Edit(
                "return len(self._sinks) - len(absent) < self._ref.k + 1",
                "return len(self._sinks) - len(absent) < self._ref.k",
            ),
        ),
        "ambush thin",
        "INV-5: a write is acknowledged with k shards, so that the next loss is one too many",
        limit=20,
        quick=True,
    ),
    Canary(
        "handoff forgotten",
        READING,
        (Edit("await self._locate_all(everybody=looks > 0)", "pass"),),
        "ambush handoff",
        "a read looks for shards where they belong only, not where they were handed off",
        limit=20,
        quick=True,
    ),
    Canary(
        "hedge not verified",
        READING,
        (
            Edit(
                "open_cell(fragment, first + i, body[start - edges[0] : stop - edges[0]])",
                "open_cell(fragment, first + i, body[start - edges[0] : stop - edges[0]])"
                " if shard < self.ref.k else body[start - edges[0] : stop - edges[0] - CHECKSUM]",
            ),
        ),
        "ambush rot",
        "INV-10: cells of parity shards, which replace a late or failed one, are decoded without being verified",
        limit=30,
        quick=True,
    ),
    Canary(
        "asked by address alone",
        PEERS,
        (Edit("return Named(node, self._encoded)", "return request"),),
        "ambush amnesia",
        "a request does not say which node it is for: who lost its disk answers for the acceptor that had promised",
        limit=20,
        quick=True,
    ),
    Canary(
        "discarded after an unknown outcome",
        OBJECTS,
        (
            Edit(
                "        except (NotFound, Conflict):\n            # Only a refusal is a proof.",
                "        except Exception:\n            # Only a refusal is a proof.",
            ),
        ),
        "ambush unknown",
        "INV-7: fragments are deleted although the write may have happened",
        limit=50,
    ),
    Canary(
        "condition outside the change",
        OBJECTS,
        (
            Edit(
                "        born = None if version.upload_id else born_of(version.blobs)\n",
                "        born = None if version.upload_id else born_of(version.blobs)\n"
                "        check(condition, current((await self._keys.look(_key(bucket, key)))[1]))\n",
            ),
            Edit(
                "            check(condition, current(state))\n            if not mode and",
                "            if not mode and",
            ),
        ),
        "ambush races",
        "the condition of a write is looked at before its change, so that two writers may both hold it true",
        limit=20,
        quick=True,
    ),
    Canary(
        "late write of what was given up",
        CHANGE,
        (Edit("if born is not None and born <= ids_floor:", "if born is not None and born < 0:"),),
        "ambush slow_put",
        "INV-7: an object is committed though garbage collection has given its fragments up",
        limit=5,
    ),
    Canary(
        "bucket deleted without a second look",
        BUCKETS,
        (Edit("if state.deleting != token:", "if not state.deleting and not token:"),),
        "ambush buckets",
        "INV-8: a bucket is removed although a writer took the mark of the deletion away",
        limit=100,
        quick=True,
    ),
    Canary(
        "bucket not confirmed",
        OBJECTS,
        (
            Edit(
                "confirmed = await self._buckets.confirm(bucket_name, bucket.id)\n        data =",
                "confirmed = bucket\n        data =",
            ),
        ),
        "ambush buckets",
        "INV-8: a writer does not look at its bucket again after the commit",
        limit=100,
        quick=True,
    ),
    Canary(
        "attempt not abandoned",
        MULTIPART,
        (Edit("without_attempts(known, frozenset((state.attempt,)))", "without_attempts(known, frozenset())"),),
        "pytest tests/sim/test_cluster.py::test_one_attempt_at_most_makes_the_object_and_garbage_spares_it",
        "INV-9: an upload is aborted or completed anew while an earlier attempt may still make its object",
        limit=1,
    ),
    Canary(
        "scan does not compare",
        SCAN,
        (
            Edit(
                "agreed = len(rows) == len(pages) and all(row[0] == ballot for row in rows)",
                "agreed = len(rows) == len(pages)",
            ),
        ),
        "ambush lists",
        "INV-4: a list shows what the first replica reports of a name, though another has a newer ballot for it",
        limit=20,
    ),
    Canary(
        "pages are not vouched for",
        SCAN,
        (Edit("same = [node for node, page in pages.items() if vouches(page, pages[teller])]", "same = list(pages)"),),
        "ambush lists",
        "INV-4: a list shows the page that one replica tells, whatever the digests of the others",
        limit=20,
    ),
    Canary(
        "shards mixed up",
        WINDOWS,
        (
            Edit(
                "cell = memoryview(decoded[shard])[: shape.cell_length(shard, stripe)]",
                "cell = memoryview(decoded[missing[0]])[: shape.cell_length(shard, stripe)]",
            ),
        ),
        "ambush rebuilt",
        "when two shards are rebuilt together, both get the bytes of the first, sealed with good checksums",
        limit=20,
        quick=True,
    ),
    Canary(
        "rebuilt from unverified cells",
        WINDOWS,
        (
            Edit(
                "cells.append(open_cell(fragment, stripe, view[offset : offset + length]))",
                "cells.append(view[offset : offset + length - 8])",
            ),
        ),
        "ambush rot",
        "INV-10: a rotten cell goes into a new shard, where it gets a good checksum",
        limit=20,
        quick=True,
    ),
    Canary(
        "rebuilt shard not verified",
        REBUILDING,
        (
            Edit(
                "            await self._verify(writer.target, writer.fragment.pack())\n",
                "            pass\n",
            ),
        ),
        "pytest tests/unit/engine/test_rebuilding.py",
        "a rebuilt shard counts although it was not read back from its disk",
        limit=1,
    ),
    Canary(
        "deleted before verified",
        REBUILDING,
        (Edit("await self._verify(trimmed.home, fragment, epoch)", "pass"),),
        "pytest tests/unit/engine/test_rebuilding.py",
        "INV-7: a surplus copy goes although nobody has read the one at home",
        limit=1,
    ),
    Canary(
        "map from the coordinator alone",
        PEERS,
        (Edit("self.directory.offer(bytes(raw))", "pass"),),
        "pytest tests/sim/test_no_coordinator.py",
        "a gateway that missed a layout change and is cut off from the coordinator alone answers 503",
        limit=1,
    ),
    Canary(
        "map goes back",
        DIRECTORY,
        (Edit("known is None or found.progress > known.map.progress", "known is None or known.map != found"),),
        "pytest tests/unit/cluster/test_directory.py::test_a_map_that_another_process_has_seen_is_taken_if_it_is_later",
        "INV-15: a map that a node remembers replaces a later one",
        limit=1,
    ),
)
