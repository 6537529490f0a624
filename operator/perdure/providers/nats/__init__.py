"""The NATS provider (2.12 or newer, with JetStream): buckets only, in one key-value stream, by atomic batches. Exactly
once; durability D1."""

from perdure.providers.nats.config import NatsConfig
from perdure.providers.nats.store import NatsStore

__all__ = ["NatsConfig", "NatsStore"]
