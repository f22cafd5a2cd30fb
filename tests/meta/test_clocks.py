"""Wall clocks are read where objstore/ARCHITECTURE.md says what for, and nowhere else."""

from __future__ import annotations

import ast
import re

from tests.meta.source import ROOT, modules

TEXT = (ROOT / "objstore" / "ARCHITECTURE.md").read_text()
ADAPTERS = "objstore.adapters"  # the clock itself


def test_the_architecture_lists_every_use_of_a_wall_clock() -> None:
    section = TEXT.partition("## Where clocks are used")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    used = {
        module.where.removeprefix("objstore/").removesuffix(".py")
        for module in modules()
        if not module.name.startswith(ADAPTERS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "wall_ms"
    }
    assert listed == used
