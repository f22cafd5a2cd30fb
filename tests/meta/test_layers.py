"""Who may import whom. The table is the architecture: change it only together with objstore/ARCHITECTURE.md."""

from __future__ import annotations

from tests.meta.source import Module, imports, modules

# Layer -> the layers it may import besides itself. A layer is a package, or a module, of objstore or gateway.
PURE = {
    "objstore.model": set(),
    "objstore.wire": {"objstore.model"},
    "objstore.ports": {"objstore.model", "objstore.wire"},
    "objstore.placement": {"objstore.model"},
    "objstore.codec": {"objstore.model", "objstore.ports"},
    "objstore.register": {"objstore.model", "objstore.wire"},
    "objstore.engine.types": {"objstore.model"},
    "objstore.lifecycle.rules": {"objstore.model"},
    "gateway.s3": {"objstore.model", "objstore.engine.types"},
}
_CORE = {"objstore.model", "objstore.wire", "objstore.ports"}
_STORAGE = _CORE | {"objstore.placement", "objstore.codec", "objstore.register", "objstore.cluster"}
SHELL = {
    "objstore": set(),
    "objstore.config": {"objstore.model"},
    "objstore.adapters": _CORE,
    "objstore.rpc": _CORE,
    "objstore.cluster": _CORE | {"objstore.placement"},
    "objstore.node": _CORE | {"objstore.codec", "objstore.register"},
    "objstore.engine": _STORAGE | {"objstore.engine.types"},
    "objstore.notify": _STORAGE | {"objstore.engine.types", "objstore.engine"},
    "objstore.migrate": _STORAGE | {"objstore.engine.types", "objstore.engine"},
    "objstore.inventory": _STORAGE | {"objstore.engine.types", "objstore.engine"},
    "objstore.lifecycle": _STORAGE | {"objstore.engine.types", "objstore.engine", "objstore.lifecycle.rules"},
    "objstore.repair": _STORAGE
    | {"objstore.engine.types", "objstore.engine", "objstore.inventory", "objstore.lifecycle", "objstore.notify"},
    "objstore.recovery": _STORAGE | {"objstore.engine.types", "objstore.engine", "objstore.repair"},
    "objstore.admin": _CORE | {"objstore.rpc", "objstore.cluster"},
    "objstore.bench": {"objstore.model"},
    "objstore.deploy": {"objstore", "objstore.config", "objstore.admin"},
    "objstore.local": {"objstore.model", "objstore.adapters"},
    "objstore.testing": {"objstore.model", "objstore.codec", "objstore.admin", "objstore.local"},
    "gateway": _CORE | {"gateway.s3", "objstore.engine.types", "objstore.engine", "objstore.notify"},
}
# The command line puts the parts together, so it may import all of them; it is the only one that knows the gateway.
TOP = {"objstore.cli": {*PURE, *SHELL}, "objstore.__main__": {"objstore.cli"}}
LAYERS: dict[str, set[str]] = {**PURE, **SHELL, **TOP}

# What is pure knows no waiting, clock, chance or outside world.
IMPURE = (
    "asyncio", "concurrent", "multiprocessing", "threading", "time", "random", "secrets", "uuid", "os",
    "io", "pathlib", "shutil", "socket", "select", "signal", "subprocess", "tempfile", "logging", "http",
    "urllib.request", "aiohttp", "lmdb",
)  # fmt: skip

PURE_BUT = {
    ("objstore.codec.isal", "pathlib"): "finds the shared library, once, when it is first asked for",
    ("objstore.ports", "asyncio"): "the type of a future, in what a service says of an answer that has to wait",
}


def layer_of(name: str) -> str:
    """The longest entry of the table that holds this module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (candidate := ".".join(parts[:length])) in LAYERS:
            return candidate
    raise AssertionError(f"{name} belongs to no layer: add it to the table")


def is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def violations(module: Module) -> list[str]:
    own = layer_of(module.name)
    found = []
    for target, line in imports(module):
        if is_under(target, "objstore") or is_under(target, "gateway"):
            layer = layer_of(target)
            if layer not in LAYERS[own] | {own, "objstore"}:
                found.append(f"{module.where}:{line}: {own} imports {target}")
        elif own in PURE and any(is_under(target, it) for it in IMPURE) and (module.name, target) not in PURE_BUT:
            found.append(f"{module.where}:{line}: {own} is pure, but imports {target}")
    return found


def test_every_import_goes_down_the_layers() -> None:
    found = [line for module in modules() for line in violations(module)]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    assert set(PURE_BUT) <= {(module.name, target) for module in modules() for target, _ in imports(module)}


def test_the_layers_have_no_cycle() -> None:
    seen: dict[str, bool] = {}  # False: on the way down, True: done

    def visit(layer: str, path: tuple[str, ...]) -> None:
        assert seen.get(layer) is not False, f"cycle: {' -> '.join((*path, layer))}"
        if layer not in seen:
            seen[layer] = False
            for below in sorted(LAYERS[layer] - {layer}):
                visit(below, (*path, layer))
            seen[layer] = True

    for layer in LAYERS:
        visit(layer, ())


def test_only_the_role_of_the_gateway_knows_the_gateway() -> None:
    inside = [module for module in modules() if is_under(module.name, "objstore")]
    knowing = {module.name for module in inside for target, _ in imports(module) if is_under(target, "gateway")}
    assert knowing <= {"objstore.cli.roles"}


def test_a_forbidden_import_is_found_even_inside_a_function() -> None:
    import ast
    from pathlib import Path

    from tests.meta.source import ROOT

    text = "def f():\n    import asyncio\n    from objstore.rpc import client\n"
    module = Module("objstore.codec.bad", Path(ROOT / "objstore/codec/bad.py"), ast.parse(text), text)
    assert [line.partition(" ")[2] for line in violations(module)] == [
        "objstore.codec is pure, but imports asyncio",
        "objstore.codec imports objstore.rpc.client",
    ]
