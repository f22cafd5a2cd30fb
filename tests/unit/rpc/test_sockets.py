"""Addresses as people write them."""

from __future__ import annotations

import pytest

from objstore.model.errors import InvalidRequest
from objstore.rpc.sockets import join_address, split_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [("host.example:80", ("host.example", 80)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9000", ("::1", 9000))],
)
def test_split_and_join_are_inverse(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":80", "host:-1", "host:65536", "host:٣", "::1:80", "[]:80", "host: 80"]
)
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an address: write host:port"):
        split_address(address)
