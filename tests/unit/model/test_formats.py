"""A later format is refused in a sentence, before anything else of it is looked at."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from objstore import __version__
from objstore.cluster import mirror
from objstore.model.cluster import decode_map
from objstore.model.errors import Corrupt, Fatal
from objstore.model.ids import NodeId
from objstore.model.plan import decode_plan
from objstore.model.survey import decode_control, decode_survey
from objstore.node import identity, journal_format
from tests.sim.disk import SimDisk
from tests.sim.kv import SimKV

LATER = {"format": 2, "everything": ["is", "different"]}


def in_json(file: str, read: Callable[[SimDisk], object]) -> Callable[[], object]:
    def run() -> object:
        disk = SimDisk()
        disk.write_file(file, msgspec.json.encode(LATER))
        return read(disk)

    return run


def establish(disk: SimDisk) -> object:
    return identity.establish(disk, SimKV((identity.TABLE,)), "ab" * 16, 10, NodeId("0" * 16))


def later_journal() -> bytes:
    raw = bytearray(journal_format.encode_header(journal_format.Header("ab" * 16, "0" * 16, 1, b"salt" * 2)))
    half = len(raw) // 2
    fields = list(journal_format._COPY.unpack(raw[:half]))
    fields[1] = 2
    fields[-1] = journal_format.xxhash.xxh3_64_intdigest(journal_format._COPY.pack(*fields[:-1], 0))
    return 2 * journal_format._COPY.pack(*fields)


@pytest.mark.parametrize(
    ("what", "read"),
    [
        ("this data folder of a node", in_json(identity.FILE, identity.peek)),
        ("this data folder of a node", in_json(identity.FILE, establish)),
        ("this folder of a coordinator", in_json(mirror.FILE, mirror.refuse_later)),
        ("this folder of a coordinator", in_json(mirror.FILE, lambda disk: mirror.Mirror(disk).load())),
        ("the cluster map", lambda: decode_map(msgspec.msgpack.encode(LATER))),
        ("a record journal", lambda: journal_format.decode_header(later_journal())),
    ],
)
def test_a_later_format_is_fatal_and_says_what_to_do(what: str, read: Callable[[], object]) -> None:
    with pytest.raises(Fatal) as error:
        read()
    text = str(error.value)
    assert text.startswith(f"{what} has format 2; this release ({__version__}) reads formats up to 1")
    assert text.endswith("Run that release, or a later one.")


def test_a_format_that_never_was_is_not_called_a_later_one() -> None:
    for found in (0, -1):
        with pytest.raises(Fatal, match=f"the cluster map has format {found}, which no release writes: it is damaged"):
            decode_map(msgspec.msgpack.encode({"format": found}))


@pytest.mark.parametrize(
    ("what", "decode"),
    [("the survey", decode_survey), ("the plan", decode_plan), ("what is asked of repair", decode_control)],
)
def test_records_that_one_can_do_without_are_not_taken_for_known(what: str, decode: Callable[[bytes], object]) -> None:
    with pytest.raises(msgspec.DecodeError, match=f"{what} has format 2; .* Run that release"):
        decode(msgspec.json.encode(LATER))


def test_what_is_no_record_at_all_is_not_called_a_later_one() -> None:
    disk = SimDisk()
    disk.write_file(identity.FILE, b"{torn")
    disk.write_file(mirror.FILE, b"{torn")
    assert identity.peek(disk) == ""
    mirror.refuse_later(disk)  # of no concern while there is a store
    with pytest.raises(Fatal, match="cannot be read"):
        mirror.Mirror(disk).load()
    with pytest.raises(Corrupt):
        journal_format.decode_header(bytes(len(later_journal())))


def test_what_was_written_before_formats_counts_as_the_first() -> None:
    assert decode_survey(b'{"as_of_ms":1,"leader":"r1","epoch":2,"code":"4+2"}').format == 1
