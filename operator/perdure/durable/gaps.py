"""What is missing of an instance's past: entries that are gone, or a beginning that nothing stands for. Pure."""

from __future__ import annotations

from perdure.durable.journal import Entry, Kind, carried_sequence
from perdure.durable.records import InstanceData

BEGINNINGS = (Kind.FRESH, Kind.MIGRATED)
"""Entries that need nothing before them."""


def lost_beginning(data: InstanceData, first: Entry | None) -> str | None:
    """What should come before the journal and does not, in words. `first`: its first entry, None: there is none, or it
    cannot be read, which is said elsewhere."""
    begin, snapshot = data.first, data.snapshot
    if begin < 1:
        return f"there are {len(data.journal)} entries, but {data.sequence} commits are counted"
    if snapshot is not None:
        if snapshot.sequence < 1:
            return "there is a snapshot, but not which commit it follows"
        if snapshot.sequence == begin - 1:
            return None
        return f"the snapshot is of sequence {snapshot.sequence}, but the journal begins at {begin}"
    if begin == 1 or (data.journal and (first is None or begins_anew(first))):
        return None
    return f"{_those(1, begin - 1)} missing: there is no snapshot that stands for what comes before {begin}"


def begins_anew(entry: Entry) -> bool:
    """Whether nothing before it is replayed. One with the events of an instantiation is the first of a new memory."""
    return entry.kind in BEGINNINGS or entry.start is not None


def broken_row(data: InstanceData) -> tuple[int, str] | None:
    """Where the journal's entries do not follow one another: the first sequence that is not there, and words.

    Stores count entries from the last one back, so one that is gone shifts all before it: what they carry tells which
    one it is.
    """
    carried = [carried_sequence(record.entry) for record in data.journal]
    if data.first < 1 or all(found in (None, at) for at, found in enumerate(carried, start=data.first)):
        return None
    if data.snapshot is not None:
        last = data.snapshot.sequence
    else:
        last = data.first - 1 if carried[0] is None else carried[0] - 1
    for found in carried:
        if found is not None and found != last + 1:
            gone = found > last + 1 and last + 1 not in carried
            words = f"{_those(last + 1, found - 1)} missing" if gone else f"entry {last + 1} is not where it belongs"
            return last + 1, f"{words}: entry {last} is followed by entry {found}"
        last += 1
    if last < data.sequence:
        return last + 1, f"{_those(last + 1, data.sequence)} missing: {data.sequence} commits are counted"
    return data.first, f"entry {data.first} is not where it belongs: the journal begins with entry {carried[0]}"


def _those(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
