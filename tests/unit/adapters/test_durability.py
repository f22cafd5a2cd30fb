"""What must be durable is synced before the answer: the system calls of the real adapters, recorded in order.

| what                      | bytes                          | names                                             |
|---------------------------|--------------------------------|---------------------------------------------------|
| a data folder             |                                | fsync of the parent of every folder that was made |
| `make_dir`                |                                | fsync of each parent, also where it existed       |
| a new volume or journal   | fdatasync before it is indexed | fsync of its folder before anything points to it  |
| `write_file`              | fdatasync before the rename    | fsync of the folder after it                      |
| the index, a coordinator  | LMDB with sync and metasync    | fsync of its folder and of the parent             |
| secrets and shape of `up` | fsync before the rename        | fsync of the folder after it                      |
| state.json of `up`        | none: it says who runs now, and after a power cut nobody does                   ||

Calls are told in words: "sync FILE", "names FOLDER" (an fsync of a folder).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from objstore.adapters.disk import LocalDisk
from objstore.adapters.kv import LmdbKV
from objstore.local.folder import Folder, Shape, State, write_private
from objstore.model.limits import MIB
from objstore.model.manifest import FragmentId
from objstore.node.volumes import BLOCK
from objstore.wire.messages import FragPut, Ok, RegAccept, RegAccepted
from tests.unit.node.rig import Rig, ask, ballot, blob_in, run, whole
from tests.unit.node.test_registers import key


class Calls:
    """Opens, writes, syncs and renames of this process below one folder, as words in the order they began."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.seen: list[str] = []
        for name in ("pwrite", "fsync", "fdatasync", "rename", "replace", "mkdir", "unlink"):
            self._record(patch, name)

    def _record(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def recorded(what: object, *more: object, **how: object) -> object:
            word = "sync" if name in ("fsync", "fdatasync") else "rename" if name == "replace" else name
            told = self._name(what)
            if word == "sync" and isinstance(what, int) and os.path.isdir(f"/proc/self/fd/{what}"):
                word = "names"
            if word == "rename":
                told += f" {self._name(more[0])}"
            self.seen.append(f"{word} {told}")
            return real(what, *more, **how)

        patch.setattr(os, name, recorded)

    def _name(self, what: object) -> str:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)  # type: ignore[call-overload]
        return os.path.relpath(os.fsdecode(path), self.root)

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen

    def assert_order(self, *words: str) -> None:
        """These came, in this order, among others."""
        rest: Iterator[str] = iter(self.seen)
        for word in words:
            assert word in rest, f"no {word!r} (or not in this order) in {self.seen}"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(tmp_path, monkeypatch)


def test_a_new_data_folder_is_durable_with_all_its_parents(tmp_path: Path, calls: Calls) -> None:
    LocalDisk(tmp_path / "a" / "b" / "c")
    assert calls.take() == ["mkdir a", "mkdir a/b", "mkdir a/b/c", "names .", "names a", "names a/b"]


def test_a_data_folder_that_exists_may_have_been_made_by_a_start_that_was_cut_off(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "a").mkdir()
    calls.take()
    LocalDisk(tmp_path / "a")
    assert "names ." in calls.take()


def test_a_new_folder_in_it(tmp_path: Path, calls: Calls) -> None:
    disk = LocalDisk(tmp_path)
    calls.take()
    disk.make_dir("x/y")
    assert calls.take() == ["mkdir x", "names .", "mkdir x/y", "names x"]
    disk.make_dir("x/y")
    calls.assert_order("names .", "names x")


def test_a_file_that_is_replaced(tmp_path: Path, calls: Calls) -> None:
    disk = LocalDisk(tmp_path)
    calls.take()
    disk.write_file("f", b"content")
    assert calls.take() == ["pwrite f.tmp", "sync f.tmp", "rename f.tmp f", "names ."]


def test_a_file_that_is_written(tmp_path: Path, calls: Calls) -> None:
    disk = LocalDisk(tmp_path)
    file = disk.open("f", create=True)
    calls.take()
    file.pwrite(b"x", 0)
    file.sync()
    disk.sync_dir("")
    assert calls.take() == ["pwrite f", "sync f", "names ."]


def test_the_index_commits_synchronously_and_its_names_are_durable(tmp_path: Path, calls: Calls) -> None:
    LocalDisk(tmp_path / "data")
    calls.take()
    kv = LmdbKV(tmp_path / "data" / "index", ["t"], map_size=MIB)
    calls.assert_order("mkdir data/index", "names data", "names data/index")
    flags = kv._env.flags()
    assert flags["sync"] and flags["metasync"] and not flags["writemap"] and not flags["map_async"]
    kv.close()
    again = lmdb.open(str(tmp_path / "data" / "index"), max_dbs=1)  # what LMDB says when nobody asks
    assert flags["sync"] == again.flags()["sync"]
    again.close()


def test_what_a_node_answers_is_synced_before(tmp_path: Path, calls: Calls) -> None:
    """First answers of a new node: a fragment in a new volume, a register in a new journal."""
    fragment = blob_in(1)

    async def main() -> None:
        rig = Rig(LocalDisk(tmp_path / "data"))
        node = await rig.open(volume_bytes=8 * BLOCK)
        calls.assert_order("names .", "names data")
        assert "rename data/identity.json.tmp data/identity.json" in calls.take()
        name = FragmentId(fragment, 0, 0)
        assert await ask(node, FragPut(1, name.pack()), whole(name)) == Ok()
        volume = f"data/volumes/{os.listdir(tmp_path / 'data' / 'volumes')[0]}"
        calls.assert_order(f"pwrite {volume}", f"sync {volume}")
        calls.assert_order("names data/volumes")
        calls.take()
        accept = RegAccept(3, 0, key(b"k"), ballot(5), b"l", b"s")
        assert await ask(node, accept, b"inline") == RegAccepted()
        (records,) = os.listdir(tmp_path / "data" / "records")
        calls.assert_order(f"pwrite data/records/{records}", f"sync data/records/{records}")
        calls.assert_order("names data/records")
        await node.close()

    run(main())


def test_secrets_and_shape_of_a_local_cluster(tmp_path: Path, calls: Calls) -> None:
    folder = Folder(tmp_path / "cluster")
    folder.create()
    calls.assert_order("mkdir cluster", "names .", "mkdir cluster/data", "names cluster")
    calls.take()
    write_private(folder.config, b"secret")
    written = calls.take()
    draft = written[0].removeprefix("sync ")
    assert written == [f"sync {draft}", f"rename {draft} cluster/cluster.toml", "names cluster"]


def test_who_runs_now_need_not_outlive_a_power_cut(tmp_path: Path, calls: Calls) -> None:
    folder = Folder(tmp_path / "cluster")
    folder.create()
    calls.take()
    folder.write_state(State(kind="up", pid=1, ticks=1, shape=Shape(nodes=1, code="1+0", zones=1)))
    assert [word.split()[0] for word in calls.take()] == ["rename"]
