"""Instances whose asynchronous call waits for a promise or an instant, and that have no memory here meanwhile.

They are due all the time, for their call has not ended; this is how the dispatcher knows to leave them alone. Nothing
here is needed for safety: an instance that is forgotten is opened, found to wait, and parked again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from perdure.durable.promises import PENDING, look
from perdure.durable.store import BucketStore

MOST = 4096
_ASKED = 100
_AT_ONCE = 10
_TRUSTED = 600.0
"""Seconds after which an instance is looked at anew: somebody may have given up its call elsewhere."""


class Parking:
    """At most `MOST` instances, each with what it waits for: a promise, or an instant in ms since 1970."""

    def __init__(self, store: BucketStore, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._parked: OrderedDict[str, tuple[str | int, float]] = OrderedDict()

    def park(self, instance: str, until: str | int) -> None:
        self._parked[instance] = (until, self._now() + _TRUSTED)
        if len(self._parked) > MOST:
            self._parked.popitem(last=False)

    def holds(self, instance: str) -> bool:
        found = self._parked.get(instance)
        if found is None or found[1] <= self._now():
            return False
        return isinstance(found[0], str) or found[0] > self._wall_ms()

    @property
    def next_ms(self) -> int | None:
        """The first instant that an instance waits for and that has not come; None: there is none."""
        now = self._wall_ms()
        return min(
            (until for until, _ in self._parked.values() if isinstance(until, int) and until > now), default=None
        )

    def leave(self, instance: str) -> None:
        self._parked.pop(instance, None)

    async def look(self) -> None:
        """Let go whose instants have come. Ask the store for the promises of those that were not asked for longest, and
        let go whose are completed. Raises `ProviderUnavailable`."""
        now = self._wall_ms()
        for name in [name for name, (until, _) in self._parked.items() if isinstance(until, int) and until <= now]:
            self.leave(name)
        promises = ((name, until) for name, (until, _) in self._parked.items() if isinstance(until, str))
        asked = list(islice(promises, _ASKED))
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            found = await asyncio.gather(*(look(self._store, promise) for _, promise in some))
            for (name, _), state in zip(some, found, strict=True):
                if state != PENDING:
                    self.leave(name)
                elif name in self._parked:
                    self._parked.move_to_end(name)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
