"""Promises: a guest makes one and waits for it; whoever has its id completes it, once.

A promise is an entry of a private bucket of the instance that made it, at the home store: `?` while it is pending,
then `+` and the value, or `-` and why it failed. It is made by the commit of the next gate, completed by a swap of `?`
for something else, and gone with its instance, or when a completion is older than the Worker keeps results. Its id
holds the instance's name, so that any host finds it, and 128 random bits.

Waiting is a gate. After `PATIENCE` seconds an asynchronous call gives up its memory (`leaving`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import enum
import random
from collections.abc import Awaitable

from perdure.durable.effects import BucketAddress, Conflict, Scope, Swap
from perdure.durable.environment import EngineEnvironment
from perdure.durable.foreign import apply_unrecorded
from perdure.durable.gates import Gates
from perdure.durable.leaving import leave
from perdure.durable.overlay import Overlay, Place
from perdure.durable.policy import PROMISES
from perdure.durable.recorder import JournalRecorder
from perdure.durable.store import BucketStore
from perdure.errors import ProviderUnavailable
from perdure.wasi.recorder import Plain

PENDING, COMPLETED, FAILED = b"?", b"+", b"-"
PATIENCE = 1.0
_RANDOM = 16
_FIRST, _LONGEST = 0.005, 0.5


class Completion(enum.Enum):
    """DONE: now, or before with the same; OTHER: before, with something else; UNKNOWN: there is no such promise."""

    DONE = "done"
    OTHER = "other"
    UNKNOWN = "unknown"


def promise_id(instance: str, secret: bytes) -> str:
    return f"{base64.urlsafe_b64encode(instance.encode()).decode().rstrip('=')}.{secret.hex()}"


def instance_of(promise: str) -> str | None:
    """Whose promise it is; None: no promise has such an id."""
    name, _, secret = promise.partition(".")
    if len(secret) != 2 * _RANDOM:
        return None
    try:
        found = base64.b64decode(name + "=" * (-len(name) % 4), altchars=b"-_", validate=True).decode()
        known = promise_id(found, bytes.fromhex(secret))
    except (binascii.Error, ValueError):
        return None
    # One spelling only: it is the key in the store.
    return found if known == promise else None


async def look(store: BucketStore, promise: str) -> bytes | None:
    """`PENDING`, or a completion with its first byte; None: there is no such promise."""
    instance = instance_of(promise)
    if instance is None:
        return None
    return (await store.get_many(_address(instance), [promise]))[0]


async def complete(store: BucketStore, promise: str, completion: bytes, retention_ms: int) -> Completion:
    """`completion`: `COMPLETED` or `FAILED`, and what it is completed with."""
    instance = instance_of(promise)
    if instance is None:
        return Completion.UNKNOWN
    swap = Swap(_address(instance), promise, PENDING, completion, retention_ms)
    (outcome,) = await apply_unrecorded(store, swap)
    match outcome:
        case Conflict(None):
            return Completion.UNKNOWN
        case Conflict(current) if current != completion:
            return Completion.OTHER
        case _:
            return Completion.DONE


class InstancePromises:
    """Those that one instance makes, and its waits."""

    def __init__(
        self, instance: str, environment: EngineEnvironment, recorder: JournalRecorder, overlay: Overlay, gates: Gates
    ) -> None:
        self._instance = instance
        self._environment = environment
        self._recorder = recorder
        self._overlay = overlay
        self._gates = gates
        self._place: Place = (environment.catalog.home, _address(instance))

    def create(self) -> str | Awaitable[str]:
        """Its id. What is given must be awaited where it is no text: a gate is here."""
        secret = self._recorder.record("promises.create", (), lambda: self._environment.entropy(_RANDOM))
        assert isinstance(secret, bytes)
        made = promise_id(self._instance, secret)

        def write() -> Awaitable[None] | None:
            self._overlay.put(self._place, made, PENDING, None)
            return self._gates.after_write()

        gate = self._gates.before_write(len(made), write)
        return made if gate is None else _after(gate, made)

    async def wait(self, promise: str) -> bytes | None:
        """A completion with its first byte; None: there is no such promise. Raises `Suspended`."""

        async def now() -> Plain:
            if promise in self._overlay.written(self._place):
                return PENDING
            return await look(self._environment.home, promise)

        found = await self._recorder.record_async("promises.look", (promise,), now)
        if found == PENDING:
            await self._gates.before_wait()
            found = await self._recorder.record_async("promises.wait", (promise,), lambda: self._until(promise))
        assert found is None or isinstance(found, bytes)
        return found

    async def _until(self, promise: str) -> Plain:
        delay, waited = _FIRST, 0.0
        while (found := await self._state(promise)) == PENDING:
            if waited >= PATIENCE:
                await leave(self._instance, self._environment.home, self._gates.running, promise)
            pause = delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            await asyncio.sleep(pause)
            waited += pause
            delay = min(delay * 2, _LONGEST)
        return found

    async def _state(self, promise: str) -> bytes | None:
        try:
            return await look(self._environment.home, promise)
        except ProviderUnavailable:
            # Whoever waits anyway waits for the store, too, as long as the call may.
            return PENDING


def _address(instance: str) -> BucketAddress:
    return BucketAddress(Scope.INSTANCE, PROMISES, instance)


async def _after(gate: Awaitable[None], made: str) -> str:
    await gate
    return made
