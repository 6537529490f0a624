"""A Store on Redis, put together from its parts."""

from __future__ import annotations

from perdure.durable.records import ProviderInfo, WorkerId
from perdure.providers.redis.buckets import Buckets
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.inbox import Inboxes
from perdure.providers.redis.instances import Instances
from perdure.providers.redis.keys import Keys
from perdure.providers.redis.server import ServerCheck
from perdure.providers.redis.worker import WorkerData


class RedisStore(Instances, Inboxes, Buckets, WorkerData):
    """Implements `perdure.durable.store.Store`; made by `open`."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        super().__init__(client, keys)
        self._check = ServerCheck(client)

    @classmethod
    async def open(cls, config: RedisConfig, worker: WorkerId) -> RedisStore:
        """Prepare the connection. A server that does not answer yet is no error here: `ping` says so."""
        return cls(RedisClient(config), Keys(worker))

    async def ping(self) -> ProviderInfo:
        return await self._check.run()

    async def close(self) -> None:
        await self._client.close()
