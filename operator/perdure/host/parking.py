"""Instances whose asynchronous call waits for a promise, and that have no memory here meanwhile.

They are due all the time, for their call has not ended; this is how the dispatcher knows to leave them alone. Nothing
here is needed for safety: an instance that is forgotten is opened, found to wait, and parked again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from perdure.durable.promises import PENDING, look
from perdure.durable.store import BucketStore

MOST = 4096
_ASKED = 100
_AT_ONCE = 10
_TRUSTED = 600.0
"""Seconds after which an instance is looked at anew: somebody may have given up its call elsewhere."""


class Parking:
    """At most `MOST` instances, each with its promise."""

    def __init__(self, store: BucketStore) -> None:
        self._store = store
        self._parked: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def park(self, instance: str, promise: str) -> None:
        self._parked[instance] = (promise, self._now() + _TRUSTED)
        if len(self._parked) > MOST:
            self._parked.popitem(last=False)

    def holds(self, instance: str) -> bool:
        found = self._parked.get(instance)
        return found is not None and found[1] > self._now()

    def leave(self, instance: str) -> None:
        self._parked.pop(instance, None)

    async def look(self) -> None:
        """Ask the store for the promises of those that were not asked for longest, and let go whose are completed.
        Raises `ProviderUnavailable`."""
        asked = [(name, promise) for name, (promise, _) in list(self._parked.items())[:_ASKED]]
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
