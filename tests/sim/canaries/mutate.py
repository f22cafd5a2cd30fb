"""Runs a search with one canary planted: `python -m tests.sim.canaries.mutate NAME LANE FIRST COUNT`.

The module is spoiled while it is imported, so nothing on disk changes and no other process is touched. The result
is one line of JSON. NAME "-" plants nothing: the same search over the product as it is.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from tests.sim.canaries.canary import Canary, spoiled
from tests.sim.canaries.planted import CANARIES


class Spoiler(SourceFileLoader):
    """Loads the module from its source, never from a cache, with the edits made."""

    def __init__(self, canary: Canary, path: str) -> None:
        super().__init__(canary.module, path)
        self._canary = canary

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        return compile(spoiled(self._canary, source), self.path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """Takes over the import of the one module."""

    def __init__(self, canary: Canary) -> None:
        assert canary.module not in sys.modules, "imported too early: the canary would not be in it"
        self._canary = canary

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._canary.module:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None and spec.origin is not None
        spec.loader = Spoiler(self._canary, spec.origin)
        return spec


def is_planted(canary: Canary) -> bool:
    module = sys.modules.get(canary.module)
    return module is not None and isinstance(module.__loader__, Spoiler)


def main(name: str, lane: str, first: str, count: str) -> None:
    canary = next((one for one in CANARIES if one.name == name), None)
    assert (canary is None) == (name == "-"), f"there is no canary {name!r}"
    if canary is not None:
        sys.meta_path.insert(0, Finder(canary))
    logging.disable()  # simulated trouble is no news
    from tests.sim.canaries.lanes import search

    found = search(lane, range(int(first), int(first) + int(count)))
    assert canary is None or is_planted(canary), f"the search never imported {canary.module}"
    print(json.dumps({"seed": found[0], "said": found[1]} if found else {"seed": None, "said": ""}))


if __name__ == "__main__":
    main(*sys.argv[1:])
