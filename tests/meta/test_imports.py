"""Modules stand on their own, and what must start fast does."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.meta.source import ROOT, Module, imports, modules, names

# One fresh process per module, forked from one interpreter that has imported none of them.
_EACH_ALONE = """
import importlib, os, sys, traceback
failed = []
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        failed.append(name)
sys.exit(f"cannot be imported alone: {' '.join(failed)}" if failed else 0)
"""


def packages_of(name: str) -> set[str]:
    """What is loaded before a module, because it lies in it."""
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def needed(module: Module) -> set[str]:
    """Our modules that must be there before this one is."""
    wanted = {target for target, _ in imports(module, at_load=True) if target in names()}
    around = {package for target in wanted for package in packages_of(target)}
    return wanted | (around - packages_of(module.name) - {module.name})


def test_no_module_needs_itself() -> None:
    """So it does not matter which of them is imported first; a cycle would hide behind a lucky order."""
    TopologicalSorter({module.name: needed(module) for module in modules()}).prepare()


def test_what_a_function_imports_is_needed_later() -> None:
    text = "from objstore.rpc import client\ndef f():\n    import objstore.node.service\n"
    module = Module("objstore.cli.some", ROOT / "some.py", ast.parse(text), text)
    assert needed(module) == {"objstore.rpc", "objstore.rpc.client"}


def test_every_module_can_be_imported() -> None:
    importable = sorted(name for name in names() if not name.endswith("__main__"))
    _loaded_by(f"import {', '.join(importable)}")


@pytest.mark.long
def test_every_module_can_be_imported_first() -> None:
    importable = sorted(name for name in names() if not name.endswith("__main__"))
    run = subprocess.run([sys.executable, "-c", _EACH_ALONE, *importable], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr


def _loaded_by(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_status_starts_without_the_heavy_modules() -> None:
    loaded = _loaded_by("import objstore.cli.main, objstore.cli.status")
    assert not loaded & {"asyncio", "aiohttp", "rich", "tomllib", "uvloop", "lmdb", "zfec", "ssl", "logging"}


def test_the_pytest_plugin_loads_nothing_until_a_fixture_is_used() -> None:
    loaded = _loaded_by("import objstore.testing.plugin")
    assert not loaded & {"boto3", "aiohttp", "msgspec", "lmdb", "objstore.testing.cluster"}


def test_local_cluster_needs_no_boto3() -> None:
    assert not _loaded_by("from objstore.testing import LocalCluster") & {"boto3", "botocore", "aiohttp"}
