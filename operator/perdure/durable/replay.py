"""What a journal says has to be run again: the invocations it holds, each with its recorded calls. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from perdure.component.plan import ExportedFunc
from perdure.component.wit_json import args_from_json
from perdure.durable.buckets import plain_outcome
from perdure.durable.effects import Outcome
from perdure.durable.gaps import BEGINNINGS
from perdure.durable.journal import Entry, Event, Kind
from perdure.errors import Quarantined


@dataclass(frozen=True, slots=True)
class Recorded:
    """One invocation of the journal. `gates`: positions among `events` before which a gate was passed; `parts`: its
    entries so far, without the one that ends it. `carried`: how many of the last events are in no entry yet."""

    sequence: int
    function: str
    arguments: bytes
    key: str | None
    events: list[Event]
    gates: frozenset[int]
    parts: int
    carried: int = 0
    callers: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return f"journal entry {self.sequence} ({self.function})"


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """`start`: the events of instantiation, None if there was none yet. `migrated`: the entry whose state the first
    guest was given. `unfinished`: the entries of an invocation that has not ended. `guest_us`: what all of it takes.
    """

    start: list[Event] | None
    migrated: Entry | None
    calls: list[Recorded]
    unfinished: list[Entry]
    guest_us: int


def plan_replay(entries: Sequence[Entry]) -> ReplayPlan:
    """Raises `Quarantined` for an order of entries that no host writes."""
    begin = max((at for at, entry in enumerate(entries) if entry.kind in BEGINNINGS), default=-1)
    migrated = entries[begin] if begin >= 0 and entries[begin].kind is Kind.MIGRATED else None
    start = next((entry.start for entry in entries[max(begin, 0) :] if entry.start is not None), None)
    calls: list[Recorded] = []
    group: list[Entry] = []
    for entry in entries[begin + 1 :]:
        if entry.part != len(group):
            raise Quarantined(
                f"journal entry {entry.sequence} is part {entry.part} of an invocation, and {len(group)} came before"
            )
        group.append(entry)
        if entry.kind is Kind.CALL:
            calls.append(recorded(group))
        if entry.kind is not Kind.PART:
            group = []
    return ReplayPlan(start, migrated, calls, group, sum(entry.guest_us for entry in entries))


def recorded(group: Sequence[Entry], outcome: Outcome | None = None) -> Recorded:
    """An invocation's entries as one. `outcome`: of the last part's gate, where it has one that no entry holds yet."""
    first, last = group[0], group[-1]
    events: list[Event] = []
    gates: set[int] = set()
    for entry in group:
        if entry is not first:
            gates.add(len(events))
        events += entry.events
    carried = 0
    if outcome is not None and last.gate is not None:
        carried = 1
        gates.add(len(events))
        events.append(Event(last.gate.call, last.gate.fingerprint, plain_outcome(last.gate.call, outcome)))
    parts = sum(1 for entry in group if entry.kind is Kind.PART)
    return Recorded(
        last.sequence,
        first.function,
        first.arguments,
        first.key,
        events,
        frozenset(gates),
        parts,
        carried,
        first.callers,
    )


def decode_arguments(func: ExportedFunc, arguments: bytes) -> list[object]:
    """The values of a canonical JSON array."""
    return args_from_json(func.type, msgspec.json.decode(arguments))


def component_of(entries: Sequence[Entry]) -> str | None:
    """The digest an instance's journal names last; None: it has no entries."""
    return entries[-1].component if entries else None


def require_component(entries: Sequence[Entry], digest: str) -> None:
    """An instance runs on the code its journal names. Raises `Quarantined` naming both digests."""
    for entry in entries:
        if entry.component != digest:
            raise Quarantined(
                f"journal entry {entry.sequence} was written by component {entry.component}, those after it by "
                f"{digest}: replay on other code could take another path"
            )
