"""Looking into what is stored of an instance: records in readable form, and what is wrong with them. Pure.

Nothing here trusts a record: one that is damaged is described as such, and those around it all the same.
"""

from __future__ import annotations

import datetime
import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from perdure.durable.calls import decode_halt
from perdure.durable.effects import Conflict, Counted, Outcome, Refused, Swapped, decode_outcomes
from perdure.durable.gaps import BEGINNINGS, broken_row, lost_beginning
from perdure.durable.journal import (
    Entry,
    Event,
    ForeignWrite,
    Kind,
    blob_digest,
    carried_sequence,
    decode_entry,
    referred,
)
from perdure.durable.records import InstanceData, JournalRecord
from perdure.errors import InternalError, Quarantined

Readable: TypeAlias = dict[str, object]
PartsCheck: TypeAlias = Callable[[Sequence[bytes]], str | None]
"""What is wrong with a snapshot's parts, oldest first, in words; None: nothing."""
_TEXT = 256
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `sequence`: of the journal entry it concerns, None: of none in particular.

    `code`: a stable kind: `entry`, `outcomes`, `order`, `component`, `blob`, `gap`, `open`, `unapplied`, `snapshot`,
    `halt`, `inbox` (a waiting call), `due` (the index of who has something to do), `record` (nothing of the instance
    can be read).
    """

    sequence: int | None
    code: str
    detail: str


def describe_record(sequence: int, record: JournalRecord, blobs: Mapping[bytes, bytes]) -> Readable:
    """A record as JSON values: what was called with what, what it read, what it did elsewhere, how long and large.

    `blobs`: the payloads it refers to. A record that cannot be read has a `problem` in words instead.
    """
    described: Readable = {"sequence": sequence, "bytes": len(record.entry) + len(record.outcomes)}
    entry, problem = _decoded(sequence, record, blobs)
    if entry is None:
        return {**described, "problem": problem}
    described |= {"kind": entry.kind.value, "time": timestamp(entry.time_ms), "component": entry.component}
    if entry.function:
        described |= {"function": entry.function, "key": entry.key, "part": entry.part}
        if entry.part == 0:
            described["arguments"] = text_or_digest(entry.arguments)
    described["events"] = _events(entry.events)
    if entry.start is not None:
        described["start"] = _events(entry.start)
    if entry.gate is not None:
        described["gate"] = {"call": entry.gate.call, "provider": entry.gate.provider}
    outcomes, problem = _outcomes(record)
    if problem is not None:
        described["problem"] = problem
    elif outcomes:
        described["outcomes"] = [_outcome(found) for found in outcomes]
    if entry.foreign:
        described["foreign"] = [_effect(name, write) for name, found in entry.foreign.items() for write in found]
    if entry.reason:
        described["reason"] = entry.reason
    if entry.state is not None:
        described["stateBytes"] = len(entry.state)
    large = sum(len(blobs.get(digest, b"")) for digest in referred(record.entry, sequence))
    if large:
        described["payloadBytes"] = large
    described["guestMicroseconds"] = entry.guest_us
    return described


def check(data: InstanceData, parts: PartsCheck | None = None) -> list[Finding]:
    """Everything that is wrong with an instance, by sequence, what concerns no entry last. `parts` checks a snapshot's
    own bytes."""
    found = [*_journal(data), *_blobs(data), *_whole(data, parts)]
    return sorted(found, key=lambda finding: (finding.sequence is None, finding.sequence or 0))


def _journal(data: InstanceData) -> Iterator[Finding]:
    if (broken := broken_row(data)) is not None:
        yield Finding(broken[0], "gap", broken[1])
    order = _Order(data.snapshot is not None)
    for sequence, record in enumerate(data.journal, start=data.first):
        entry, problem = _decoded(sequence, record, data.blobs)
        misplaced = carried_sequence(record.entry) not in (None, sequence)
        if problem is not None and not misplaced and not _is_blob_problem(sequence, record, data.blobs):
            yield Finding(sequence, "entry", problem)
        _, problem = _outcomes(record)
        if problem is not None:
            yield Finding(sequence, "outcomes", f"the outcomes of entry {sequence} cannot be read: {problem}")
        if entry is not None and sequence in data.unapplied and not entry.foreign:
            yield Finding(
                sequence, "unapplied", f"entry {sequence} is to be applied elsewhere, but has no such effects"
            )
        yield from order.step(sequence, entry)
    if data.journal and order.parts is not None and data.open != (order.parts > 0):
        state = "an invocation that goes on" if order.parts else "a finished invocation"
        yield Finding(
            data.sequence, "open", f"entry {data.sequence} is the last and of {state}, the instance says otherwise"
        )


class _Order:
    """Whether kinds and parts follow one another as they must. After an unreadable entry anything may follow."""

    def __init__(self, snapshot: bool) -> None:
        self.parts: int | None = 0
        self._component: str | None = None
        self._first = True
        self._snapshot = snapshot

    def step(self, sequence: int, entry: Entry | None) -> Iterator[Finding]:
        if entry is None:
            self.parts, self._component, self._first = None, None, False
            return
        if entry.kind in BEGINNINGS and (not self._first or self._snapshot):
            yield Finding(sequence, "order", f"entry {sequence} begins the instance anew, but something precedes it")
        if self._component not in (None, entry.component):
            yield Finding(
                sequence,
                "component",
                f"entry {sequence} runs on {entry.component}, the one before on {self._component}",
            )
        yield from self._part(sequence, entry)
        self.parts = entry.part + 1 if entry.kind is Kind.PART else 0
        self._component, self._first = entry.component, False

    def _part(self, sequence: int, entry: Entry) -> Iterator[Finding]:
        if self.parts is None:
            return
        if entry.part != self.parts:
            before = f"{self.parts} entries of its invocation precede it" if self.parts else "it begins an invocation"
            yield Finding(sequence, "order", f"entry {sequence} is part {entry.part}, but {before}")


def _blobs(data: InstanceData) -> Iterator[Finding]:
    damaged = {digest for digest, found in data.blobs.items() if blob_digest(found) != digest}
    named: set[bytes] = set()
    for sequence, record in enumerate(data.journal, start=data.first):
        for digest in _referred(sequence, record):
            named.add(digest)
            if digest in damaged or digest not in data.blobs:
                what = "damaged" if digest in damaged else "missing"
                yield Finding(
                    sequence, "blob", f"entry {sequence} refers to payload {digest.hex()[:16]}…: it is {what}"
                )
    for digest in damaged - named:
        yield Finding(None, "blob", f"the payload {digest.hex()[:16]}… is damaged; no entry refers to it")


def _whole(data: InstanceData, parts: PartsCheck | None) -> Iterator[Finding]:
    first, snapshot = data.first, data.snapshot
    earliest = _decoded(first, data.journal[0], data.blobs)[0] if data.journal else None
    if (lost := lost_beginning(data, earliest)) is not None:
        yield Finding(None, "gap", lost)
    if data.open and not data.journal:
        yield Finding(None, "open", "the instance says that an invocation goes on, but its journal is empty")
    for sequence in data.unapplied:
        if not first <= sequence <= data.sequence:
            where = "beyond the last" if sequence > data.sequence else "not in the journal any more"
            yield Finding(None, "unapplied", f"sequence {sequence} is to be applied elsewhere, but is {where}")
    if snapshot is not None and not snapshot.parts:
        yield Finding(None, "snapshot", f"the snapshot of sequence {snapshot.sequence} has no parts")
    elif snapshot is not None and parts is not None and (problem := parts(snapshot.parts)) is not None:
        yield Finding(None, "snapshot", f"the snapshot of sequence {snapshot.sequence}: {problem}")
    if data.halt is not None:
        try:
            decode_halt(data.halt)
        except InternalError as error:
            yield Finding(None, "halt", error.detail)


def _decoded(
    sequence: int, record: JournalRecord, blobs: Mapping[bytes, bytes]
) -> tuple[Entry, None] | tuple[None, str]:
    try:
        return decode_entry(record.entry, sequence, blobs), None
    except Quarantined as error:
        return None, error.detail
    except (RecursionError, ValueError) as error:
        return None, f"journal entry {sequence} cannot be decoded: {error}"


def _is_blob_problem(sequence: int, record: JournalRecord, blobs: Mapping[bytes, bytes]) -> bool:
    """Whether it is the payloads' fault, which is a finding of its own."""
    named = _referred(sequence, record)
    return any(digest not in blobs or blob_digest(blobs[digest]) != digest for digest in named)


def _referred(sequence: int, record: JournalRecord) -> list[bytes]:
    try:
        return referred(record.entry, sequence)
    except (Quarantined, RecursionError, ValueError):
        return []


def _outcomes(record: JournalRecord) -> tuple[list[Outcome], None] | tuple[None, str]:
    try:
        return decode_outcomes(record.outcomes), None
    except InternalError as error:
        return None, error.detail
    except (struct.error, ValueError) as error:
        return None, f"the outcomes are damaged: {error}"


def _outcome(found: Outcome) -> str:
    match found:
        case Counted(value):
            return f"counted {value}"
        case Swapped():
            return "swapped"
        case Conflict(current):
            return "conflict: nothing was there" if current is None else f"conflict: {len(current)} bytes were there"
        case Refused(reason):
            return f"refused: {reason}"


def _effect(provider: str, write: ForeignWrite) -> Readable:
    if write.items is not None:
        return {
            "effect": "fill",
            "provider": provider,
            "bucket": write.bucket,
            "keys": [key for key, _ in write.items[:_LISTED]],
            "bytes": sum(len(value) for _, value in write.items),
        }
    if write.swaps:
        what = "swap"
    elif write.delta is not None:
        what = "increment"
    else:
        what = "delete" if write.value is None else "set"
    described: Readable = {"effect": what, "provider": provider, "bucket": write.bucket, "key": write.key}
    if write.delta is not None:
        described["delta"] = write.delta
    if write.value is not None:
        described["bytes"] = len(write.value)
    return described


def _events(events: Sequence[Event]) -> Readable:
    """The first ones by name and size of what they gave, and how many there are."""
    listed = [{"call": event.call, "bytes": len(msgspec.msgpack.encode(event.result))} for event in events[:_LISTED]]
    return {"count": len(events), "first": listed}


def text_or_digest(data: bytes) -> object:
    """Small data as text, large as size and digest."""
    if len(data) <= _TEXT:
        return data.decode("utf-8", "replace")
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def timestamp(ms: int) -> str:
    """Wall-clock milliseconds as RFC 3339 in UTC; what no calendar has stays a number."""
    try:
        moment = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return str(ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
