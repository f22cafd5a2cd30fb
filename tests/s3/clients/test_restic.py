"""restic: a backup is worth what its restoring is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.s3.clients.programs import Client, contents, finished, make_tree, program


def test_backup_while_a_node_dies_restore_and_prune(
    client: Client, tmp_path: Path, kill_a_node_during: Callable[..., None]
) -> None:
    env, tree = client.environment, make_tree(tmp_path / "tree", big=2, small=40)
    options = client.with_options(
        "--no-cache", "--option", "s3.bucket-lookup=path",
        RESTIC_REPOSITORY=f"s3:{env['AWS_ENDPOINT_URL']}/{env['BUCKET']}/repo", RESTIC_PASSWORD="a word",
        RESTIC_PACK_SIZE="4",
    )  # fmt: skip

    def restic(*arguments: str) -> Any:
        return json.loads(options.run(program("restic"), "--json", *arguments) or "null")

    def restored(snapshot: str) -> dict[str, str]:
        options.run(program("restic"), "restore", snapshot, "--target", str(tmp_path / snapshot))
        return contents(tmp_path / snapshot / tree.relative_to("/"))

    options.run(program("restic"), "init")
    backing = options.start(program("restic"), "backup", "--limit-upload", "10000", str(tree))
    kill_a_node_during(backing, "repo/data/")
    finished(backing)
    before = contents(tree)
    (tree / "big0.bin").write_bytes(b"smaller now")
    options.run(program("restic"), "backup", str(tree))
    snapshots = restic("snapshots")
    assert len(snapshots) == 2
    assert restored(snapshots[0]["short_id"]) == before
    options.run(program("restic"), "forget", "--keep-last", "1", "--prune")
    options.run(program("restic"), "check", "--read-data")
    assert len(restic("snapshots")) == 1 and restored("latest") == contents(tree)
