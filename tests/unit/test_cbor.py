"""CBOR: as another implementation has it, and nothing of what a hostile body may try."""

from __future__ import annotations

import struct
import time
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.component.plan import ExportedFunc, HostImport
from perdure.component.types import FuncType, ListType, PrimType, ValueType
from perdure.component.wit_cbor import from_cbor, to_cbor
from perdure.component.wit_json import from_json, to_json
from perdure.component.wit_plain import Plain
from perdure.errors import BadRequest, TypeMismatch
from perdure.host.http.cbor import MAX_DEPTH, decode, encode
from perdure.host.http.media import Media
from perdure.host.http.requests import canonical_arguments
from support.json_values import types
from support.values import exact, values_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.floats() | st.binary(max_size=300) | TEXT,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(TEXT, inner, max_size=30),
    max_leaves=40,
)


def taking(t: ValueType) -> ExportedFunc:
    """A function of one parameter, `v`."""
    return ExportedFunc("", "f", HostImport("", "f", FuncType((("v", t),), None)))


@settings(deadline=None)
@given(PLAIN)
def test_another_implementation_says_the_same(value: Plain) -> None:
    ours = encode(value)
    assert exact(cbor2.loads(ours)) == exact(value) and exact(decode(ours)) == exact(value)
    for theirs in (
        cbor2.dumps(value),
        cbor2.dumps(value, canonical=True),
        cbor2.dumps(value, indefinite_containers=True),
    ):
        assert exact(decode(theirs)) == exact(value)


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=60) | PLAIN.map(lambda value: encode(value)[:-1]))
def test_what_is_read_is_read_alike_and_the_rest_is_refused(data: bytes) -> None:
    try:
        found = decode(data)
    except ValueError:
        return
    assert exact(found) == exact(cbor2.loads(data))


@settings(deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), values_of(t))))
def test_json_and_cbor_are_the_same_value(pair: tuple[ValueType, object]) -> None:
    t, value = pair
    by_cbor = from_cbor(t, decode(encode(to_cbor(t, value))), "v")
    assert exact(by_cbor) == exact(from_json(t, to_json(t, value), "v")) == exact(value)
    # And the same call, whichever an idempotency key comes with.
    func = taking(t)
    canonical = canonical_arguments(func, encode([to_cbor(t, value)]), Media.CBOR)
    assert canonical == canonical_arguments(func, canonical)
    assert canonical == canonical_arguments(func, encode({"v": to_cbor(t, value)}), Media.CBOR)


def head(major: int, number: int) -> bytes:
    return bytes([major << 5 | 27]) + struct.pack(">Q", number)


REFUSED = {
    "nothing": (b"", "ends"),
    "two items": (b"\x01\x02", "1 bytes follow"),
    "a cut number": (b"\x1b\x00", "claims 8 bytes"),
    "a head that is none": (b"\x1c", "not well formed"),
    "a byte string of 2^40": (head(2, 1 << 40) + b"x", "claims 1,099,511,627,776 bytes where 1"),
    "text of 2^40": (head(3, 1 << 40) + b"x", "claims 1,099,511,627,776 bytes"),
    "an array of 2^40": (head(4, 1 << 40) + b"\x00", "claims 1,099,511,627,776 items"),
    "a map of 2^63": (head(5, 1 << 63) + b"\x60\x00", "claims 9,223,372,036,854,775,808 items"),
    "claims in claims": (head(4, 60) * 1000, "nested deeper"),
    "deep arrays": (b"\x81" * 1_000_000 + b"\x00", f"nested deeper than {MAX_DEPTH}"),
    "deep maps": (b"\xa1\x60" * 1_000_000 + b"\x00", f"nested deeper than {MAX_DEPTH}"),
    "deep arrays without lengths": (b"\x9f" * 1_000_000, f"nested deeper than {MAX_DEPTH}"),
    "deep tags": (b"\xc1" * 1_000_000, "a tag"),
    "an array without an end": (b"\x9f\x01", "ends"),
    "a break alone": (b"\xff", "a break"),
    "a break for a value": (b"\xbf\x61a\xff", "a break"),
    "a chunk of another kind": (b"\x5f\x61a\xff", "another kind"),
    "chunks in chunks": (b"\x5f\x5f\x41a\xff\xff", "another kind"),
    "a character cut by chunks": (b"\x7f\x61\xc3\x61\xa9\xff", "not UTF-8"),
    "text that is none": (b"\x62\xff\xff", "not UTF-8"),
    "a surrogate": (b"\x63\xed\xa0\x80", "not UTF-8"),
    "undefined": (b"\xf7", "none of true"),
    "a simple value": (b"\xf8\xff", "none of true"),
    "a number as a key": (b"\xa1\x01\x02", "not text"),
    "an array as a key": (b"\xa1\x80\x02", "not text"),
    "a key twice": (b"\xa2\x61a\x01\x61a\x02", "twice"),
    "a key twice, in chunks": (b"\xbf\x61a\x01\x7f\x61a\xff\x02\xff", "twice"),
    **{
        f"tag {tag}": (cbor2.dumps([cbor2.CBORTag(tag, content)]), "a tag at byte 1")
        for tag, content in [
            (0, "2030-01-01T00:00:00Z"), (1, 0), (2, b"\x01" * 9), (3, b"\x01" * 9), (4, [1 << 60, 1]), (5, [1 << 60, 1]),
            (25, 0), (28, []), (29, 0), (30, [1, 3]), (35, "(a+)+$"), (36, "x"), (256, []), (258, [1]), (55799, 0),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_bodies_are_refused(name: str) -> None:
    data, said = REFUSED[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_shared_references_do_not_multiply() -> None:
    """Control: the other implementation makes a value of 10^9 items of 150 bytes; ours wants each one written."""
    value: object = ["x"]
    for _ in range(9):
        value = [value] * 10
    data = cbor2.dumps(value, value_sharing=True)
    assert len(data) < 400 and len(cbor2.loads(data)) == 10
    with pytest.raises(ValueError, match="a tag at byte 0"):
        decode(data)


def test_keys_that_fall_together() -> None:
    """Control: keys of one hash take the other implementation quadratic time; ours refuses the first one."""

    def body(bits: int) -> bytes:
        keys = (
            b"".join(b"\x20" if number >> bit & 1 else b"\x21" for bit in range(bits)) for number in range(1 << bits)
        )
        return b"\xb9" + struct.pack(">H", 1 << bits) + b"".join(bytes([0x80 | bits]) + key + b"\x00" for key in keys)

    assert len({hash(key) for key in cbor2.loads(body(8))}) < 256
    begun = time.process_time()
    with pytest.raises(ValueError, match="not text"):
        decode(body(15))
    assert time.process_time() - begun < 1


def test_misfits_name_their_path() -> None:
    blob, wide = ListType(PrimType("u8")), PrimType("u64")
    assert from_cbor(wide, decode(head(0, (1 << 64) - 1)), "v") == (1 << 64) - 1
    refused: list[tuple[ValueType, object, str]] = [
        (blob, "AAAA", "v must be a byte string"), (blob, [1, 256], r"v\[1\]"), (wide, -1, "v must be 0 to"),
        (wide, 1.0, "v must be an integer"), (PrimType("f64"), "NaN", "v must be a number"),
        (PrimType("f32"), 1e39, "fits f32"), (PrimType("string"), b"s", "not a byte string"),
        (PrimType("bool"), 1, "true or false"),
    ]  # fmt: skip
    for t, value, said in refused:
        with pytest.raises(TypeMismatch, match=said):
            from_cbor(t, value, "v")


def test_a_body_that_is_not_cbor_says_where() -> None:
    func = taking(PrimType("u8"))
    with pytest.raises(BadRequest, match="a tag at byte 1"):
        canonical_arguments(func, cbor2.dumps([cbor2.CBORTag(2, b"\x01")]), Media.CBOR)
    with pytest.raises(TypeMismatch, match="0 arguments were given"):
        canonical_arguments(func, b"", Media.CBOR)
