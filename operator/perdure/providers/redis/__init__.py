"""The Redis provider (Redis 7.0 or newer, Valkey): one server, behind Sentinels, or a Redis Cluster.

Durability D1 or D2 as the server is configured, D3 with `wait_replicas`.
"""

from perdure.providers.redis.config import RedisConfig, Sentinels
from perdure.providers.redis.store import RedisStore

__all__ = ["RedisConfig", "RedisStore", "Sentinels"]
