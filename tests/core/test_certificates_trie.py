"""RLP, tries, headers: against what is known from elsewhere, and against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.certificates_block import header_bytes, read_header
from orchestrator.core.certificates_rlp import Malformed, decoded, encoded, quantity
from orchestrator.core.certificates_trie import EMPTY_ROOT, index_key, proof_of, proved, root_of
from orchestrator.core.hashing import keccak

FOLDER = Path(__file__).parent.parent / "vectors"
HEADERS = json.loads((FOLDER / "headers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("known", HEADERS, ids=lambda known: known["name"])
def test_headers_of_mainnet_hash_to_their_blocks(known: dict[str, object]) -> None:
    raw = header_bytes(known["header"])  # type: ignore[arg-type]
    assert "0x" + keccak(raw).hex() == known["hash"]
    header = known["header"]
    assert isinstance(header, dict)
    read = read_header(raw)
    assert "0x" + read.receipts_root.hex() == header["receiptsRoot"]
    assert "0x" + read.transactions_root.hex() == header["transactionsRoot"]
    assert (hex(read.number), hex(read.timestamp)) == (header["number"], header["timestamp"])


def test_a_header_with_a_hole_is_refused() -> None:
    header = dict(HEADERS[1]["header"])
    del header["withdrawalsRoot"]
    with pytest.raises(Malformed, match="no withdrawalsRoot"):
        header_bytes(header)


def test_known_roots() -> None:
    """The second from the tests of Ethereum itself (trieanyorder, dogs)."""
    assert EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    dogs = {b"doe": b"reindeer", b"dog": b"puppy", b"dogglesworth": b"cat"}
    known = "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3"
    assert root_of(dogs).hex() == known
    for key, value in dogs.items():
        assert proved(bytes.fromhex(known), key, proof_of(dogs, key)) == value


ITEMS = st.recursive(st.binary(max_size=70), lambda part: st.lists(part, max_size=5), max_leaves=20)


@given(ITEMS)
def test_rlp_is_what_the_library_makes(item: object) -> None:
    raw = encoded(item)  # type: ignore[arg-type]
    assert raw == rlp.encode(item)
    assert decoded(raw) == item


@given(st.binary(max_size=40))
def test_bytes_that_decode_are_the_one_encoding(raw: bytes) -> None:
    try:
        item = decoded(raw)
    except Malformed:
        return
    assert encoded(item) == raw


def test_deep_nesting_is_refused() -> None:
    item: list[object] = []
    for _ in range(40):
        item = [item]
    with pytest.raises(Malformed, match="too deep"):
        decoded(encoded(item))
    assert (quantity(0), quantity(256)) == (b"", b"\x01\x00")


@given(st.dictionaries(st.binary(max_size=4), st.binary(min_size=1, max_size=50), min_size=1))
def test_every_value_is_proved_and_no_other(values: dict[bytes, bytes]) -> None:
    root = root_of(values)
    for key, value in values.items():
        proof = proof_of(values, key)
        assert proved(root, key, proof) == value
        with pytest.raises(Malformed):
            proved(root, key, [*proof, b"\x80"])
        with pytest.raises(Malformed):
            proved(root, key, proof[:-1])
        for other in (key + b"\x00", key[:-1]):
            if other not in values:
                with pytest.raises(Malformed):
                    proved(root, other, proof)


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 300])
def test_blocks_of_any_size(count: int) -> None:
    """Index 0 is 0x80 and from 128 on keys have two bytes: other shapes of the trie."""
    values = {index_key(number): b"receipt %d" % number * 9 for number in range(count)}
    root = root_of(values)
    for number in {0, 1, count // 2, count - 1} & set(range(count)):
        key = index_key(number)
        assert proved(root, key, proof_of(values, key)) == values[key]
    with pytest.raises(KeyError):
        proof_of(values, index_key(count))
