"""A Store on Redis, put together from its parts."""

from __future__ import annotations

from collections.abc import Callable

from perdure.durable.records import ProviderInfo, WorkerId
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.cluster import ClusterRoute
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.feeds import Feeds
from perdure.providers.redis.inbox import Inboxes
from perdure.providers.redis.instances import Instances
from perdure.providers.redis.keys import Keys
from perdure.providers.redis.routes import Fixed, Route
from perdure.providers.redis.sentinel import SentinelRoute
from perdure.providers.redis.server import ServerCheck
from perdure.providers.redis.worker import WorkerData


class RedisStore(Instances, Inboxes, Feeds, WorkerData):
    """Implements `perdure.durable.store.Store`; made by `open`."""

    def __init__(self, config: RedisConfig, keys: Keys) -> None:
        client = RedisClient(config, _route(config, keys.prefix))
        # On a cluster the Namespace's buckets have a slot of their own, and with it another node.
        shared = RedisClient(config, _route(config, keys.namespace_prefix)) if config.cluster else client
        super().__init__(client, shared, keys)
        self._check = ServerCheck(client, config, keys.names)

    @classmethod
    async def open(cls, config: RedisConfig, worker: WorkerId) -> RedisStore:
        """Prepare the connection. A server that does not answer yet is no error here: `ping` says so."""
        return cls(config, Keys(worker))

    async def ping(self) -> ProviderInfo:
        return await self._check.run()

    async def purge(self, progress: Callable[[int], None]) -> int:
        """What this Worker watches of the Namespace's has to be told first: the rest goes by its prefix."""
        for watch in await self.watches():
            await self.unwatch(watch.bucket, 0)
        return await super().purge(progress)

    async def close(self) -> None:
        await self._client.close()
        await self._shared.close()


def _route(config: RedisConfig, key: str) -> Route:
    if config.cluster:
        return ClusterRoute(config, key)
    if config.sentinels is not None:
        return SentinelRoute(config, config.sentinels)
    return Fixed(config)
