"""What the inventory keeps for garbage collection equals a count from scratch, whatever order records come in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from objstore.model.cluster import ErasureCode
from objstore.model.ids import BucketId
from objstore.model.records import Attempt
from objstore.repair.inventory import Inventory
from objstore.repair.record import Record

UPLOADS = tuple(bytes((i,)) * 16 for i in (1, 2))
UPLOAD_KEYS = {upload: bytes(16) + b"\x02k\x00" + upload for upload in UPLOADS}
PART_KEYS = {
    (upload, number): bytes(16) + b"\x03" + upload + bytes((0, number)) for upload in UPLOADS for number in (1, 2)
}
OBJECT, NAME = bytes(16) + b"\x01k", bytes(16) + b"\x04name"
ENDED = tuple(BucketId(bytes((i,)) * 16) for i in (7, 8))

records = st.one_of(
    st.builds(
        lambda upload, ended: (UPLOAD_KEYS[upload], Record(b"b", upload=upload, ended=ended)),
        st.sampled_from(UPLOADS),
        st.booleans(),
    ),
    st.builds(lambda part: (PART_KEYS[part], Record(b"b", upload=part[0])), st.sampled_from(sorted(PART_KEYS))),
    st.builds(
        lambda attempts: (OBJECT, Record(b"b", attempts=attempts)),
        st.sampled_from(((), (Attempt(bytes(16), UPLOADS[0]),))),
    ),
    st.builds(
        lambda ended: (NAME, Record(b"b", ended_buckets=tuple(ended))), st.lists(st.sampled_from(ENDED), unique=True)
    ),
    st.builds(
        lambda key, known: (key, Record(b"b", empty=True) if known else None),
        st.sampled_from([*UPLOAD_KEYS.values(), *PART_KEYS.values(), OBJECT, NAME]),
        st.booleans(),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(records, max_size=30))
def test_remains_equal_a_count_from_scratch(script: list[tuple[bytes, Record | None]]) -> None:
    inventory = Inventory(ErasureCode(2, 1))
    now: dict[bytes, Record] = {}
    for key, record in script:
        inventory.set_record(0, key, record)
        now.pop(key, None)
        if record is not None:
            now[key] = record
        uploads = {one.upload for name, one in now.items() if name[16] == 2 and one.upload}
        parts = {name: one for name, one in now.items() if name[16] == 3 and one.upload}
        assert inventory.stray_parts() == {name: one for name, one in parts.items() if one.upload not in uploads}
        assert all(inventory.has_parts(upload) == any(p.upload == upload for p in parts.values()) for upload in UPLOADS)
        assert inventory.ended_uploads == {name: one for name, one in now.items() if name[16] == 2 and one.ended}
        assert inventory.ended_buckets == dict.fromkeys(now[NAME].ended_buckets if NAME in now else (), NAME)
        assert inventory.garbage == {name: one for name, one in now.items() if one.attempts}
