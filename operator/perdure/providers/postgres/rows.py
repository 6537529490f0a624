"""Rows as the records of the contract."""

from __future__ import annotations

from perdure.durable.inbox import PendingCall
from perdure.durable.records import InstanceData, InstanceInfo, JournalRecord, OwnerToken, SnapshotChain
from perdure.providers.postgres.client import Row


def data_of(row: Row) -> InstanceData:
    """Of the columns of `data`."""
    return InstanceData(
        life=row["life"].decode(),
        sequence=row["sequence"],
        snapshot=None if row["reached"] is None else SnapshotChain(row["reached"], row["parts"]),
        journal=[
            JournalRecord(entry, outcomes) for entry, outcomes in zip(row["entries"], row["outcomes"], strict=True)
        ],
        blobs=dict(zip(row["digests"], row["blobs"], strict=True)),
        unapplied=sorted(row["unapplied"]),
        open=row["open"],
        halt=row["halt"],
    )


def call_of(row: Row) -> PendingCall:
    return PendingCall(
        key=row["key"].decode(),
        fingerprint=row["fingerprint"],
        payload=row["payload"],
        due_ms=row["due_ms"],
        attempts=row["attempts"],
        begun=row["begun"],
        failure=row["failure"],
    )


def info_of(name: str, row: Row) -> InstanceInfo:
    return InstanceInfo(
        name=name,
        sequence=row["sequence"],
        token=OwnerToken(row["epoch"], row["nonce"].decode()),
        host=row["host"].decode(),
        component=row["component"].decode(),
        journal_entries=row["entries"],
        journal_bytes=row["bytes"],
        snapshot_sequence=row["reached"] or 0,
        snapshot_parts=row["parts"],
        snapshot_bytes=row["held"],
        pending=row["pending"],
        halt=row["halt"],
        listed=row["listed"],
    )
