"""Looking into stored instances: a page of a journal in readable form, and what is wrong with an instance."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.component.snapshot.format import open_envelope
from perdure.durable.calls import decode_call, decode_failure, failure_of, unsealed
from perdure.durable.inspection import Finding, Readable, check, describe_record, text_or_digest
from perdure.durable.journal import Kind, referred
from perdure.durable.records import InstanceData, InstanceInfo, JournalRecord
from perdure.durable.snapshots import decode_part
from perdure.durable.store import InboxStore, InstanceStore
from perdure.errors import InternalError, Quarantined, SnapshotError

_AT_ONCE = 4
_CALLS = 1000


@dataclass(frozen=True, slots=True)
class ReadablePage:
    """Entries in readable form. `trimmed`: those up to it are in the snapshot. `sequence`: of the last commit."""

    entries: list[Readable]
    trimmed: int
    sequence: int


async def read_journal(store: InstanceStore, instance: str, after: int, limit: int) -> ReadablePage | None:
    """None: there is no such instance. Raises what the store raises."""
    page = await store.journal(instance, after, limit)
    if page is None:
        return None
    entries = []
    for sequence, record in enumerate(page.records, start=page.first):
        # One at a time: the large payloads of a whole page need not be in memory together.
        entry = describe_record(sequence, record, await _blobs(store, instance, sequence, record))
        key = entry.get("key")
        if isinstance(key, str) and entry.get("kind") != Kind.PART.value:
            await _add_result(store, instance, key, entry)
        entries.append(entry)
    return ReadablePage(entries, page.trimmed, page.sequence)


async def _blobs(store: InstanceStore, instance: str, sequence: int, record: JournalRecord) -> dict[bytes, bytes]:
    try:
        digests = referred(record.entry, sequence)
    except (Quarantined, ValueError, RecursionError):
        # What is wrong is said where the record is described.
        return {}
    if not digests:
        return {}
    found = await store.blobs(instance, digests)
    return {digest: data for digest, data in zip(digests, found, strict=True) if data is not None}


async def _add_result(store: InstanceStore, instance: str, key: str, entry: Readable) -> None:
    stored = await store.result(instance, key)
    if stored is None:
        return
    try:
        body = unsealed(stored.body)
        failure = failure_of(body)
    except InternalError as error:
        entry["problem"] = error.detail
        return
    if failure is None:
        entry["result"] = text_or_digest(body)
    else:
        entry["failure"] = {"code": failure[0], "detail": failure[1]}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one instance; nothing wrong: no findings."""

    instance: str
    sequence: int
    findings: list[Finding]


class CheckedStore(InstanceStore, InboxStore, Protocol):
    """What is looked at."""


async def check_instance(store: CheckedStore, instance: str) -> Checked | None:
    """None: nothing of it was ever claimed. What cannot be read is a finding. Raises what else the store raises."""
    try:
        data = await store.peek(instance)
    except (InternalError, ValueError) as error:
        return Checked(instance, 0, [Finding(None, "record", f"what is stored of it cannot be read: {error}")])
    info = await store.instance(instance)
    if data is None and info is None:
        return None
    # A journal of megabytes takes a while to decode: not on the loop that answers calls.
    found = [] if data is None else await asyncio.to_thread(check, data, snapshot_problem)
    found += await _check_inbox(store, instance)
    if info is not None:
        found += _check_index(info, data)
    return Checked(instance, 0 if data is None else data.sequence, found)


def _check_index(info: InstanceInfo, data: InstanceData | None) -> list[Finding]:
    """What waits runs only if the index of who has something to do names its instance."""
    if info.listed or info.halt is not None:
        return []
    what = f"{info.pending} accepted calls wait" if info.pending else ""
    if not what and data is not None and data.sequence == info.sequence:
        what = "a call goes on" if data.open else "effects are not confirmed" if data.unapplied else ""
    if not what:
        return []
    words = f"{what}, but the index of what is due does not name the instance, so that no host looks"
    return [Finding(None, "due", f"{words}; `perdure resume {info.name}` puts that right")]


async def _check_inbox(store: CheckedStore, instance: str) -> list[Finding]:
    try:
        waiting = await store.inbox(instance, _CALLS)
    except InternalError as error:
        return [Finding(None, "inbox", error.detail)]
    found = []
    for call in waiting:
        try:
            decode_call(call.payload)
            decode_failure(call.failure)
        except InternalError as error:
            found.append(Finding(None, "inbox", f"the waiting call {call.key!r}: {error.detail}; it can be cancelled"))
    return found


async def check_instances(store: CheckedStore, names: Sequence[str]) -> list[Checked]:
    """A few at a time; in the order of `names`, without those that are gone."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> Checked | None:
        async with turn:
            return await check_instance(store, name)

    return [found for found in await asyncio.gather(*map(one, names)) if found is not None]


def snapshot_problem(parts: Sequence[bytes]) -> str | None:
    """Checksums, and that each difference is one to the part before it. In words; None: nothing is wrong. Pure."""
    before: bytes | None = None
    component = ""
    for number, data in enumerate(parts, start=1):
        where = f"part {number} of {len(parts)}"
        try:
            part = decode_part(data)
            envelope = open_envelope(part.guest)
        except (Quarantined, SnapshotError, ValueError) as error:
            return f"{where}: {error}"
        if envelope.header.parent != before:
            return f"{where} does not follow the one before it"
        if number > 1 and part.component != component:
            return f"{where} is of component {part.component}, the one before of {component}"
        before, component = envelope.checksum, part.component
    return None
