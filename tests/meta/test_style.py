"""Rules that linters do not know: banned calls, sizes, names, docstrings. Each list is data; keep exceptions few."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.meta.source import Module, calls, modules

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 80
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "stuff"}

# The outside world has doors (objstore/ports.py). Those who may open one themselves:
DOORS = ("objstore.adapters", "objstore.rpc")
EDGES = (
    "objstore.cli",
    "objstore.local",
    "objstore.testing",
    "objstore.admin.collect",
    "objstore.config",
    "objstore.bench",
)

# call -> who may make it. A trailing "." means everything below.
BANNED: dict[str, tuple[str, ...]] = {
    "pickle.": (),
    "marshal.": (),
    "eval": (),
    "exec": (),
    "os.system": (),
    "unittest.mock.": (),
    "breakpoint": (),
    "print": ("objstore.cli",),
    "input": (),
    "id": (),
    "hash": (),
    "time.": (*DOORS, *EDGES, "objstore.admin.screen"),
    "datetime.datetime.now": (),
    "datetime.datetime.utcnow": (),
    "random.": (*DOORS, "objstore.bench"),
    "secrets.": (*DOORS, "objstore.local", "objstore.bench"),
    "os.urandom": DOORS,
    "uuid.": (*DOORS, "objstore.testing"),
    "open": (*DOORS, *EDGES),
    "os.open": (*DOORS, *EDGES),
    "socket.": (*DOORS, *EDGES),
    "subprocess.": (*DOORS, *EDGES),
    "threading.": (*EDGES, *DOORS),
    "asyncio.get_event_loop": (),
    "asyncio.to_thread": (),  # run_in_executor(None, ...): the simulated loop runs that inline
    "asyncio.wait_for": (),  # swallows a cancellation that arrives together with the result: asyncio.timeout
}
TIME_ONLY_FORMATS = {"time.strftime", "time.gmtime", "time.localtime", "time.strptime"}  # pure, given a time


def test_banned_calls_are_made_only_by_those_who_may() -> None:
    found = [
        f"{module.where}:{line}: {name}()"
        for module in modules()
        for name, line in calls(module)
        for pattern, allowed in BANNED.items()
        if _matches(name, pattern) and not any(_is_under(module.name, who) for who in allowed)
    ]
    assert not found, "\n" + "\n".join(found)


def _matches(name: str, pattern: str) -> bool:
    if name in TIME_ONLY_FORMATS:
        return False
    return name.startswith(pattern) if pattern.endswith(".") else name == pattern


def _is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", [m for m in modules() if m.text.strip()], ids=lambda module: str(module.name))
def test_a_module_says_what_it_is_and_stays_small(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module.where} has no docstring"
    lines = module.text.count("\n")
    assert lines <= MODULE_LINES_MAX, f"{module.where} has {lines} lines"
    assert not EMPTY_NAMES & set(module.name.split(".")), f"{module.name} is a name that says nothing"
    assert module.path.name == "__init__.py" or not module.name.endswith("__init__")
    for name, length in _functions(module):
        assert length <= FUNCTION_LINES_MAX, f"{module.where}: {name} has {length} lines"


def _functions(module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_module_keeps_changing_state() -> None:
    """A module-level dict, list or set that is changed somewhere is state that tests and processes share."""
    found = []
    for module in modules():
        named = {
            target.id
            for node in module.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict | ast.List | ast.Set)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Global):
                found.append(f"{module.where}:{node.lineno}: global {', '.join(node.names)}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _changes(node.func, named):
                found.append(f"{module.where}:{node.lineno}: {ast.unparse(node.func)}()")
    assert not found, "\n" + "\n".join(found)


def _changes(call: ast.Attribute, named: set[str]) -> bool:
    changing = {"append", "extend", "insert", "pop", "clear", "update", "setdefault", "add", "remove", "discard"}
    return isinstance(call.value, ast.Name) and call.value.id in named and call.attr in changing
