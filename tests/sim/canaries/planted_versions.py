"""Bugs in what becomes of the versions of a key."""

from __future__ import annotations

from tests.sim.canaries.canary import Canary, Edit

OBJECTS = "objstore.engine.objects"
KEYSTATE = "objstore.engine.keystate"

CANARIES = (
    Canary(
        "versioning remembered",
        OBJECTS,
        (Edit("mode = now.versioning", "mode = bucket.versioning"),),
        "sim",
        "INV-18: whether a bucket is versioned is taken from memory, so that a write destroys what was to be kept",
        limit=40,
    ),
    Canary(
        "bytes of the wrong version",
        KEYSTATE,
        (Edit("        offset += inline_length(one)\n", "        offset += one.size\n"),),
        "sim",
        "INV-18: a version that lies elsewhere is counted among the inline bytes of the others",
        limit=60,
    ),
    Canary(
        "every null write takes the newest away",
        KEYSTATE,
        (Edit("old = find(state, NULL) if version.null else None", "old = newest(state) if version.null else None"),),
        "pytest tests/s3/test_versions.py::test_suspended_there_is_one_null_version_and_the_others_stay",
        "INV-18: a write without a version replaces whatever is newest",
        limit=1,
        quick=True,
    ),
)
