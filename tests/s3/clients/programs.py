"""Running a client program against an endpoint, and the files that it carries there and back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.meta.source import ROOT
from tests.s3.clients.prepare import JAVASCRIPT

LIBRARIES = ROOT / "build" / "clients"
JOBS = Path(__file__).parent / "jobs"
BIG = 11 * 1024 * 1024 + 5  # multipart for every client
TIMEOUT_S = 100.0

Job = Callable[..., str]


@dataclass
class Client:
    """Runs programs with the credentials in their environment, in a home of their own."""

    home: Path
    environment: Mapping[str, str]
    options: list[str] = field(default_factory=list)  # of each command line, after the program's name

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command[:1], *self.options, *command[1:]],
            cwd=self.home, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str) -> str:
        """What it printed; it must succeed."""
        return finished(self.start(*command))

    def with_options(self, *options: str, **environment: str) -> Client:
        return Client(self.home, {**self.environment, **environment}, [*self.options, *options])

    @property
    def _environment(self) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TMPDIR": str(self.home)}
        return {**own, "AWS_EC2_METADATA_DISABLED": "true", **self.environment}


class Assumable(NamedTuple):
    """A role that may read, and in the environment the key of a user that it trusts."""

    name: str
    arn: str
    user: Mapping[str, str]


def make_role(client: Client, name: str) -> Assumable:
    """Also as the profile "role" in the home of the client."""
    objstore = client.with_options("-m", "objstore", PYTHONPATH=str(ROOT))
    objstore.run(sys.executable, "user", "create", name)
    made = json.loads(
        objstore.run(sys.executable, "role", "create", name, "--trust", name, "--policy", "readonly", "--json")
    )
    key = json.loads(objstore.run(sys.executable, "key", "create", name, "--json"))
    (client.home / ".aws").mkdir()
    (client.home / ".aws" / "config").write_text(
        f"[profile user]\naws_access_key_id = {key['access_key']}\naws_secret_access_key = {key['secret_key']}\n"
        f"[profile role]\nrole_arn = {made['arn']}\nsource_profile = user\n"
    )
    user = {"AWS_ACCESS_KEY_ID": key["access_key"], "AWS_SECRET_ACCESS_KEY": key["secret_key"]}
    return Assumable(name, made["arn"], user)


def finished(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        pytest.fail(f"{process.args!r} does not end:\n{output}")
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}:\n{output}"
    return output


def program(name: str) -> str:
    """Its path. CI must have it; elsewhere its test is skipped."""
    beside = Path(sys.executable).parent / name  # awscli is installed with the tests
    path = str(beside) if beside.exists() else shutil.which(name)
    return path or _absent(f"{name} is not installed", ".ci/run")


def library(name: str) -> Path:
    """The folder that `make` put it into."""
    folder = LIBRARIES / name
    return folder if folder.exists() else Path(_absent(f"{name} is not there: run make clients", "the Makefile"))


def _absent(what: str, see: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI needs it: see {see}")
    pytest.skip(what)


def python_jobs(client: Client, script: str, folder: Path | None = None) -> Job:
    """Runs a function of a script below jobs/, with the library of that folder in place of ours."""
    path = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} if folder else {}
    python = client.with_options("-P", "-W", "error::ResourceWarning", str(JOBS / script), **path)
    return lambda *arguments: python.run(sys.executable, *arguments)


def javascript_jobs(client: Client, script: str) -> Job:
    node, modules = program("node"), str(library(JAVASCRIPT) / "node_modules")
    javascript = client.with_options(str(JOBS / script), NODE_PATH=modules)
    return lambda *arguments: javascript.run(node, *arguments)


def make_tree(folder: Path, *, big: int = 1, small: int = 2) -> Path:
    """Files of all kinds: needing several parts, empty, in folders, with names that must be escaped."""
    (folder / "sub dir" / "deep").mkdir(parents=True)
    for number in range(big):
        (folder / f"big{number}.bin").write_bytes(data(BIG, number))
    for number in range(small):
        (folder / "sub dir" / f"small {number}.txt").write_bytes(data(100 + 50 * number, number))
    (folder / "sub dir" / "deep" / "ä + b=c&d%20'e'.txt").write_text("a name")
    (folder / "empty").write_bytes(b"")
    return folder


def data(size: int, seed: int = 0) -> bytes:
    """The same for the same arguments, and not to be compressed or deduplicated."""
    return hashlib.shake_128(f"{seed} of {size}".encode()).digest(size)


def contents(folder: Path) -> dict[str, str]:
    """Digests, by path: what two trees are compared by."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
