"""What the README tells people to type exists."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator

import msgspec
import pytest

from objstore.admin.status import Status
from objstore.cli.main import COMMANDS
from tests.meta.source import ROOT

README = (ROOT / "README.md").read_text()


def _typed(program: str) -> Iterator[list[str]]:
    """The command lines of the README's code blocks that run `program`."""
    for block in re.findall(r"^```(?:sh|console)?\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = line.removeprefix("$ ").partition(" #")[0].strip()
            for part in re.split(r"&&|\||;", words):
                if part.strip().split()[:1] == [program]:
                    yield shlex.split(part)


def _parser(name: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"objstore.cli.{name}")
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.configure(parser)
    return parser


def test_the_readme_shows_commands() -> None:
    assert len(list(_typed("objstore"))) >= 8


@pytest.mark.parametrize("words", list(_typed("objstore")), ids=shlex.join)
def test_a_command_of_the_readme_is_one(words: list[str]) -> None:
    assert words[1] in COMMANDS
    _parser(words[1]).parse_args(words[2:])


@pytest.mark.parametrize("words", list(_typed("make")), ids=shlex.join)
def test_a_make_target_of_the_readme_is_one(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert next(word for word in words[1:] if "=" not in word) in targets


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_can_explain_itself(name: str) -> None:
    assert f"objstore {name}" in README
    assert _parser(name).format_help()


@pytest.mark.parametrize("field", msgspec.structs.fields(Status), ids=lambda field: str(field.name))
def test_every_field_of_the_status_is_documented(field: msgspec.structs.FieldInfo) -> None:
    assert re.search(rf"^\| `{field.name}`", README, re.MULTILINE), f"the README's table lacks {field.name}"


def test_files_that_the_readme_links_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
