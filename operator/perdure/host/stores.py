"""Opening the stores that a Worker's manifest names. Credentials come from mounted files, read at each connect."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perdure.durable.records import WorkerId
from perdure.durable.store import ForeignStore, Store
from perdure.errors import ManifestError, ProviderUnavailable
from perdure.host.config import HostConfig
from perdure.manifests.effective import require_home
from perdure.manifests.provider import Etcd, KeyValueProvider, Nats, Postgres, Redis, Sentinel, Server
from perdure.providers.etcd import EtcdConfig, EtcdStore
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.providers.redis import RedisConfig, RedisStore, Sentinels
from perdure.providers.sqlite import SqliteStore


class Surroundings(Protocol):
    """What opening a store needs beside its manifest. `data`: the directory of SQLite files; `secrets`: where Secrets
    are mounted."""

    @property
    def worker_id(self) -> WorkerId: ...

    @property
    def data(self) -> Path: ...

    @property
    def secrets(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class OpenStores:
    """`named`: by provider name, `home` included."""

    home: Store
    named: dict[str, ForeignStore]


async def open_stores(config: HostConfig) -> OpenStores:
    """Raises `ProviderUnavailable` naming the provider, `ManifestError`; what was open is closed."""
    home = await open_home(config.effective.home, config)
    stores = OpenStores(home, {config.effective.home.name: home})
    try:
        for provider in config.effective.providers:
            if provider.name not in stores.named:
                stores.named[provider.name] = await open_foreign(provider, config)
    except BaseException:
        await close_stores(stores)
        raise
    return stores


async def close_stores(stores: OpenStores) -> None:
    """Close every store, whatever one of them says."""
    for store in stores.named.values():
        await store.close()


async def open_foreign(provider: KeyValueProvider, config: Surroundings) -> ForeignStore:
    """A store for buckets. Raises as `open_home`."""
    spec = provider.spec
    if spec.etcd is not None:
        return await EtcdStore.open(_etcd(provider.name, spec.etcd, config.secrets), config.worker_id)
    if spec.nats is not None:
        return await _open_nats(provider.name, spec.nats, config)
    return await open_home(provider, config)


async def open_home(provider: KeyValueProvider, config: Surroundings) -> Store:
    """A store for journals, results and buckets. Raises `ProviderUnavailable`, `ManifestError`."""
    spec = provider.spec
    require_home(provider)
    try:
        if spec.redis is not None:
            return await RedisStore.open(_redis(provider.name, spec.redis, config.secrets), config.worker_id)
        if spec.sqlite is not None:
            return await SqliteStore.open(config.data / f"{provider.name}.sqlite", config.worker_id)
        if spec.postgres is not None:
            return await _open_postgres(provider.name, spec.postgres, config)
        return MemoryStore(MemoryWorld(), config.worker_id)
    except ProviderUnavailable as error:
        raise ProviderUnavailable(f"KeyValueProvider {provider.name}: {error.detail}", cause=error.cause) from error


async def _open_nats(name: str, spec: Nats, config: Surroundings) -> ForeignStore:
    try:
        # Its client is an extra of its own: a host without NATS needs none.
        from perdure.providers.nats import NatsConfig, NatsStore
    except ModuleNotFoundError as error:
        raise ManifestError(
            f"KeyValueProvider {name} needs {error.name}: pip install 'perdure[nats]'", field="spec.nats"
        ) from error
    found = NatsConfig(
        servers=spec.servers,
        credentials=_credentials(name, config.secrets, wanted=spec.credentials_secret_ref is not None),
        ca=_authority(name, spec, config.secrets),
        certificate=_certificate(name, spec, config.secrets),
        timeout=spec.timeout / 1000,
        concurrency=spec.pool_size,
        bucket=spec.bucket,
        replicas=spec.replicas,
        max_payload=spec.max_payload,
        max_batch=spec.max_batch,
    )
    return await NatsStore.open(found, config.worker_id)


async def _open_postgres(name: str, spec: Postgres, config: Surroundings) -> Store:
    try:
        # Its driver is an extra of its own: a host without PostgreSQL needs none.
        from perdure.providers.postgres import PostgresConfig, PostgresStore
    except ModuleNotFoundError as error:
        raise ManifestError(
            f"KeyValueProvider {name} needs {error.name}: pip install 'perdure[postgres]'", field="spec.postgres"
        ) from error
    found = PostgresConfig(
        url=spec.url,
        credentials=_credentials(name, config.secrets, wanted=spec.credentials_secret_ref is not None),
        tls=spec.tls is not None,
        ca=_authority(name, spec, config.secrets),
        timeout=spec.timeout / 1000,
        connections=spec.pool_size,
        schema=spec.schema_name,
    )
    return await PostgresStore.open(found, config.worker_id)


def _redis(name: str, spec: Redis, secrets: Path) -> RedisConfig:
    """Of a master that Sentinels name, the url holds nothing but the database."""
    return RedisConfig(
        url=spec.url or f"redis://{name}/{spec.sentinel.database if spec.sentinel else 0}",
        credentials=_credentials(name, secrets, wanted=spec.credentials_secret_ref is not None),
        tls=spec.tls is not None or (spec.url or "").startswith("rediss:"),
        ca=_authority(name, spec, secrets),
        timeout=spec.timeout / 1000,
        connections=spec.pool_size,
        sentinels=None if spec.sentinel is None else _sentinels(name, spec.sentinel, secrets),
        cluster=spec.cluster,
        wait_replicas=spec.wait_replicas,
    )


def _etcd(name: str, spec: Etcd, secrets: Path) -> EtcdConfig:
    return EtcdConfig(
        endpoints=spec.endpoints,
        credentials=_credentials(name, secrets, wanted=spec.credentials_secret_ref is not None),
        ca=_authority(name, spec, secrets),
        certificate=_certificate(name, spec, secrets),
        timeout=spec.timeout / 1000,
        connections=spec.pool_size,
        prefix=spec.key_prefix,
        max_request_bytes=spec.max_request_bytes,
        max_txn_ops=spec.max_txn_ops,
    )


def _sentinels(name: str, spec: Sentinel, secrets: Path) -> Sentinels:
    return Sentinels(
        master_name=spec.master_name,
        urls=tuple(f"redis://{address}" for address in spec.addresses),
        credentials=_credentials(f"{name}-sentinel", secrets, wanted=spec.credentials_secret_ref is not None),
    )


def _authority(name: str, spec: Server, secrets: Path) -> Path | None:
    """Raises `ProviderUnavailable`."""
    if spec.tls is None or spec.tls.ca_secret_ref is None:
        return None
    reference = spec.tls.ca_secret_ref
    found = secrets / f"{name}-ca" / reference.key
    if not found.is_file():
        raise ProviderUnavailable(
            f"the key {reference.key!r} of Secret {reference.name} is not there (caSecretRef of provider {name!r})",
            cause="tls",
        )
    return found


def _certificate(name: str, spec: Server, secrets: Path) -> Path | None:
    """The folder of the client's `tls.crt` and `tls.key`."""
    return secrets / f"{name}-tls" if spec.client_certificate_ref is not None else None


def passwords(provider: KeyValueProvider, secrets: Path) -> list[str]:
    """What must never be shown, as it is now."""
    server, found = provider.spec.server, []
    sentinel = provider.spec.redis.sentinel if provider.spec.redis is not None else None
    for name, part in ((provider.name, server), (f"{provider.name}-sentinel", sentinel)):
        if part is not None:
            found.append(_credentials(name, secrets, wanted=part.credentials_secret_ref is not None)()[1])
    return [value for value in found if value]


def _credentials(name: str, secrets: Path, *, wanted: bool) -> Callable[[], tuple[str | None, str | None]]:
    """(username, password) as they are now: a rotated Secret is used from the next connection on."""
    prefix = "PERDURE_" + "".join(char if char.isalnum() else "_" for char in name.upper())

    def read() -> tuple[str | None, str | None]:
        found = []
        for part in ("username", "password"):
            path = secrets / name / part
            value = _secret(path, name) if wanted and path.exists() else None
            found.append(value or os.environ.get(f"{prefix}_{part.upper()}"))
        return found[0], found[1]

    return read


def _secret(path: Path, provider: str) -> str:
    """Raises `ProviderUnavailable`; nothing of the content is in it."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ProviderUnavailable(
            f"the {path.name} in the Secret of provider {provider!r} cannot be read: {reason} "
            "(see credentialsSecretRef)",
            retry_after=5,
            cause="credentials",
        ) from None
