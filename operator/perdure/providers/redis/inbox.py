"""The Redis store's inboxes, packed as `functions/3-inbox.lua` says."""

from __future__ import annotations

import struct
from typing import cast

from perdure.durable.inbox import Accepted, Cancelled, Due, NewCall, PendingCall, Taken
from perdure.durable.records import OwnerToken
from perdure.errors import InternalError
from perdure.providers.redis.base import Base, fenced

_STATE = struct.Struct(">16x32sI?")


class Inboxes(Base):
    """Implements `InboxStore`, and `take` and `postpone` of `OwnedStore`."""

    async def take(self, instance: str, token: OwnerToken) -> Taken:
        reply = await self._client.call("take", self._keys.instance(instance), token.epoch, token.nonce)
        word, *rest = cast("list[bytes]", reply)
        if word == b"FENCED":
            raise fenced(instance)
        if word == b"NONE":
            return Taken(None, _time(rest[0]))
        return Taken(_call(*rest), None)

    async def postpone(self, instance: str, token: OwnerToken, key: str, delay_ms: int, failure: bytes) -> None:
        keys = self._keys.instance(instance)
        reply = await self._client.call("postpone", keys, token.epoch, token.nonce, instance, key, delay_ms, failure)
        self._owned(reply, instance)

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted:
        reply = await self._client.call(
            "enqueue",
            [*self._keys.instance(instance), self._keys.accepted],
            instance,
            call.key,
            call.fingerprint,
            call.payload,
            "" if call.due_ms is None else call.due_ms,
            max_pending,
        )
        return Accepted(cast("bytes", reply).decode().lower())

    async def cancel(self, instance: str, key: str) -> Cancelled:
        reply = await self._client.call("cancel", self._keys.instance(instance), instance, key)
        return Cancelled(cast("bytes", reply).decode().lower())

    async def pending(self, instance: str, key: str) -> PendingCall | None:
        reply = await self._client.call("pending", self._keys.instance(instance), key)
        return None if reply is None else _call(key.encode(), *cast("tuple[bytes, bytes, bytes]", reply))

    async def inbox(self, instance: str, limit: int) -> list[PendingCall]:
        reply = await self._client.call("inbox", self._keys.instance(instance), limit)
        return [_call(*one) for one in cast("list[tuple[bytes, bytes, bytes, bytes]]", reply)]

    async def due(self, limit: int) -> Due:
        reply = await self._client.call("due", [self._keys.due], limit)
        now, following, names = cast("tuple[bytes, bytes | None, list[bytes]]", reply)
        return Due([name.decode() for name in names], _time(following), int(now))


def _call(key: bytes, state: bytes, payload: bytes, due: bytes) -> PendingCall:
    if len(state) < _STATE.size:
        raise InternalError(f"the store holds a waiting call {key.decode(errors='replace')!r} that cannot be read")
    fingerprint, attempts, begun = _STATE.unpack_from(state)
    return PendingCall(
        key=key.decode(),
        fingerprint=fingerprint,
        payload=payload,
        due_ms=int(float(due)),
        attempts=attempts,
        begun=begun,
        failure=state[_STATE.size :],
    )


def _time(score: bytes | None) -> int | None:
    return None if score is None else int(float(score))
