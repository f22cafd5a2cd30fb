"""Shapes of clusters, free ports, commands to a supervisor."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from objstore.config import load
from objstore.local import commands, launch
from objstore.local.folder import Folder, Shape, State, process_ticks
from objstore.local.launch import CAPACITY_MIN, HOST, Options, free_port, settle_shape
from objstore.model.errors import InvalidRequest


def made(path: Path) -> Folder:
    folder = Folder(path)
    folder.create()
    return folder


def test_a_new_cluster_has_one_node_more_than_it_needs_so_that_repair_has_somewhere_to_go(tmp_path: Path) -> None:
    assert settle_shape(made(tmp_path), Options()) == Shape(8, "4+2", 8)
    assert settle_shape(made(tmp_path), Options(code="8+3")).nodes == 12


@pytest.mark.parametrize(
    "options",
    [Options(nodes=5), Options(nodes=8, code="2+4"), Options(nodes=100), Options(zones=0), Options(zones=9)],
)
def test_a_shape_that_cannot_work_is_refused(tmp_path: Path, options: Options) -> None:
    with pytest.raises(InvalidRequest):
        settle_shape(made(tmp_path), options)


@pytest.mark.parametrize("options", [Options(nodes=9), Options(code="5+2"), Options(zones=2)])
def test_flags_that_contradict_the_folder_are_refused(tmp_path: Path, options: Options) -> None:
    folder = made(tmp_path)
    folder.write_shape(Shape(8, "4+2", 8))
    with pytest.raises(InvalidRequest, match="contradicts the cluster in"):
        settle_shape(folder, options)


def test_a_capacity_is_for_a_new_cluster_only_and_leaves_room_for_a_volume(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert settle_shape(folder, Options(capacity=CAPACITY_MIN)) == Shape(8, "4+2", 8)
    with pytest.raises(InvalidRequest, match="or more"):
        settle_shape(folder, Options(capacity=CAPACITY_MIN - 1))
    folder.config.write_text("[node]\ncapacity = 5\n")
    with pytest.raises(InvalidRequest, match="yours to edit"):
        settle_shape(folder, Options(capacity=CAPACITY_MIN))


def test_flags_that_agree_with_the_folder_or_say_nothing_are_fine(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.write_shape(Shape(9, "5+2", 3))
    assert settle_shape(folder, Options()) == Shape(9, "5+2", 3)
    assert settle_shape(folder, Options(nodes=9, code="5+2")) == Shape(9, "5+2", 3)


def test_a_new_cluster_has_a_key_to_encrypt_with_of_its_own(tmp_path: Path) -> None:
    rings = []
    for name in ("a", "b"):
        folder = made(tmp_path / name)
        launch._settle_config(folder, Shape(8, "4+2", 8), "up", None)
        assert folder.encryption_keys.stat().st_mode & 0o777 == 0o600
        rings.append(load(folder.config, {}).encryption.keys)
        kept = folder.encryption_keys.read_bytes()
        folder.config.unlink()
        launch._settle_config(folder, Shape(8, "4+2", 8), "up", None)
        assert folder.encryption_keys.read_bytes() == kept  # what is under it would be lost
    assert rings[0] is not None and rings[1] is not None and rings[0].keys != rings[1].keys


def test_port_gateways_and_repairers_are_those_of_the_last_start_unless_flags_change_them(tmp_path: Path) -> None:
    folder = made(tmp_path)
    folder.write_shape(settle_shape(folder, Options(port=9333, gateways=2, repairers=3)))
    assert settle_shape(folder, Options()) == Shape(8, "4+2", 8, port=9333, gateways=2, repairers=3)
    folder.write_shape(settle_shape(folder, Options(port=0, gateways=1)))
    assert settle_shape(folder, Options()) == Shape(8, "4+2", 8, port=0, gateways=1, repairers=3)


def test_a_folder_of_before_ports_were_kept_starts_with_the_defaults(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (tmp_path / "shape.json").write_text('{"nodes":9,"code":"5+2","zones":3}')
    assert settle_shape(folder, Options()) == Shape(9, "5+2", 3, port=9000, gateways=1, repairers=2)


def test_a_busy_port_is_passed_over() -> None:
    with socket.socket() as busy:
        busy.bind((HOST, 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert free_port(port) > port


def _running(folder: Folder) -> None:
    from os import getpid

    folder.write_state(State(kind="up", pid=getpid(), ticks=process_ticks(getpid()), shape=Shape(8, "4+2", 8)))


def _answered(folder: Folder, action: str) -> str:
    """Send from another thread and answer from this one, as a supervisor does."""
    result: list[str] = []

    def send() -> None:
        try:
            result.append(commands.send(folder, commands.Command(action, "n3"), timeout_s=10))
        except InvalidRequest as error:
            result.append(f"refused: {error}")

    def act(command: commands.Command) -> str:
        if command.action == "wipe":
            raise InvalidRequest("no")
        return f"{command.name}: {command.action} done"

    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        commands.answer_all(folder, act)
    return result[0]


def test_a_command_is_carried_out_and_answered(tmp_path: Path) -> None:
    folder = made(tmp_path)
    _running(folder)
    assert _answered(folder, "kill") == "n3: kill done"
    assert _answered(folder, "wipe") == "refused: no"
    assert list(folder.commands.iterdir()) == []


def test_commands_of_an_earlier_run_are_forgotten(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder.commands / "1.request").write_text('{"action": "kill", "name": "n1"}')
    commands.discard_all(folder)
    commands.answer_all(folder, lambda command: pytest.fail("carried out"))


def test_an_answer_that_cannot_be_written_does_not_end_the_supervisor(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder.commands / "1.request").write_text('{"action": "kill", "name": "n1"}')
    (folder.commands / "1.part").mkdir()  # as good as a full disk
    done: list[str] = []

    def act(command: commands.Command) -> str:
        done.append(f"{command.action} {command.name}")
        return "done"

    commands.answer_all(folder, act)
    assert done == ["kill n1"]
