"""The entry point: commands, errors as sentences, exit codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from objstore.cli.env import export_lines
from objstore.cli.main import COMMANDS, main
from objstore.cli.progress import StartProgress
from objstore.local.folder import Folder, MemberState, Shape, State, process_ticks


def test_help_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"]])
def test_an_unknown_command_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_no_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "objstore up" in capsys.readouterr().out


ERRORS = [
    (["status", "--data", "{empty}"], 2, "start one with: objstore up"),
    (["status", "--data", "{stopped}"], 4, "start it again with: objstore up"),
    (["status", "--data", "x", "--config", "y"], 2, "not both"),
    (["env", "--data", "{stopped}"], 4, "is not running"),
    (["down", "--data", "{stopped}"], 4, "is not running"),
    (["chaos", "kill", "n3", "--data", "{stopped}"], 4, "is not running"),
    (["watch", "--timeout", "3", "--data", "{stopped}"], 2, "--timeout needs --until"),
    (["up", "--ec", "4*2", "--data", "{empty}"], 2, "k+m"),
    (["up", "--port", "70000", "--data", "{empty}"], 2, "--port 70000"),
    (["up", "--nodes", "9", "--data", "{stopped}"], 2, "contradicts"),
    (["up", "--down-after", "9", "--out-after", "3", "--data", "{empty}"], 2, "--down-after"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), ERRORS, ids=lambda value: str(value)[:40])
def test_errors_are_sentences_with_a_way_out(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Folder(tmp_path / "stopped")
    stopped.create()
    stopped.write_shape(Shape(8, "4+2", 8))
    places = {"{stopped}": str(stopped.path), "{empty}": str(tmp_path / "empty")}
    assert main([places.get(argument, argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error


def test_exports_survive_a_shell() -> None:
    state = State("up", 1, 1, Shape(8, "4+2", 8), endpoints=["http://h:1"], access_key="A", secret_key="s p'a\"$x")
    done = subprocess.run(
        ["sh", "-c", "\n".join([*export_lines(state), 'printf %s "$AWS_SECRET_ACCESS_KEY"'])],
        capture_output=True,
        text=True,
    )
    assert done.stdout == state.secret_key


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    folder.write_state(
        State("up", os.getpid(), process_ticks(os.getpid()), Shape(8, "4+2", 8), secret_key="x" * 200_000)
    )
    shell = f"{sys.executable} -m objstore env --data {tmp_path} | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stderr == ""


def test_progress_without_a_terminal_is_one_line_per_process_and_has_no_escape_codes() -> None:
    stream = io.StringIO()
    progress = StartProgress(stream)
    member = MemberState("n1", "node", "starting")
    progress(member, "starting (pid 7)")
    member.condition = "ready"
    progress(member, "ready in 0.4 s at h:1")
    assert stream.getvalue() == "  node         n1   ready in 0.4 s at h:1\n"
