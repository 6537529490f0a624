"""`KeyValueProvider`: a key-value backend the platform team offers, cluster-wide, like a StorageClass."""

from __future__ import annotations

from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from perdure.manifests.base import Bytes, Flag, Metadata, Milliseconds, Model, Whole
from perdure.manifests.probe_pod import ProbePod

HomeKind = Literal["redis", "postgres", "sqlite", "memory"]
ForeignKind = Literal["etcd", "nats"]
Kind = HomeKind | ForeignKind
HOME_KINDS: tuple[HomeKind, ...] = get_args(HomeKind)
FOREIGN_KINDS: tuple[ForeignKind, ...] = get_args(ForeignKind)
"""Those that can have buckets of Workers whose home is another one, and nothing else."""
_KINDS: tuple[Kind, ...] = (*HOME_KINDS, *FOREIGN_KINDS)


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


class CertificateRef(Model):
    """A Secret of type kubernetes.io/tls in the Worker's namespace: `tls.crt` and `tls.key` in PEM."""

    name: str = Field(min_length=1)


class MutualTls(Tls):
    """TLS in which the client may have to show a certificate of its own."""

    client_certificate_secret_ref: CertificateRef | None = None


class Server(Model):
    """What every provider with a server of its own has. `timeout`: of one command; `poolSize`: connections of each
    host."""

    credentials_secret_ref: SecretRef | None = None
    tls: Tls | None = None
    timeout: Milliseconds = 2000
    pool_size: Whole = Field(default=8, ge=1, le=256)

    @property
    def client_certificate_ref(self) -> CertificateRef | None:
        return self.tls.client_certificate_secret_ref if isinstance(self.tls, MutualTls) else None


class Sentinel(Model):
    """Sentinels that name the present master: `addresses` as host:port. They are asked over the provider's TLS with
    credentials of their own."""

    master_name: str = Field(min_length=1, max_length=256)
    addresses: tuple[str, ...] = Field(min_length=1, max_length=16)
    database: Whole = Field(default=0, ge=0, le=65535)
    credentials_secret_ref: SecretRef | None = None

    @field_validator("addresses")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            host, _, port = address.rpartition(":")
            if not host or "/" in host or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
                raise ValueError(f"{address!r} must be host:port, such as sentinel-0.redis:26379")
        return value


class Redis(Server):
    """A Redis or Valkey server (7.0 or newer): one (`url`), one that Sentinels name (`sentinel`), or a Redis Cluster
    (`url` of any of its nodes, `cluster`). A commit is acknowledged when `waitReplicas` replicas have it, too."""

    url: str | None = None
    sentinel: Sentinel | None = None
    cluster: Flag = False
    wait_replicas: Whole = Field(default=0, ge=0, le=16)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return value if value is None else _server_url(value, ("redis", "rediss"), "redis://host:port/database")

    @model_validator(mode="after")
    def _one_kind(self) -> Redis:
        if (self.url is None) == (self.sentinel is None):
            raise ValueError("give exactly one of url and sentinel")
        if self.cluster and self.url is None:
            raise ValueError("cluster needs url, of any node; Sentinels do not watch a Redis Cluster")
        if self.cluster and urlsplit(self.url or "").path not in ("", "/", "/0"):
            raise ValueError("a Redis Cluster has database 0 only: leave the database out of url")
        return self


class Postgres(Server):
    """A PostgreSQL server (13 or newer): of several hosts in the url the one that takes writes. The tables are made in
    `schema`, which the role must own or be able to make."""

    url: str
    schema_name: str = Field(default="perdure", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        found = _server_url(value, ("postgres", "postgresql"), "postgres://host:port/database")
        if not urlsplit(found).path.strip("/"):
            raise ValueError("must name the database: postgres://host:port/database")
        return found

    @field_validator("schema_name")
    @classmethod
    def _check_schema(cls, value: str) -> str:
        if value.startswith("pg_"):
            raise ValueError("must not begin with pg_, which PostgreSQL keeps for itself")
        return value


def _members(value: tuple[str, ...], schemes: tuple[str, str], example: str) -> tuple[str, ...]:
    """URLs of one cluster: with ports, without paths, all of the same scheme."""
    found = tuple(_server_url(url, schemes, example).rstrip("/") for url in value)
    parts = [urlsplit(url) for url in found]
    if any(part.path or part.port is None for part in parts):
        raise ValueError(f"must be {example} ({schemes[1]}:// for TLS), without a path")
    if len({part.scheme for part in parts}) > 1:
        raise ValueError(f"must be all {schemes[0]}:// or all {schemes[1]}://")
    return found


def _server_url(value: str, schemes: tuple[str, ...], example: str) -> str:
    secure = next((scheme for scheme in ("rediss", "https", "tls") if scheme in schemes), None)
    more = f" ({secure}:// for TLS)" if secure else ""
    wrong = ValueError(f"must be {example}{more}")
    try:
        parts = urlsplit(value)
        # One host but for PostgreSQL, which takes several; with the port's range checked where it is read.
        hosts = parts.netloc.rpartition("@")[2].split(",")
        servers = [urlsplit(f"//{host}") for host in (hosts if "postgres" in schemes else [",".join(hosts)])]
        if parts.scheme not in schemes or not all(server.hostname and server.port != 0 for server in servers):
            raise wrong
    except ValueError:
        raise wrong from None
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials: name a Secret in credentialsSecretRef")
    if parts.query or parts.fragment:
        raise ValueError("must not hold options after ?: they have fields of their own")
    return value


class Etcd(Server):
    """An etcd cluster (3.5 or newer) by its JSON gateway. `maxRequestBytes`, `maxTxnOps`: the servers' own
    `--max-request-bytes` and `--max-txn-ops`; `keyPrefix` begins every key."""

    endpoints: tuple[str, ...] = Field(min_length=1, max_length=16)
    tls: MutualTls | None = None
    key_prefix: str = Field(default="perdure/", pattern=r"^[A-Za-z0-9._/-]{1,128}$")
    max_request_bytes: Bytes = Field(default=1536 << 10, ge=64 << 10, le=64 << 20)
    max_txn_ops: Whole = Field(default=128, ge=8, le=10_000)

    @field_validator("endpoints")
    @classmethod
    def _check_endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _members(value, ("http", "https"), "http://host:port")

    @model_validator(mode="after")
    def _tls_where_it_is_spoken(self) -> Etcd:
        if self.tls is not None and not self.endpoints[0].startswith("https:"):
            raise ValueError("tls needs endpoints with https://")
        return self


class Nats(Server):
    """A NATS cluster (2.12 or newer) with JetStream: one key-value stream, `bucket`, made with `replicas` where it is
    missing. `maxPayload`, `maxBatch`: the servers' own `max_payload` and `jetstream.limits.batch.max_msgs`. Without a
    user name the Secret's password is a token. `poolSize`: operations of a host under way, over one connection."""

    servers: tuple[str, ...] = Field(min_length=1, max_length=16)
    tls: MutualTls | None = None
    bucket: str = Field(default="perdure", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    replicas: Whole = Field(default=1, ge=1, le=5)
    max_payload: Bytes = Field(default=1 << 20, ge=16 << 10, le=64 << 20)
    max_batch: Whole = Field(default=1000, ge=8, le=10_000)

    @field_validator("servers")
    @classmethod
    def _check_servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _members(value, ("nats", "tls"), "nats://host:port")

    @model_validator(mode="after")
    def _tls_where_it_is_spoken(self) -> Nats:
        if self.tls is not None and not self.servers[0].startswith("tls:"):
            raise ValueError("tls needs servers with tls://")
        return self


class Sqlite(Model):
    """An SQLite file on a volume of the Worker's own: one host, no server."""

    size: Bytes = 1 << 30
    storage_class_name: str | None = None


Level = Literal["D0", "D1", "D2", "D3", "D4"]


class Probe(Model):
    """How the operator finds out whether the provider can be used: by a Job each `interval`, and after each change. It
    runs in `namespace` (None: the operator's own), where the Secrets must be too; `pod`: what the cluster asks."""

    enabled: Flag = True
    interval: Milliseconds = 600_000
    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    pod: ProbePod = ProbePod()

    @field_validator("interval")
    @classmethod
    def _check_interval(cls, value: int) -> int:
        if not 10_000 <= value <= 24 * 3_600_000:
            raise ValueError("must be from 10s to 24h")
        return value


class Memory(Model):
    """The host's memory: nothing survives the pod. For tests."""


class KeyValueProviderSpec(Model):
    """Exactly one of `redis`, `postgres`, `sqlite`, `memory`, `etcd` and `nats`. `minDurability`: what the platform
    team counts on; a weaker provider says so in its status."""

    default: Flag = False
    allowed_namespaces: tuple[str, ...] = ("*",)
    min_durability: Level | None = None
    probe: Probe = Probe()
    redis: Redis | None = None
    postgres: Postgres | None = None
    sqlite: Sqlite | None = None
    memory: Memory | None = None
    etcd: Etcd | None = None
    nats: Nats | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> KeyValueProviderSpec:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_KINDS)} (found: {', '.join(given) or 'none'})")
        if self.default and given[0] in FOREIGN_KINDS:
            raise ValueError(f"{given[0]} serves buckets only: it cannot be the default provider of Workers")
        return self

    @property
    def kind(self) -> Kind:
        return next(name for name in _KINDS if getattr(self, name) is not None)

    @property
    def server(self) -> Server | None:
        """What it is reached with, where it is a server of its own."""
        return self.redis or self.postgres or self.etcd or self.nats

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
