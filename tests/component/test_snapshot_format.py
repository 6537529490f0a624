"""A damaged, foreign or misplaced snapshot is refused by name, and never more than that."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.component.instance import Instance, InstanceLimits
from perdure.component.snapshot import Snapshot, Snapshots, open_envelope
from perdure.errors import SnapshotError
from support.small_components import Small, component, small

COUNTER = """(module (memory 1 8) (data (i32.const 100) "text") (global $g (mut i64) (i64.const 5))
  (func (export "step") (result i64) (global.set $g (i64.add (global.get $g) (i64.const 1)))
    (i64.store (i32.const 8192) (global.get $g)) (i32.store8 (i32.const 101) (i32.const 0)) (global.get $g))
  (func (export "grow") (result i32) (memory.grow (i32.const 1))))"""
OTHER = COUNTER.replace("i64.const 5", "i64.const 6")

HEADER = struct.Struct("<8sII32s32s32s32sQ")
FIELDS = ("magic", "version", "kind", "component", "layout", "initial", "parent", "size")


@dataclass
class Case:
    guest: Small
    snapshots: Snapshots
    instance: Instance
    full: Snapshot
    delta: Snapshot


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    async with small(component(COUNTER)) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        await guest.call(instance, "step")
        full = snapshots.capture(instance)
        await guest.call(instance, "step")
        await guest.call(instance, "grow")
        yield Case(guest, snapshots, instance, full, snapshots.capture(instance, parent=full))


def sealed(data: bytes) -> bytes:
    """With a checksum that is right."""
    return data + hashlib.sha256(data).digest()


def altered(data: bytes, **fields: object) -> bytes:
    """Another header over the same content, with a checksum that is right."""
    values = dict(zip(FIELDS, HEADER.unpack_from(data), strict=True)) | fields
    return sealed(HEADER.pack(*values.values()) + data[HEADER.size : -32])


def content_of(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data[HEADER.size : -32])


def with_content(data: bytes, content: bytes) -> bytes:
    values = dict(zip(FIELDS, HEADER.unpack_from(data), strict=True)) | {"size": len(content)}
    return sealed(HEADER.pack(*values.values()) + zstandard.ZstdCompressor().compress(content))


def reason(snapshots: Snapshots, *chain: bytes) -> str:
    with pytest.raises(SnapshotError) as refused:
        snapshots.read(chain)
    assert refused.value.detail and refused.value.code == "snapshot-unusable"
    return refused.value.reason


async def test_the_chain_as_it_was_made_is_restored(case: Case) -> None:
    restored, _ = await case.snapshots.restore([case.full.data, case.delta.data], None)
    assert await case.guest.call(restored, "step") == 8 == await case.guest.call(case.instance, "step")
    header = open_envelope(case.delta.data).header
    assert (
        header.parent == case.full.checksum and "sha256:" + header.component.hex() == case.guest.bound.component.digest
    )
    assert open_envelope(case.full.data).header.parent is None


async def test_every_flipped_byte_is_noticed(case: Case) -> None:
    for data in (case.full.data, case.delta.data):
        for at in range(len(data)):
            for bit in (1, 0x80):
                damaged = bytearray(data)
                damaged[at] ^= bit
                chain = [bytes(damaged)] if data is case.full.data else [case.full.data, bytes(damaged)]
                wanted = {"not-a-snapshot"} if at < 8 else {"format-version"} if at < 12 else {"checksum"}
                assert reason(case.snapshots, *chain) in wanted


async def test_every_truncation_is_noticed(case: Case) -> None:
    data = case.full.data
    for length in range(len(data)):
        assert reason(case.snapshots, data[:length]) == ("truncated" if length < HEADER.size + 32 else "checksum")
    assert reason(case.snapshots, data + b"\0") == "checksum"
    assert reason(case.snapshots) == "truncated"
    assert reason(case.snapshots, b"something else, and long enough to have a header" * 9) == "not-a-snapshot"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"version": 0}, "format-version"),
        ({"version": 2}, "format-version"),
        ({"kind": 2}, "malformed"),
        ({"component": bytes(32)}, "component"),
        ({"layout": bytes(32)}, "layout"),
        ({"initial": bytes(32)}, "initial-image"),
        ({"kind": 1, "parent": bytes(31) + b"\1"}, "parent"),
        ({"parent": bytes(31) + b"\1"}, "malformed"),
        ({"size": 0}, "malformed"),
        ({"size": 1 << 20}, "malformed"),
        ({"size": 1 << 63}, "limit"),
    ],
)
async def test_each_field_of_the_header_is_checked(case: Case, fields: dict[str, object], wanted: str) -> None:
    assert reason(case.snapshots, altered(case.full.data, **fields)) == wanted


async def test_a_snapshot_of_another_component_is_refused(case: Case) -> None:
    async with small(component(OTHER)) as other:
        assert reason(await other.snapshots(), case.full.data) == "component"
        with pytest.raises(SnapshotError):
            await (await other.snapshots()).restore([case.full.data], None)


async def test_the_order_of_a_chain_is_checked(case: Case) -> None:
    await case.guest.call(case.instance, "step")
    third = case.snapshots.capture(case.instance, parent=case.delta)
    full, delta = case.full.data, case.delta.data
    assert case.snapshots.read([full, delta, third.data]).checksum == third.checksum
    for chain in ([delta], [full, third.data], [full, full], [full, delta, delta], [full, delta, third.data, full]):
        assert reason(case.snapshots, *chain) == "parent"
    copy = altered(full)
    assert copy == full
    async with small(component(COUNTER)) as again:
        instance = await again.instance()
        snapshots = await again.snapshots()
        foreign = snapshots.capture(instance)
        assert reason(snapshots, foreign.data, delta) == "parent"
        assert snapshots.read([full, delta]).checksum == case.delta.checksum, "another engine reads it all the same"


async def test_content_that_was_never_written_is_refused(case: Case) -> None:
    content = content_of(case.full.data)
    size, count, first, second = struct.unpack_from("<QIII", content)
    assert (size, count, first, second) == (1 << 16, 2, 0, 2)
    pages = content[20:]

    def head(*values: int) -> bytes:
        return struct.pack("<QIII", *values) + pages

    for wrong in (
        content[:-1],
        content + b"\0",
        b"",
        head(size, 2, 2, 0),
        head(size, 2, 0, 0),
        head(size, 2, 0, 16),
        head(size, 0xFFFFFFFF, 0, 2),
        head(size // 2, 2, 0, 2),
        head(size + 1, 2, 0, 2),
        head(0, 2, 0, 2),
    ):
        assert reason(case.snapshots, with_content(case.full.data, wrong)) == "malformed"
    grown = with_content(case.full.data, head(9 << 16, 2, 0, 2))
    case.snapshots.read([grown])
    with pytest.raises(SnapshotError) as refused:
        await case.snapshots.restore([grown], None)
    assert refused.value.reason == "limit", "the memory's own maximum is 8 pages"
    odd = with_content(case.full.data, head((1 << 16) + 4096, 2, 0, 2))
    with pytest.raises(SnapshotError) as refused:
        await case.snapshots.restore([odd], None)
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize(
    "table",
    [
        struct.pack("<III", 0, 0, 0),
        struct.pack("<III", (1 << 20) + 1, 0, 0),
        struct.pack("<III", 2, 0, 0),
        struct.pack("<III", 1, 1, 0),
        struct.pack("<IIII", 2, 1, 2, 0),
        struct.pack("<IIIII", 3, 2, 1, 1, 0),
        struct.pack("<III", 2, 0, 0xFFFFFFFF),
        struct.pack("<IIIIIBI", 2, 0, 1, 1, 0, 0, 5),
        struct.pack("<IIIIIBI", 2, 0, 1, 1, 9, 1, 5),
    ],
)
async def test_handle_tables_that_cannot_be_are_refused(case: Case, table: bytes) -> None:
    content = content_of(case.full.data)
    assert content[-12:] == struct.pack("<III", 1, 0, 0)
    assert reason(case.snapshots, with_content(case.full.data, content[:-12] + table)) == "malformed"


async def test_a_content_that_unpacks_to_more_than_the_limits_allow_is_not_unpacked(case: Case) -> None:
    bomb = with_content(case.full.data, bytes(200 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(SnapshotError) as refused:
        await case.snapshots.restore([bomb], None, limits=InstanceLimits(memory=1 << 20))
    assert refused.value.reason == "limit"
    values = dict(zip(FIELDS, HEADER.unpack_from(bomb), strict=True)) | {"size": 100}
    lying = sealed(HEADER.pack(*values.values()) + bomb[HEADER.size : -32])
    assert reason(case.snapshots, lying) == "malformed"


async def test_any_content_is_restored_or_refused_and_the_host_goes_on(case: Case) -> None:
    """Damage below the checksum, as a defect or an enemy would do it."""
    content = content_of(case.full.data)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def damage(data: st.DataObject) -> None:
        mutated = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            place = (
                st.integers(0, 24) | st.integers(len(content) - 40, len(content) - 1) | st.integers(0, len(content) - 1)
            )
            mutated[data.draw(place)] = data.draw(st.integers(0, 255))
        cut = bytes(mutated[: data.draw(st.just(len(mutated)) | st.integers(0, len(mutated)))])
        try:
            case.snapshots.read([with_content(case.full.data, cut)])
        except SnapshotError as error:
            assert error.reason in ("malformed", "limit")

    damage()
    restored, _ = await case.snapshots.restore([case.full.data], None)
    assert await case.guest.call(restored, "step") == 7
