"""Tokens of sessions open with their own access key under the secret of their cluster, and in no other way."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objstore.codec import session_tokens
from objstore.model.identity import Session

UNDER = session_tokens.derive(b"the secret of a cluster")
NONCE = bytes(range(session_tokens.NONCE))
SESSION = Session("ASIA1", "a secret", 1000, 2000, "AKIA1", b"p" * 16, "reader", "AROA1", "work", b'{"Statement":[]}')
TOKEN = session_tokens.seal(UNDER, SESSION, NONCE)


def test_there_and_back() -> None:
    assert session_tokens.unseal(UNDER, "ASIA1", TOKEN) == SESSION
    assert b"a secret" not in base64.b64decode(TOKEN)


def test_it_opens_with_nothing_else() -> None:
    assert session_tokens.unseal(UNDER, "ASIA2", TOKEN) is None
    assert session_tokens.unseal(session_tokens.derive(b"of another"), "ASIA1", TOKEN) is None


@pytest.mark.parametrize("byte", range(len(base64.b64decode(TOKEN))))
def test_no_byte_of_it_can_be_changed(byte: int) -> None:
    raw = bytearray(base64.b64decode(TOKEN))
    raw[byte] ^= 1
    assert session_tokens.unseal(UNDER, "ASIA1", base64.b64encode(raw).decode()) is None


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(b"\x01" + raw).decode()))
def test_anything_may_be_sent_in_place_of_one(token: str) -> None:
    assert session_tokens.unseal(UNDER, "ASIA1", token) is None


def test_what_is_too_long_or_from_elsewhere_is_none() -> None:
    for key, token in (("ASIA1", TOKEN + "A" * 9000), ("\udcff", TOKEN), ("ASIA1", "\udcff"), ("ASIA1", TOKEN[:8])):
        assert session_tokens.unseal(UNDER, key, token) is None


def test_the_longest_session_has_a_token_that_a_header_can_carry() -> None:
    longest = msgspec.structs.replace(
        SESSION, secret="s" * 40, role="r" * 64, name="n" * 64, policy="é".encode() * 2048, parent="k" * 64
    )
    token = session_tokens.seal(UNDER, longest, NONCE)
    assert len(token) < session_tokens.TEXT_MAX
    assert session_tokens.unseal(UNDER, longest.access_key, token) == longest


def test_a_proof_is_of_one_key_and_one_secret() -> None:
    proofs = {
        session_tokens.proof_of(under, key, secret)
        for under in (UNDER, session_tokens.derive(b"of another"))
        for key, secret in (("AKIA1", "s"), ("AKIA2", "s"), ("AKIA1", "t"))
    }
    assert len(proofs) == 6 and all(len(proof) == session_tokens.PROOF for proof in proofs)
    assert session_tokens.proof_of(UNDER, "AKIA1", "s") in proofs
