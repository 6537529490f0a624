"""The Redis provider (Redis 7.0 or newer, Valkey): durability D1 or D2 as the server is configured."""

from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.store import RedisStore

__all__ = ["RedisConfig", "RedisStore"]
