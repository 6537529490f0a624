"""The journal's bytes: what is written is read, what was written before is read too, and damage is named."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.durable.journal import (
    LARGE,
    Entry,
    Event,
    ForeignWrite,
    Gate,
    Kind,
    blob_digest,
    decode_entry,
    encode_entry,
    referred,
)
from perdure.errors import Quarantined

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
events = st.lists(st.builds(Event, call=st.text(), fingerprint=st.binary(max_size=8), result=plain), max_size=4)
entries = st.builds(
    Entry,
    sequence=st.integers(1, 2**60),
    component=st.text(),
    function=st.text(),
    arguments=st.binary(),
    key=st.none() | st.text(),
    start=st.none() | events,
    events=events,
    foreign=st.just({}),
    time_ms=st.integers(0, 2**50),
    kind=st.sampled_from(Kind),
    part=st.integers(0, 5),
    guest_us=st.integers(0, 2**40),
    gate=st.none() | st.builds(Gate, call=st.text(), fingerprint=st.binary(max_size=8), provider=st.text()),
    reason=st.text(),
    state=st.none() | st.binary(),
)


def entry(**changes: object) -> Entry:
    fields: dict[str, object] = {
        "sequence": 7,
        "component": "sha256:aa",
        "function": "a:b/c.d",
        "arguments": b"[1]",
        "key": "k",
        "start": None,
        "events": [],
        "foreign": {},
        "time_ms": 5,
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


@given(entries)
def test_what_is_written_is_read(written: Entry) -> None:
    data, blobs = encode_entry(written)
    assert blobs == {}
    assert decode_entry(data, written.sequence) == written


def test_format_1_is_read() -> None:
    """As the first version wrote it: nine fields, and a foreign write of six."""
    fields = [
        7,
        "sha256:aa",
        "a:b/c.d",
        b"[1]",
        None,
        [["random.get-random-bytes", b"12345678", b"\x01"]],
        [["keyvalue.get", b"abcdefgh", [b"v", None]]],
        {"shared": [["Worker", "far", None, "k", b"v", None]]},
        5,
    ]
    payload = msgspec.msgpack.encode(fields)
    data = struct.pack("<2sBI", b"PJ", 1, zlib.crc32(payload)) + payload
    assert decode_entry(data, 7) == entry(
        key=None,
        start=[Event("random.get-random-bytes", b"12345678", b"\x01")],
        events=[Event("keyvalue.get", b"abcdefgh", [b"v", None])],
        foreign={"shared": [ForeignWrite("Worker", "far", None, "k", b"v", None)]},
    )


def test_large_payloads_are_kept_once_beside_it() -> None:
    large, larger = b"x" * (LARGE + 1), b"y" * (LARGE * 3)
    written = entry(
        arguments=larger,
        events=[Event("keyvalue.get", b"12345678", [large, b"small", {"again": large}])],
        foreign={"p": [ForeignWrite("Worker", "b", None, "k", larger, None)]},
    )
    data, blobs = encode_entry(written)
    assert sorted(blobs) == sorted([blob_digest(large), blob_digest(larger)])
    assert len(data) < 1000
    assert decode_entry(data, 7, blobs) == written
    assert set(referred(data, 7)) == set(blobs)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_payload_that_is_not_there_is_named(damage: str) -> None:
    data, blobs = encode_entry(entry(arguments=b"x" * (LARGE + 1)))
    digest = next(iter(blobs))
    found = {} if damage == "missing" else {digest: b"other"}
    with pytest.raises(Quarantined, match=f"entry 7 refers to a payload that is {damage} \\({digest.hex()[:16]}"):
        decode_entry(data, 7, found)


@given(entries, st.data())
def test_a_changed_bit_is_noticed(written: Entry, data: st.DataObject) -> None:
    encoded, _ = encode_entry(written)
    at = data.draw(st.integers(0, len(encoded) * 8 - 1))
    changed = bytearray(encoded)
    changed[at // 8] ^= 1 << at % 8
    # The version's bit for references may change unnoticed where there are none: what is read is the same.
    try:
        assert decode_entry(bytes(changed), written.sequence) == written
    except Quarantined as error:
        assert f"entry {written.sequence}" in error.detail


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not an entry"),
        (b"garbage-garbage", "is not an entry"),
        (b"PJ\x09\0\0\0\0", "has format 9; this host reads formats up to 2"),
        (b"PJ\x02\0\0\0\0\x90", "checksum"),
    ],
)
def test_what_is_no_entry_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(Quarantined, match=words):
        decode_entry(data, 7)


def test_an_entry_in_the_wrong_place_is_named() -> None:
    data, _ = encode_entry(entry())
    with pytest.raises(Quarantined, match="entry 8 carries sequence 7"):
        decode_entry(data, 8)


def test_a_newer_format_is_no_verdict_for_good() -> None:
    with pytest.raises(Quarantined) as caught:
        decode_entry(b"PJ\x09\0\0\0\0", 7)
    assert not caught.value.lasting
