"""The memory store's feeds of watched buckets."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from perdure.durable.effects import BucketAddress, Effect, Scope
from perdure.durable.feeds import PAGE_BYTES, Change, Changed, FeedBounds, FeedPage, Watch, feed_full
from perdure.providers.memory.base import Base
from perdure.providers.memory.world import Appended, BucketKey, Feed, Watcher

Writer = tuple[str, str] | None


class Feeds(Base):
    """Implements `FeedStore`."""

    async def watch(self, bucket: BucketAddress, instance: str, bounds: FeedBounds) -> None:
        feed = self._feeds.setdefault(self._bucket_key(bucket), Feed(secrets.token_hex(8), bounds))
        feed.bounds = bounds
        watcher = feed.watchers.setdefault(self._worker.name, Watcher(bucket, instance, feed.last, 0.0))
        watcher.instance, watcher.renewed = instance, self._world.now()

    async def watches(self) -> list[Watch]:
        now = self._world.now()
        found = (feed.watchers.get(self._worker.name) for feed in self._feeds.values())
        return [Watch(one.bucket, one.instance, int((now - one.renewed) * 1000)) for one in found if one is not None]

    async def unwatch(self, bucket: BucketAddress, idle_ms: int) -> None:
        place = self._bucket_key(bucket)
        feed = self._feeds.get(place)
        watcher = None if feed is None else feed.watchers.get(self._worker.name)
        if feed is None or watcher is None or (self._world.now() - watcher.renewed) * 1000 < idle_ms:
            return
        del feed.watchers[self._worker.name]
        if feed.watchers:
            _trim(feed)
        else:
            del self._feeds[place]

    async def changes(self, bucket: BucketAddress, after: int, limit: int) -> FeedPage | None:
        feed = self._feeds.get(self._bucket_key(bucket))
        watcher = None if feed is None else feed.watchers.get(self._worker.name)
        if feed is None or watcher is None:
            return None
        found: list[Change] = []
        size = 0
        for one in feed.changes:
            if len(found) >= limit or size >= PAGE_BYTES:
                break
            if one.number > max(after, watcher.reached):
                own = one.writer == (self._worker.name, watcher.instance)
                found.append(Change(one.number, one.key, one.value, own))
                size += one.size
        return FeedPage(feed.life, watcher.reached, found)

    async def told(self, bucket: BucketAddress, life: str, number: int) -> None:
        feed = self._feeds.get(self._bucket_key(bucket))
        watcher = None if feed is None else feed.watchers.get(self._worker.name)
        if feed is not None and watcher is not None and feed.life == life:
            watcher.reached = max(watcher.reached, min(number, feed.last))
            _trim(feed)

    @property
    def _feeds(self) -> dict[BucketKey, Feed]:
        return self._world.feeds.setdefault(self._worker.namespace, {})

    def _bucket_key(self, bucket: BucketAddress) -> BucketKey:
        worker = "" if bucket.scope is Scope.NAMESPACE else self._worker.name
        return (worker, bucket.name, "" if bucket.instance is None else f"i{bucket.instance}")

    def _open_feeds(self, effects: Iterable[Effect], writer: Writer) -> dict[BucketAddress, Feed]:
        """Those that effects of `writer` belong into. Raises `FeedFull`."""
        found: dict[BucketAddress, Feed] = {}
        for bucket in {effect.bucket for effect in effects}:
            feed = self._feeds.get(self._bucket_key(bucket))
            if feed is not None and feed.heeds(writer):
                if feed.full:
                    raise feed_full(bucket.name)
                found[bucket] = feed
        return found

    def _drop_watches(self) -> None:
        """This Worker's, and with its buckets their feeds."""
        for place, feed in list(self._feeds.items()):
            feed.watchers.pop(self._worker.name, None)
            if not feed.watchers or place[0] == self._worker.name:
                del self._feeds[place]


def append(feed: Feed, key: str, changed: Changed, writer: Writer) -> None:
    feed.last += 1
    feed.changes.append(Appended(feed.last, key, changed.value, writer))


def _trim(feed: Feed) -> None:
    reached = min(watcher.reached for watcher in feed.watchers.values())
    feed.changes = [one for one in feed.changes if one.number > reached]
