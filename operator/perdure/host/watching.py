"""Telling instances of the changes of watched buckets: which deliveries this host carries out, and when.

A delivery is carried out by the host that owns the watching instance; two that do are no harm. It looks at the feed
often while there is something to tell, seldom (`_LONGEST`) while there is not, and at once when the instance's inbox
has run. Every host renews the watches of its manifest, and ends those that no host's manifest has had for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from perdure.component.plan import ExportedFunc
from perdure.durable.environment import EngineEnvironment
from perdure.durable.policy import BucketCatalog
from perdure.durable.store import FeedStore
from perdure.durable.watching import RENEW_S, STALE_MS, Delivery
from perdure.errors import ManifestError, PerdureError
from perdure.host.dispatcher import Members
from perdure.host.inbox import Wakes
from perdure.host.metrics import HostMetrics
from perdure.host.routing import is_preferred
from perdure.keyvalue.watcher import INTERFACES, Watcher, watcher_of

log = logging.getLogger(__name__)
_SHORTEST, _LONGEST, _ELSEWHERE = 0.01, 0.25, 1.0
_FAILED = 5.0


def watcher_for(catalog: BucketCatalog, exports: Iterable[ExportedFunc]) -> Watcher | None:
    """What the component exports, where a bucket is watched. Raises `ManifestError` if it exports no such thing."""
    watched = catalog.watched()
    watcher = watcher_of(exports)
    if watched and watcher is None:
        raise ManifestError(
            f"bucket {watched[0][0].name!r} is watched, but the component exports no {INTERFACES} to be told by",
            field="spec.keyValue.buckets[].watch",
        )
    return watcher if watched else None


def deliveries_of(environment: EngineEnvironment, watcher: Watcher | None, max_pending: int) -> list[Delivery]:
    """One for each watched bucket. Raises `ManifestError` for a provider that keeps no feeds."""
    found: list[Delivery] = []
    for bucket, watch in environment.catalog.watched():
        store = environment.stores[bucket.provider]
        if watcher is None or not isinstance(store, FeedStore):
            raise ManifestError(
                f"bucket {bucket.name!r} cannot be watched at its provider", field="spec.keyValue.buckets[].watch"
            )
        found.append(
            Delivery(
                bucket,
                watch,
                store,
                environment.home,
                watcher,
                max_pending=max_pending,
                wall_ms=lambda: environment.wall_ms,
            )
        )
    return found


class Watching:
    """`begin`, then `run()` as a task."""

    def __init__(
        self,
        deliveries: list[Delivery],
        environment: EngineEnvironment,
        members: Members,
        wakes: Wakes,
        metrics: HostMetrics,
    ) -> None:
        self._deliveries = deliveries
        self._members = members
        self._wakes = wakes
        self._metrics = metrics
        self._stopping = False
        self._woken = {delivery: asyncio.Event() for delivery in deliveries}
        self._renew_at = dict.fromkeys(deliveries, 0.0)
        self._feeds = _feeds_of(environment)
        self._wanted = {(_own_name(bucket.provider), bucket.address("")) for bucket, _ in environment.catalog.watched()}

    async def begin(self) -> None:
        """So that nothing is missed of what happens once this host is ready. A store that is away is asked again."""
        renewed = await asyncio.gather(*map(self._renew, self._deliveries), return_exceptions=True)
        for delivery, error in zip(self._deliveries, renewed, strict=True):
            if isinstance(error, PerdureError):
                self._failed(delivery, error)
            elif error is not None:
                raise error

    def stop(self) -> None:
        """Send nothing any more."""
        self._stopping = True

    def ran(self, instance: str) -> None:
        """Calls of its inbox have ended."""
        for delivery, event in self._woken.items():
            if delivery.instance == instance:
                event.set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            for delivery in self._deliveries:
                tasks.create_task(self._deliver(delivery))
            tasks.create_task(self._end_others())

    async def _deliver(self, delivery: Delivery) -> None:
        pause, quiet = _SHORTEST, True
        event = self._woken[delivery]
        while True:
            event.clear()
            try:
                if self._now() >= self._renew_at[delivery]:
                    await self._renew(delivery)
                if self._stopping or not self._mine(delivery.instance):
                    delivery.forget()
                    pause = _ELSEWHERE
                else:
                    pause = _SHORTEST if await self._step(delivery) else min(pause * 2, _LONGEST)
                quiet = True
            except PerdureError as error:
                if quiet:
                    self._failed(delivery, error)
                pause, quiet = min(pause * 2, _FAILED), False
            try:
                async with asyncio.timeout(pause):
                    await event.wait()
            except TimeoutError:
                continue

    async def _step(self, delivery: Delivery) -> bool:
        step = await delivery.step()
        if step.sent:
            self._wakes.wake(delivery.instance, None)
        self._metrics.changes_told(step.told)
        return step.sent > 0 or step.told > 0

    async def _renew(self, delivery: Delivery) -> None:
        await delivery.renew()
        self._renew_at[delivery] = self._now() + RENEW_S

    async def _end_others(self) -> None:
        """Watches of this Worker that its manifest has no more."""
        while True:
            for provider, feed in self._feeds.items():
                try:
                    for watch in await feed.watches():
                        if (provider, watch.bucket) not in self._wanted:
                            await feed.unwatch(watch.bucket, STALE_MS)
                except PerdureError as error:
                    log.info("watches could not be looked at: %s", error, extra={"fields": {"provider": provider}})
            await asyncio.sleep(RENEW_S)

    def _failed(self, delivery: Delivery, error: PerdureError) -> None:
        self._metrics.dispatch_error(error.code)
        fields = {"bucket": delivery.name, "instance": delivery.instance, "code": error.code}
        log.warning("changes of a watched bucket wait: %s", error, extra={"fields": fields})

    def _mine(self, instance: str) -> bool:
        return is_preferred(self._members.me, instance, self._members.hosts)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _feeds_of(environment: EngineEnvironment) -> Mapping[str, FeedStore]:
    """By the provider's own name: a store that has two (`namespace_apart`) is asked once."""
    return {
        name: store
        for name, store in environment.stores.items()
        if name == _own_name(name) and isinstance(store, FeedStore)
    }


def _own_name(provider: str) -> str:
    return provider.partition("/")[0]
