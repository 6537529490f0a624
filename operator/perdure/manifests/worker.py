"""`Worker`: a component, its configuration and its pods."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from perdure.manifests.base import Bytes, Factor, Metadata, Milliseconds, Model, Whole
from perdure.manifests.pod_template import PodTemplate
from perdure.manifests.provider import Tls

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def _digest(value: str | None) -> str | None:
    if value is None:
        return None
    match = _SHA256.fullmatch(value)
    if match is None:
        raise ValueError("must be 64 hexadecimal digits, with or without sha256: before them")
    return match.group(1).lower()


class ConfigMapSource(Model):
    """A component in a ConfigMap's `binaryData` (at most 1 MiB)."""

    name: str = Field(min_length=1)
    key: str = "component.wasm"


def _within_volume(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("must be a path within the volume, without / in front and without ..")
    return value


class VolumeSource(Model):
    """A component on a PersistentVolumeClaim of the Worker's namespace."""

    claim_name: str = Field(min_length=1)
    path: Annotated[str, Field(min_length=1), AfterValidator(_within_volume)]


class LocalReference(Model):
    """An object of the same namespace, by name."""

    name: str = Field(min_length=1)


class ComponentSource(Model):
    """Exactly one source. `sha256` is required for `url` (unless it is a file:) and for persistentVolumeClaim."""

    image: str | None = None
    pull_secrets: tuple[LocalReference, ...] = ()
    url: str | None = None
    sha256: str | None = None
    config_map: ConfigMapSource | None = None
    persistent_volume_claim: VolumeSource | None = None

    _normal_digest = field_validator("sha256")(staticmethod(_digest))

    @model_validator(mode="after")
    def _exactly_one(self) -> ComponentSource:
        sources = {
            "image": self.image,
            "url": self.url,
            "configMap": self.config_map,
            "persistentVolumeClaim": self.persistent_volume_claim,
        }
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of image, url, configMap, persistentVolumeClaim "
                f"(found: {', '.join(given) or 'none'})"
            )
        if self.url is not None:
            scheme = self.url.partition(":")[0]
            if scheme not in ("https", "http", "file"):
                raise ValueError("url must begin with https:, http: or file:")
            if scheme != "file" and self.sha256 is None:
                raise ValueError("a url needs its sha256: what is behind it may change")
        if self.persistent_volume_claim is not None and self.sha256 is None:
            raise ValueError("persistentVolumeClaim needs the component's sha256")
        return self


class Watch(Model):
    """Which instance is told of a bucket's changes. So many changes, or bytes of keys and values, may wait for it;
    beyond, commits that change the bucket are refused."""

    instance: str = Field(min_length=1, max_length=256)
    max_changes: Whole = Field(default=10_000, ge=1, le=1_000_000)
    max_bytes: Annotated[Bytes, Field(ge=1, le=4 << 30)] = 64 << 20

    @field_validator("instance")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if len(value.encode()) > 256 or not value.isprintable():
            raise ValueError("must have 1 to 256 bytes of printable characters, as the names of instances have")
        return value


class Bucket(Model):
    """One declared bucket. `physicalName`: its name in the provider, where it differs."""

    name: str = Field(min_length=1, max_length=1024)
    provider: str | None = None
    scope: Literal["Worker", "Instance", "Namespace"] = "Worker"
    access: Literal["ReadWrite", "ReadOnly"] = "ReadWrite"
    ttl: Milliseconds | None = None
    max_value_bytes: Bytes = 16 << 20
    max_key_bytes: Bytes = 1024
    max_keys: Whole | None = Field(default=None, ge=1, le=1_000_000_000)
    physical_name: str | None = Field(default=None, min_length=1, max_length=1024)
    watch: Watch | None = None

    @model_validator(mode="after")
    def _others_write(self) -> Bucket:
        if self.watch is not None and self.scope == "Instance":
            raise ValueError("a bucket of scope Instance cannot be watched: nobody but its own instance writes to it")
        return self

    @field_validator("name", "physical_name")
    @classmethod
    def _not_reserved(cls, value: str | None) -> str | None:
        if value is not None and "\x1f" in value:
            raise ValueError("must not contain the character U+001F: Perdure keeps buckets of its own under such names")
        return value


class CacheSettings(Model):
    """The first generations' `cache`: which bucket it is, and how long a vacancy is one caller's to fill."""

    bucket: str = Field(default="cache", min_length=1, max_length=1024)
    vacancy_lease: Milliseconds = Field(default=10_000, ge=1)


class KeyValue(Model):
    """Which provider serves which bucket. Undeclared buckets are denied unless said otherwise."""

    provider: str | None = None
    undeclared_buckets: Literal["Allow", "Deny"] = "Deny"
    buckets: tuple[Bucket, ...] = ()
    cache: CacheSettings = CacheSettings()

    @field_validator("buckets")
    @classmethod
    def _distinct(cls, value: tuple[Bucket, ...]) -> tuple[Bucket, ...]:
        names = [bucket.name for bucket in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"bucket {twice!r} is declared twice")
        return value


class Durability(Model):
    """When effects become durable, whose a guest's memory is, how long results are kept, and when a snapshot takes the
    place of the journal.

    A snapshot is due when replay would take `replayBudget` of the guest's own time, or the journal holds
    `maxJournalEntries` or `maxJournalBytes`. `maxResults`: kept per instance, beside `resultRetention`.
    """

    commit: Literal["Invocation", "Effect"] = "Invocation"
    memory: Literal["Instance", "Invocation"] = "Instance"
    result_retention: Milliseconds = 24 * 3600 * 1000
    max_results: Whole = Field(default=10_000, ge=1, le=1_000_000)
    replay_budget: Milliseconds = 100
    max_journal_entries: Whole = Field(default=1000, ge=1, le=1_000_000)
    max_journal_bytes: Bytes = 4 << 20


FailureKind = Literal["Trap", "Timeout", "Invalid"]


class Retry(Model):
    """How often an accepted asynchronous call is tried, and how long after a failure of the kinds `failures`.

    A failure of another kind, and the last of `maxAttempts`, quarantines the instance with its inbox kept. So do as
    many attempts to go on with a call of any kind, each of which ended with its host.
    """

    max_attempts: Whole = Field(default=5, ge=1, le=1000)
    initial_interval: Milliseconds = 1000
    max_interval: Milliseconds = 300_000
    multiplier: Factor = 2.0
    failures: tuple[FailureKind, ...] = ("Trap", "Timeout")

    @model_validator(mode="after")
    def _grows(self) -> Retry:
        if self.max_interval < self.initial_interval:
            raise ValueError("maxInterval must not be shorter than initialInterval")
        return self


class Limits(Model):
    """Bounds of one host, and of what waits in an instance's inbox (`maxPendingPerInstance`)."""

    memory: Bytes = 64 << 20
    invocation_timeout: Milliseconds = 30_000
    max_instances_in_memory: Whole = Field(default=10_000, ge=1)
    max_body_bytes: Bytes = 1 << 20
    max_queued_per_instance: Whole = Field(default=100, ge=0)
    max_pending_per_instance: Whole = Field(default=1000, ge=0, le=1_000_000)


class KeySelector(Model):
    """A key of a Secret or ConfigMap."""

    name: str = Field(min_length=1)
    key: str = Field(min_length=1)


class EnvSource(Model):
    """Exactly one of the two."""

    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(Model):
    """An environment variable of the guest: `value`, or `valueFrom`."""

    name: str = Field(min_length=1)
    value: str | None = None
    value_from: EnvSource | None = None

    @field_validator("name", "value")
    @classmethod
    def _of_a_process(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and ("\0" in value or (info.field_name == "name" and "=" in value)):
            raise ValueError("must not contain the character U+0000" + (" or =" if info.field_name == "name" else ""))
        return value

    @model_validator(mode="after")
    def _one(self) -> EnvVar:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("give exactly one of value and valueFrom")
        return self


_ALLOWED = re.compile(
    r"(?:(\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII
)


def split_authority(text: str) -> tuple[str, int | None]:
    """`host`, `host:port` or `[address]:port` → the host without brackets, and the port."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    return host, int(port) if port else None


HTTP_CA = "_http-ca"
"""Where in the directory of Secrets the one of `spec.http.tls.caSecretRef` is; no provider can be named so."""


class Http(Model):
    """Requests that guests make. `allow`: where to; nowhere unless said. `timeout`: for a request and its whole answer.
    `maxBodyBytes`: of either body. `tls`: the authority in its Secret is trusted beside the system's."""

    allow: tuple[str, ...] = Field(default=(), max_length=1000)
    timeout: Milliseconds = 30_000
    max_body_bytes: Annotated[Bytes, Field(le=64 << 20)] = 16 << 20
    tls: Tls | None = None

    @field_validator("allow")
    @classmethod
    def _well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            port = split_authority(entry)[1] if _ALLOWED.fullmatch(entry) else 0
            if port is not None and not 0 < port <= 65535:
                raise ValueError(
                    f"{entry!r} is not a host; write it as api.example.com, *.example.com, 10.0.0.7 or [fd00::7], "
                    "with :port where it is not the scheme's own"
                )
        return value


class FilesVolume(Model):
    """A directory of a PersistentVolumeClaim, which is mounted read-only."""

    claim_name: str = Field(min_length=1)
    path: Annotated[str, AfterValidator(_within_volume)] = ""


class Files(Model):
    """Files that guests may read under `mountPath`: exactly one of the three. `directory`: for `perdure run`, relative
    to the manifest."""

    mount_path: str = Field(min_length=2, max_length=255, pattern=r"^(/[^/]+)+$")
    config_map: LocalReference | None = None
    persistent_volume_claim: FilesVolume | None = None
    directory: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Files:
        given = (self.config_map, self.persistent_volume_claim, self.directory)
        if sum(source is not None for source in given) != 1:
            raise ValueError("give exactly one of configMap, persistentVolumeClaim and directory")
        if any(part in (".", "..") for part in self.mount_path.split("/")):
            raise ValueError("mountPath must not have . or .. in it")
        return self


class ServiceSpec(Model):
    """The Worker's Service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    annotations: dict[str, str] = {}


class WorkerSpec(Model):
    """The desired state."""

    component: ComponentSource
    replicas: Whole = Field(default=1, ge=0, le=1000)
    key_value: KeyValue = KeyValue(undeclared_buckets="Allow")
    durability: Durability = Durability()
    retry: Retry = Retry()
    update: Literal["Restart", "Pin", "Migrate"] = "Restart"
    limits: Limits = Limits()
    env: tuple[EnvVar, ...] = ()
    config: Annotated[dict[str, str], Field(max_length=1000)] = {}
    http: Http = Http()
    files: Annotated[tuple[Files, ...], Field(max_length=16)] = ()
    service: ServiceSpec = ServiceSpec()
    pod_template: PodTemplate = PodTemplate()
    deletion_policy: Literal["Retain", "Delete"] = "Retain"

    @field_validator("env")
    @classmethod
    def _distinct_names(cls, value: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
        names = [variable.name for variable in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"variable {twice!r} is given twice")
        return value

    @field_validator("files")
    @classmethod
    def _distinct_mounts(cls, value: tuple[Files, ...]) -> tuple[Files, ...]:
        paths = [files.mount_path for files in value]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise ValueError(f"mountPath {twice} is given twice")
        return value


class Worker(Model):
    """The whole resource. `status` is the operator's and not read."""

    api_version: Literal["perdure.dev/v1alpha1"] = "perdure.dev/v1alpha1"
    kind: Literal["Worker"] = "Worker"
    metadata: Metadata
    spec: WorkerSpec
    status: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace
