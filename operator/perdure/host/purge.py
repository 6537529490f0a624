"""Deleting a Worker's data at every provider it uses, or no more than what would be in others' way without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from perdure.durable.effects import Scope
from perdure.durable.store import FeedStore, ForeignStore
from perdure.errors import ProviderUnavailable
from perdure.host.config import HostConfig
from perdure.host.stores import open_foreign


async def purge_worker(config: HostConfig, progress: Callable[[str, int], None]) -> int:
    """Number of keys or rows removed. Raises as `_everywhere`."""

    async def purge(name: str, store: ForeignStore) -> int:
        return await store.purge(lambda count: progress(name, count))

    return await _everywhere(config, purge)


async def end_watches(config: HostConfig, progress: Callable[[str, str], None]) -> int:
    """End the watches of buckets that the namespace shares, whether the manifest has them still or not, and tell each
    as (provider, bucket). Those of the Worker's own buckets stay: nobody else writes there. Raises as `_everywhere`."""

    async def end(name: str, store: ForeignStore) -> int:
        if not isinstance(store, FeedStore):
            return 0
        shared = [watch.bucket for watch in await store.watches() if watch.bucket.scope is Scope.NAMESPACE]
        for bucket in shared:
            await store.unwatch(bucket, 0)
            progress(name, bucket.name)
        return len(shared)

    return await _everywhere(config, end)


async def _everywhere(config: HostConfig, act: Callable[[str, ForeignStore], Awaitable[int]]) -> int:
    """The sum of what `act` did at each provider. One that is away does not keep it from the others: it raises
    `ProviderUnavailable` in the end. Run again, it continues."""
    total = 0
    failures: list[str] = []
    for provider in config.effective.providers:
        try:
            store = await open_foreign(provider, config)
            try:
                total += await act(provider.name, store)
            finally:
                await store.close()
        except ProviderUnavailable as error:
            failures.append(f"KeyValueProvider {provider.name}: {error.detail}")
    if failures:
        raise ProviderUnavailable("; ".join(failures))
    return total
