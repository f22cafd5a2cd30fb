"""Data folders: private, found again, never blocked by what a killed run left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from objstore.local import folder as folders
from objstore.local.folder import Folder, MemberState, Shape, State, is_alive, locate, process_ticks, remember
from objstore.model.errors import ConfigError, Unavailable


def make(path: Path) -> Folder:
    folder = Folder(path)
    folder.create()
    return folder


def state_of(pid: int, ticks: int) -> State:
    return State(kind="up", pid=pid, ticks=ticks, shape=Shape(8, "4+2", 8), members=[MemberState("n1", "node")])


def test_files_with_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = make(tmp_path / "data")
        folder.write_state(state_of(1, 1))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.path / "state.json")}
    finally:
        os.umask(old)
    assert modes == {"data": 0o700, "state.json": 0o600}


def test_a_state_whose_supervisor_is_gone_does_not_count_as_running(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.write_shape(Shape(8, "4+2", 8))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        folder.write_state(state_of(child.pid, process_ticks(child.pid)))
        assert folder.running().pid == child.pid
        child.kill()
    with pytest.raises(Unavailable, match="not running; start it again with: objstore up"):
        folder.running()


def test_a_pid_used_again_by_a_stranger_is_not_taken_for_ours() -> None:
    mine = os.getpid()
    assert is_alive(mine, process_ticks(mine))
    assert not is_alive(mine, process_ticks(mine) + 1)
    assert not is_alive(0, 0)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    ticks = process_ticks(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but not yet reaped
    assert not is_alive(child.pid, ticks)
    child.wait()


def test_a_torn_state_file_is_as_good_as_none(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (tmp_path / "state.json").write_text('{"kind": "up", "pi')
    assert folder.read_state() is None


def test_only_one_supervisor_gets_the_lock_and_a_closed_one_leaves_none(tmp_path: Path) -> None:
    folder = make(tmp_path)
    first = folder.lock()
    assert first is not None and folder.lock() is None
    os.close(first)
    second = folder.lock()
    assert second is not None
    os.close(second)


def test_a_cluster_is_found_by_flag_then_variable_then_the_last_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(folders.POINTER_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="objstore up"):
        locate(None)
    remember(Folder(tmp_path / "last"))
    assert locate(None).path == tmp_path / "last"
    monkeypatch.setenv(folders.POINTER_VARIABLE, str(tmp_path / "variable"))
    assert locate(None).path == tmp_path / "variable"
    assert locate(str(tmp_path / "flag")).path == tmp_path / "flag"


def test_a_folder_that_cannot_be_used_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give another --data"):
        make(tmp_path / "file")
