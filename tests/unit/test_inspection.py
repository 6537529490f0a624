"""Records in readable form, and fsck: each kind of damage is found, named, and nothing sound is called damaged."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from perdure.durable.calls import Halt, HaltState, encode
from perdure.durable.effects import Conflict, Counted, Refused, Swapped, encode_outcomes
from perdure.durable.inspection import Finding, check, describe_record, timestamp
from perdure.durable.journal import Entry, Event, ForeignWrite, Gate, Kind, encode_entry
from perdure.durable.records import InstanceData, JournalRecord, SnapshotChain

DIGEST = "sha256:" + "a" * 64
LARGE = b"x" * 100_000
PART = {"kind": Kind.PART, "gate": Gate("keyvalue.increment", b"f" * 8, "main")}


def entry(sequence: int, **changes: object) -> Entry:
    given = {
        "sequence": sequence,
        "component": DIGEST,
        "function": "shop:cart/api.add",
        "arguments": b'["apple",2]',
        "key": f"k{sequence}",
        "start": [Event("random.bytes", b"s" * 8, b"1234")] if sequence == 1 else None,
        "events": [Event("keyvalue.get", b"e" * 8, b"value")],
        "foreign": {},
        "time_ms": 1_700_000_000_000,
        "guest_us": 42,
        **changes,
    }
    return Entry(**given)  # type: ignore[arg-type]


def instance(*entries: Entry, snapshot: int | None = None, **changes: object) -> InstanceData:
    blobs: dict[bytes, bytes] = {}
    journal = []
    for one in entries:
        data, found = encode_entry(one)
        blobs |= found
        journal.append(JournalRecord(data))
    given = {
        "life": "life",
        "sequence": entries[-1].sequence if entries else 0,
        "snapshot": None if snapshot is None else SnapshotChain(snapshot, [b"part"]),
        "journal": journal,
        "blobs": blobs,
        "unapplied": [],
        "open": bool(entries) and entries[-1].kind is Kind.PART,
        "halt": None,
        **changes,
    }
    return InstanceData(**given)  # type: ignore[arg-type]


FOREIGN = {"other": [ForeignWrite("Worker", "b", None, "k", b"value", None)]}
SOUND = {
    "nothing yet": instance(),
    "calls": instance(entry(1), entry(2), entry(3)),
    "after a snapshot": instance(entry(8), entry(9), snapshot=7),
    "right after a snapshot": replace(instance(sequence=7), snapshot=SnapshotChain(7, [b"part"])),
    "parts": instance(entry(1, **PART), entry(2, **PART, part=1), entry(3, part=2), entry(4)),
    "a call that goes on": instance(entry(1), entry(2, **PART)),
    "an abandoned call": instance(entry(1, **PART), entry(2, kind=Kind.ABANDONED, part=1, reason="trap"), entry(3)),
    "a skipped call of which nothing was durable": instance(entry(1), entry(2, kind=Kind.ABANDONED, reason="skipped")),
    "begun anew": instance(entry(5, kind=Kind.FRESH, function="", reason="reset"), entry(6)),
    "migrated": instance(entry(5, kind=Kind.MIGRATED, function="", state=b"s"), entry(6)),
    "large payloads": instance(entry(1, arguments=LARGE), entry(2, events=[Event("keyvalue.get", b"e", LARGE)])),
    "foreign effects": instance(entry(1, foreign=FOREIGN), unapplied=[1]),
    "a new memory": instance(entry(7, start=[])),
    "halted": instance(entry(1), halt=encode(Halt(HaltState.QUARANTINED, "why", 1))),
}


@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND.keys())
def test_nothing_sound_is_called_damaged(data: InstanceData) -> None:
    assert check(data, lambda parts: None) == []


def damaged(data: InstanceData, sequence: int, change: Callable[[bytes], bytes]) -> InstanceData:
    journal = list(data.journal)
    at = sequence - data.first
    journal[at] = replace(journal[at], entry=change(journal[at].entry))
    return replace(data, journal=journal)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


CALLS = SOUND["calls"]
WITH_BLOB = SOUND["large payloads"]
BLOB = next(iter(WITH_BLOB.blobs))
BAD: dict[str, tuple[InstanceData, int | None, str, str]] = {
    "a flipped bit": (damaged(CALLS, 2, flipped), 2, "entry", "entry 2 is damaged"),
    "a cut entry": (damaged(CALLS, 3, lambda data: data[:4]), 3, "entry", "not an entry"),
    "a future format": (damaged(CALLS, 1, lambda data: data[:2] + b"\x63" + data[3:]), 1, "entry", "format 99"),
    "another sequence": (instance(entry(1), entry(3), sequence=2), 2, "gap", "entry 1 is followed by entry 3"),
    "one that is gone": (instance(entry(1), entry(2), entry(4), entry(5)), 3, "gap", "entry 3 is missing"),
    "some that are gone": (
        instance(entry(8), entry(11), snapshot=7), 9, "gap", "entries 9 to 10 are missing: entry 8 is followed by",
    ),
    "the first behind a snapshot": (
        instance(entry(9), entry(11), snapshot=7), 8, "gap", "entry 8 is missing: entry 7 is followed by entry 9",
    ),
    "the last": (instance(entry(1), entry(2), sequence=3), 3, "gap", "entry 3 is missing: 3 commits are counted"),
    "two that are swapped": (
        instance(entry(1), entry(3), entry(2), entry(4)), 2, "gap", "entry 2 is not where it belongs",
    ),
    "one twice": (
        instance(entry(1), entry(1), entry(2), sequence=3), 2, "gap", "entry 2 is not where it belongs",
    ),
    "outcomes": (
        replace(CALLS, journal=[*CALLS.journal[:2], replace(CALLS.journal[2], outcomes=b"i\0\0")]),
        3, "outcomes", "entry 3",
    ),
    "outcomes of no kind": (
        replace(CALLS, journal=[replace(CALLS.journal[0], outcomes=b"?\0\0\0\0"), *CALLS.journal[1:]]),
        1, "outcomes", "entry 1",
    ),
    "a part without its invocation": (instance(entry(1), entry(2, part=1)), 2, "order", "entry 2 is part 1"),
    "a call within another": (instance(entry(1, **PART), entry(2)), 2, "order", "1 entries of its invocation"),
    "a part twice": (instance(entry(1, **PART), entry(2, **PART)), 2, "order", "entry 2 is part 0"),
    "begun anew in the middle": (instance(entry(1), entry(2, kind=Kind.FRESH, function="")), 2, "order", "anew"),
    "begun anew after a snapshot": (instance(entry(8, kind=Kind.FRESH, function=""), snapshot=7), 8, "order", "anew"),
    "another component": (instance(entry(1), entry(2, component="sha256:b")), 2, "component", "sha256:b"),
    "a missing payload": (replace(WITH_BLOB, blobs={}), 1, "blob", "missing"),
    "a damaged payload": (replace(WITH_BLOB, blobs={BLOB: b"y"}), 1, "blob", "damaged"),
    "a damaged payload of nobody": (replace(CALLS, blobs={b"d" * 32: b"y"}), None, "blob", "no entry"),
    "open, but ended": (replace(CALLS, open=True), 3, "open", "entry 3 is the last"),
    "open, but nothing there": (
        replace(instance(sequence=7), open=True, snapshot=SnapshotChain(7, [b"part"])), None, "open", "empty",
    ),
    "ended, but open": (replace(SOUND["a call that goes on"], open=False), 2, "open", "goes on"),
    "trimmed without a snapshot": (instance(entry(3), entry(4)), None, "gap", "entries 1 to 2 are missing"),
    "one trimmed without a snapshot": (instance(entry(2)), None, "gap", "entry 1 is missing"),
    "a gap after the snapshot": (instance(entry(8), snapshot=5), None, "gap", "begins at 8"),
    "a snapshot within the journal": (instance(entry(7), entry(8), snapshot=7), None, "gap", "sequence 7"),
    "more entries than commits": (replace(CALLS, sequence=2), None, "gap", "3 entries"),
    "commits without entries": (instance(sequence=4), None, "gap", "1 to 4"),
    "to be applied beyond the last": (replace(CALLS, unapplied=[9]), None, "unapplied", "beyond the last"),
    "to be applied and trimmed": (instance(entry(8), snapshot=7, unapplied=[3]), None, "unapplied", "any more"),
    "nothing to be applied": (replace(CALLS, unapplied=[2]), 2, "unapplied", "entry 2"),
    "a snapshot without parts": (
        replace(instance(entry(8)), snapshot=SnapshotChain(7, [])), None, "snapshot", "no parts",
    ),
    "a halt": (replace(CALLS, halt=b"?"), None, "halt", "Halt"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "sequence", "code", "said"), BAD.values(), ids=BAD.keys())
def test_damage_is_found_and_named(data: InstanceData, sequence: int | None, code: str, said: str) -> None:
    found = check(data)
    assert [(one.sequence, one.code) for one in found if one.code == code][:1] == [(sequence, code)], found
    assert said in " ".join(one.detail for one in found if one.code == code)


def test_the_first_bad_entry_comes_first() -> None:
    data = replace(damaged(damaged(CALLS, 3, flipped), 2, flipped), unapplied=[99])
    assert [finding.sequence for finding in check(data)] == [2, 3, None]


def test_after_an_unreadable_entry_its_followers_are_judged_by_themselves() -> None:
    parts = SOUND["parts"]
    assert [one.sequence for one in check(damaged(parts, 2, flipped))] == [2]


def test_a_snapshot_is_checked_by_whom_it_concerns() -> None:
    data = SOUND["after a snapshot"]
    assert check(data, lambda parts: f"{len(parts)} parts are bad") == [
        Finding(None, "snapshot", "the snapshot of sequence 7: 1 parts are bad")
    ]


def test_no_bytes_at_all_make_it_fail() -> None:
    """Whatever lies in a store: findings and descriptions, never an exception."""
    seeded = random.Random(7)
    whole = encode_entry(entry(1, foreign=FOREIGN))[0]
    for _ in range(3000):
        data = bytearray(whole if seeded.random() < 0.8 else seeded.randbytes(60))
        for _ in range(seeded.randint(1, 4)):
            data[seeded.randrange(len(data))] = seeded.randrange(256)
        if seeded.random() < 0.7:
            data[3:7] = zlib.crc32(bytes(data[7:])).to_bytes(4, "little")
        record = JournalRecord(bytes(data), seeded.randbytes(seeded.randint(0, 9)))
        json.dumps(describe_record(1, record, {}))
        check(replace(instance(entry(1)), journal=[record]))


def test_a_record_in_readable_form() -> None:
    outcomes = encode_outcomes([Counted(5), Swapped(), Conflict(None), Conflict(b"ab"), Refused("overflow")])
    data, _ = encode_entry(entry(1, foreign={**FOREIGN, "third": [
        ForeignWrite("Worker", "b", None, "gone", None, None),
        ForeignWrite("Worker", "b", None, "n", None, None, delta=3),
        ForeignWrite("Worker", "b", None, "s", b"new", None, swaps=True),
    ]}, gate=Gate("keyvalue.swap", b"f", "main")))  # fmt: skip
    assert describe_record(1, JournalRecord(data, outcomes), {}) == {
        "sequence": 1,
        "bytes": len(data) + len(outcomes),
        "kind": "call",
        "time": "2023-11-14T22:13:20.000Z",
        "component": DIGEST,
        "function": "shop:cart/api.add",
        "key": "k1",
        "part": 0,
        "arguments": '["apple",2]',
        "events": {"count": 1, "first": [{"call": "keyvalue.get", "bytes": 7}]},
        "start": {"count": 1, "first": [{"call": "random.bytes", "bytes": 6}]},
        "gate": {"call": "keyvalue.swap", "provider": "main"},
        "outcomes": ["counted 5", "swapped", "conflict: nothing was there", "conflict: 2 bytes were there",
                     "refused: overflow"],
        "foreign": [
            {"effect": "set", "provider": "other", "bucket": "b", "key": "k", "bytes": 5},
            {"effect": "delete", "provider": "third", "bucket": "b", "key": "gone"},
            {"effect": "increment", "provider": "third", "bucket": "b", "key": "n", "delta": 3},
            {"effect": "swap", "provider": "third", "bucket": "b", "key": "s", "bytes": 3},
        ],
        "guestMicroseconds": 42,
    }  # fmt: skip


def test_large_and_many_things_are_abridged() -> None:
    data, blobs = encode_entry(entry(1, arguments=LARGE, events=[Event("keyvalue.get", b"e", b"v")] * 250))
    found = describe_record(1, JournalRecord(data), blobs)
    assert found["arguments"] == {
        "bytes": 100_000,
        "sha256": msgspec.json.decode(json.dumps(found))["arguments"]["sha256"],
    }
    assert found["payloadBytes"] == 100_000
    events = found["events"]
    assert isinstance(events, dict) and events["count"] == 250 and len(events["first"]) == 100
    lost = describe_record(1, JournalRecord(data), {})
    assert "missing" in str(lost["problem"]) and lost["sequence"] == 1


def test_what_no_calendar_has_stays_a_number() -> None:
    assert timestamp(10**18) == str(10**18)
