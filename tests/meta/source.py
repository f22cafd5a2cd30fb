"""The modules of this repository as syntax trees, and what each imports (also inside functions and strings)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("objstore", "gateway")


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    text: str

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> tuple[Module, ...]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(Module(_name(path), path, ast.parse(text := path.read_text()), text) for path in paths)


@cache
def names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def imports(module: Module, *, at_load: bool = False) -> Iterator[tuple[str, int]]:
    """(imported module, line). `from a import b` counts as a.b where that is a module, else as a.

    at_load: only what is imported when the module is, not what its functions or a type checker want."""
    for node in _run_at_load(module.tree) if at_load else ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.where}:{node.lineno}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full if full in names() else base), node.lineno
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("import_module") and node.args:
            first = node.args[0]
            yield from [(str(first.value), node.lineno)] if isinstance(first, ast.Constant) else []


def _run_at_load(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not later and not (isinstance(child, ast.If) and dotted(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from _run_at_load(child)


def dotted(node: ast.expr) -> str:
    """a.b.c as text; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls(module: Module) -> Iterator[tuple[str, int]]:
    """(what is called, line): imported names in full, plain names (builtins) as they are; methods do not count."""
    known: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            first, dot, rest = name.partition(".")
            if first in known or not dot:
                yield known.get(first, first) + dot + rest, node.lineno
