"""From a watched bucket's feed into the inbox of the instance that watches it.

Each change is an asynchronous call under a key that names it, so that however often it is sent it is accepted once. A
key's next change is sent when the call for the former one has ended, since an inbox takes a call that failed after
those behind it. The place in the feed moves only past calls that have ended: whoever goes on after a crash sends again
what may not have been sent, and the inbox knows what was. Several hosts may do so at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perdure.durable.calls import CallPayload, encode
from perdure.durable.faultpoint import Point, reach
from perdure.durable.feeds import PAGE_BYTES, Change
from perdure.durable.inbox import Accepted, NewCall, PendingCall
from perdure.durable.journal import call_fingerprint
from perdure.durable.policy import BucketPolicy, WatchPolicy
from perdure.durable.records import StoredResult
from perdure.durable.store import FeedStore
from perdure.keyvalue.watcher import Watcher

PREFIX = "watch/"
"""How the keys of such calls begin; callers' keys must not."""
RENEW_S = 30
"""Seconds after which a watch is renewed by every host whose manifest has it."""
STALE_MS = 300_000
"""A watch that no host's manifest has was renewed so long ago."""
_WINDOW = 64
_NAMED = 100


class CallStore(Protocol):
    """The home store, as far as it is needed."""

    async def enqueue(self, instance: str, call: NewCall, max_pending: int) -> Accepted: ...

    async def pending(self, instance: str, key: str) -> PendingCall | None: ...

    async def result(self, instance: str, key: str) -> StoredResult | None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """`sent`: calls that were accepted now. `told`: changes that the place moved past."""

    sent: int
    told: int


@dataclass(slots=True)
class _Item:
    """`change` None: it was sent, and its value need not be held. `ended`: it is over."""

    number: int
    key: str
    change: Change | None
    ended: bool

    @property
    def size(self) -> int:
        return 0 if self.change is None else len(self.change.value or b"")


class Delivery:
    """Of one watched bucket. `max_pending`: calls that may wait for the instance. One step at a time."""

    def __init__(
        self,
        bucket: BucketPolicy,
        watch: WatchPolicy,
        feed: FeedStore,
        home: CallStore,
        watcher: Watcher,
        *,
        max_pending: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self.instance = watch.instance
        self.name = bucket.name
        self._bounds = watch.bounds
        self._address = bucket.address("")
        self._feed = feed
        self._home = home
        self._watcher = watcher
        self._max_pending = max_pending
        self._wall_ms = wall_ms
        self._life = ""
        self._window: deque[_Item] = deque()

    async def renew(self) -> None:
        """Watch the bucket from now on, or still. Raises `ProviderUnavailable`."""
        await self._feed.watch(self._address, self.instance, self._bounds)

    def forget(self) -> None:
        """Another host goes on."""
        self._window.clear()

    async def step(self) -> Step:
        """Read, send, and see what has ended. Raises what stores raise; nothing is lost by that."""
        await self._read()
        sent = await self._send()
        return Step(sent, await self._settle())

    async def _read(self) -> None:
        room = _WINDOW - len(self._window)
        if room <= 0 or sum(item.size for item in self._window) >= PAGE_BYTES:
            return
        after = self._window[-1].number if self._window else 0
        page = await self._feed.changes(self._address, after, room)
        if page is None:
            # Another host, with another manifest, may have ended it.
            self._window.clear()
            await self.renew()
            return
        if page.life != self._life:
            # Numbers of another feed: what was asked for meant nothing.
            self._life = page.life
            if self._window:
                self._window.clear()
                return
        while self._window and self._window[0].number <= page.reached:
            self._window.popleft()
        for change in page.changes:
            self._window.append(_Item(change.number, change.key, None if change.own else change, ended=change.own))

    async def _send(self) -> int:
        sent = 0
        waits: set[str] = set()
        for item in self._window:
            if item.ended:
                continue
            if item.change is None or item.key in waits:
                waits.add(item.key)
                continue
            accepted = await self._home.enqueue(self.instance, self._call(item.change), self._max_pending)
            reach(Point.WATCH_SENT)
            if accepted is Accepted.FULL:
                break
            item.change = None
            item.ended = accepted is Accepted.FINISHED
            if not item.ended:
                # A conflict is this very change too, sent when the component exported another generation.
                waits.add(item.key)
            sent += accepted is Accepted.ACCEPTED
        return sent

    async def _settle(self) -> int:
        waiting = [item for item in self._window if item.change is None and not item.ended]
        ended = await asyncio.gather(*(self._has_ended(self._key(item.number)) for item in waiting))
        for item, over in zip(waiting, ended, strict=True):
            item.ended = over
        told = 0
        for item in self._window:
            if not item.ended:
                break
            told += 1
        if told:
            await self._feed.told(self._address, self._life, self._window[told - 1].number)
            reach(Point.WATCH_TOLD)
            for _ in range(told):
                self._window.popleft()
        return told

    async def _has_ended(self, key: str) -> bool:
        """It has a result; or somebody cancelled it, or its result is past its retention."""
        if await self._home.result(self.instance, key) is not None:
            return True
        return await self._home.pending(self.instance, key) is None

    def _call(self, change: Change) -> NewCall:
        function, arguments = self._watcher.call(self.name, change.key, change.value)
        payload = encode(CallPayload(function.path, arguments, self._wall_ms()))
        return NewCall(self._key(change.number), call_fingerprint(function.path, arguments), payload)

    def _key(self, number: int) -> str:
        # The life tells buckets of one name apart, if names are long.
        return f"{PREFIX}{self.name[:_NAMED]}/{self._life}.{number}"
