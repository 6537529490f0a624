"""`KeyValueProvider`: a key-value backend the platform team offers, cluster-wide, like a StorageClass."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from perdure.manifests.base import Bytes, Metadata, Milliseconds, Model


class SecretRef(Model):
    """A Secret in the Worker's own namespace, with the keys `username` (optional) and `password`."""

    name: str = Field(min_length=1)


class CaRef(Model):
    """A key of a Secret in the Worker's namespace that holds a CA certificate in PEM."""

    name: str = Field(min_length=1)
    key: str = "ca.crt"


class Tls(Model):
    """TLS towards the server. Without `caSecretRef` the system's authorities are trusted."""

    ca_secret_ref: CaRef | None = None


class Redis(Model):
    """A Redis or Valkey server (7.0 or newer)."""

    url: str
    credentials_secret_ref: SecretRef | None = None
    tls: Tls | None = None
    timeout: Milliseconds = 2000
    pool_size: int = Field(default=8, ge=1, le=256)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("must be redis://host:port/database (rediss:// for TLS)")
        if parts.username or parts.password:
            raise ValueError("must not hold credentials: name a Secret in credentialsSecretRef")
        return value


class Sqlite(Model):
    """An SQLite file on a volume of the Worker's own: one host, no server."""

    size: Bytes = 1 << 30
    storage_class_name: str | None = None


class Memory(Model):
    """The host's memory: nothing survives the pod. For tests."""


class KeyValueProviderSpec(Model):
    """Exactly one of `redis`, `sqlite` and `memory`."""

    default: bool = False
    allowed_namespaces: tuple[str, ...] = ("*",)
    redis: Redis | None = None
    sqlite: Sqlite | None = None
    memory: Memory | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> KeyValueProviderSpec:
        given = [name for name in ("redis", "sqlite", "memory") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of redis, sqlite, memory (found: {', '.join(given) or 'none'})")
        return self

    @property
    def kind(self) -> Literal["redis", "sqlite", "memory"]:
        if self.redis is not None:
            return "redis"
        return "sqlite" if self.sqlite is not None else "memory"

    def allows(self, namespace: str) -> bool:
        return "*" in self.allowed_namespaces or namespace in self.allowed_namespaces


class KeyValueProvider(Model):
    """The whole resource. `status` is the operator's and not read."""

    api_version: Literal["perdure.dev/v1alpha1"] = "perdure.dev/v1alpha1"
    kind: Literal["KeyValueProvider"] = "KeyValueProvider"
    metadata: Metadata
    spec: KeyValueProviderSpec
    status: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.metadata.name
