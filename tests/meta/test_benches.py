"""What bench/README.md says there is, is there, and what it tells people to type can be typed."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex

import pytest

from tests.meta.source import ROOT

BENCH = ROOT / "bench"
README = (BENCH / "README.md").read_text()
TYPED = [
    shlex.split(line.partition(" #")[0])
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
] + [shlex.split(words) for words in re.findall(r"`(python -m bench\.[^`]+)`", README)]
NOT_BENCHES = {"__init__", "figures"}


def benches() -> set[str]:
    return {path.stem for path in BENCH.glob("*.py")} - NOT_BENCHES


def test_every_bench_is_described_and_has_a_command() -> None:
    described = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert sorted(described) == sorted(benches())
    shown = {words[2].removeprefix("bench.") for words in TYPED if words[0] == "python"}
    assert shown == benches()


@pytest.mark.parametrize("words", TYPED, ids=shlex.join)
def test_a_command_of_the_readme_is_one(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[list[str]] = []
    parse = argparse.ArgumentParser.parse_args

    class Parsed(Exception):
        pass

    def stop(self: argparse.ArgumentParser, args: list[str] | None = None, namespace: None = None) -> None:
        parse(self, args, namespace)
        parsed.append(list(args or []))
        raise Parsed

    if words[0] == "objstore":
        module = importlib.import_module(f"objstore.cli.{words[1]}")
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.configure(parser)
        parser.parse_args(words[2:])
        return
    assert words[:2] == ["python", "-m"], words
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed):
        importlib.import_module(words[2]).main(words[3:])
    assert parsed == [words[3:]]


@pytest.mark.parametrize("name", sorted(benches()))
def test_a_bench_says_what_it_is_and_stays_small(name: str) -> None:
    text = (BENCH / f"{name}.py").read_text()
    assert text.startswith('"""') and text.count("\n") < 500
