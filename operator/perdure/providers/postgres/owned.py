"""What the owner of an instance does, each as one call of a function in the database."""

from __future__ import annotations

import secrets

from perdure.durable.effects import decode_outcomes
from perdure.durable.inbox import Taken
from perdure.durable.records import Claim, Commit, CommitStatus, Committed, OwnerToken, SnapshotWrite, WorkerId
from perdure.errors import Fenced, InternalError, LostWrites
from perdure.providers.postgres.client import PostgresClient
from perdure.providers.postgres.effects import LONGEST, Owner, key_bytes, pack
from perdure.providers.postgres.rows import call_of, data_of

_CLAIM = "SELECT * FROM SCHEMA.claim_VERSION($1, $2, $3, $4, $5)"
_VERIFY = (
    "SELECT true FROM SCHEMA.instances WHERE worker = $1 AND name = $2 AND epoch = $3 AND nonce = $4 AND epoch > 0"
)
_COMMIT = f"SELECT * FROM SCHEMA.commit_VERSION({', '.join(f'${at}' for at in range(1, 33))})"
_APPLIED = "SELECT SCHEMA.applied_VERSION($1, $2, $3, $4, $5)"
_SNAPSHOT = "SELECT SCHEMA.snapshot_VERSION($1, $2, $3, $4, $5, $6, $7)"
_HALT = "SELECT SCHEMA.halt_VERSION($1, $2, $3, $4, $5)"
_TAKE = "SELECT * FROM SCHEMA.take_VERSION($1, $2, $3, $4)"
_POSTPONE = "SELECT SCHEMA.postpone_VERSION($1, $2, $3, $4, $5, $6, $7)"
_DONE = {
    "APPLIED": CommitStatus.APPLIED,
    "DUPLICATE": CommitStatus.DUPLICATE,
    "KEY_USED": CommitStatus.KEY_USED,
    "CANCELLED": CommitStatus.CANCELLED,
}


class Owned:
    """Implements `OwnedStore`."""

    def __init__(self, client: PostgresClient, worker: WorkerId) -> None:
        self._client = client
        self._owner = Owner.of(worker)

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        identity = secrets.token_hex(8).encode()
        row = await self._client.one(
            _CLAIM, self._owner.worker, instance.encode(), nonce.encode(), host.encode(), identity
        )
        previous = row["o_previous"]
        token = OwnerToken(row["o_epoch"], nonce)
        return Claim(token, data_of(row), None if previous is None else previous.decode(), row["o_store"])

    async def verify(self, instance: str, token: OwnerToken) -> None:
        # No lock: nothing is changed, and so nothing has to be waited for.
        if not await self._client.fetch(_VERIFY, *self._held(instance, token)):
            raise fenced(instance)

    async def commit(self, commit: Commit) -> Committed:
        result = commit.result
        row = await self._client.one(
            _COMMIT,
            *self._held(commit.instance, commit.token),
            commit.sequence,
            commit.entry,
            commit.component.encode(),
            commit.open,
            commit.fresh,
            commit.foreign,
            None if commit.reserves is None else key_bytes(commit.reserves),
            None if commit.pending is None else key_bytes(commit.pending),
            None if result is None else key_bytes(result.key),
            None if result is None else result.fingerprint,
            None if result is None else result.body,
            min(commit.result_retention_ms, LONGEST),
            commit.max_results,
            list(commit.blobs),
            list(commit.blobs.values()),
            *pack(self._owner, commit.effects),
        )
        status: str = row["o_status"]
        done = _DONE.get(status)
        if done is not None:
            return Committed(done, decode_outcomes(row["o_outcomes"] or b""))
        if status == "FENCED":
            raise fenced(commit.instance)
        stored = row["o_stored"]
        if status == "LOST":
            raise LostWrites(f"instance {commit.instance!r} has lost the commits after {stored}")
        raise InternalError(f"commit {commit.sequence} of {commit.instance!r} does not follow {stored}")

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        await self._say(_APPLIED, instance, token, sequence)

    async def snapshot(self, write: SnapshotWrite) -> bool:
        said = await self._say(
            _SNAPSHOT, write.instance, write.token, write.sequence, write.data, write.follows, heavy=True
        )
        return said == "KEPT"

    async def halt(self, instance: str, token: OwnerToken, reason: bytes | None) -> None:
        await self._say(_HALT, instance, token, reason)

    async def take(self, instance: str, token: OwnerToken) -> Taken:
        row = await self._client.one(_TAKE, *self._held(instance, token))
        if not row["o_owned"]:
            raise fenced(instance)
        return Taken(None, row["o_next"]) if row["key"] is None else Taken(call_of(row), None)

    async def postpone(self, instance: str, token: OwnerToken, key: str, delay_ms: int, failure: bytes) -> None:
        await self._say(_POSTPONE, instance, token, key_bytes(key), min(delay_ms, LONGEST), failure)

    def _held(self, instance: str, token: OwnerToken) -> tuple[bytes, bytes, int, bytes]:
        return self._owner.worker, instance.encode(), token.epoch, token.nonce.encode()

    async def _say(self, statement: str, instance: str, token: OwnerToken, *args: object, heavy: bool = False) -> str:
        said: str = await self._client.value(statement, *self._held(instance, token), *args, heavy=heavy)
        if said == "FENCED":
            raise fenced(instance)
        return said


def fenced(instance: str) -> Fenced:
    return Fenced(f"instance {instance!r} is owned by another host now")
