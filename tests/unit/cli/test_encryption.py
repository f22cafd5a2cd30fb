"""`objstore encryption`: a key that can be used as it is printed, and what is said of objects and keys."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from objstore.cli.encryption import _as_json, _as_text
from objstore.cli.main import main
from objstore.engine.rekeying import Census
from objstore.model.sealed import KeyRing, parse_keys


def test_a_new_key_is_a_line_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encryption", "key", "--id", "mine"]) == 0
    assert main(["encryption", "key"]) == 0
    ring = parse_keys(capsys.readouterr().out)
    assert ring.current == "mine" and len(set(ring.keys.values())) == 2


RING = KeyRing("new", {"new": b"n" * 32, "old": b"o" * 32})
CENSUS = Census(3, 2, Counter(old=5, lost=1), Counter(old=1), changed=4, unknown=1)


def test_what_is_under_which_key() -> None:
    lines = _as_text(CENSUS, RING).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "key lost MISSING 1 objects",
        "key new encrypts 0 objects",
        "key old decrypts 5 objects, 1 open uploads",
        "keys of clients 2 objects",
        "not encrypted 3 objects",
        "4 objects were put under the key that encrypts",
        "1 objects cannot be read: their key is not in encryption.keys",
    ]
    assert json.loads(_as_json(CENSUS, RING)) == {
        "current": "new",
        "keys": {"old": 5, "lost": 1},
        "uploads": {"old": 1},
        "customer_keys": 2,
        "not_encrypted": 3,
        "changed": 4,
        "key_missing": 1,
    }
