"""The host's configuration: from manifests and command line to one frozen object. Pure but for reading files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from perdure.durable.effects import Scope
from perdure.durable.feeds import FeedBounds
from perdure.durable.policy import BucketCatalog, BucketLimits, BucketPolicy, CachePolicy, WatchPolicy
from perdure.durable.records import WorkerId
from perdure.errors import ManifestError
from perdure.manifests.base import Metadata
from perdure.manifests.effective import EffectiveConfig, resolve
from perdure.manifests.load import load_manifests
from perdure.manifests.provider import KeyValueProvider, KeyValueProviderSpec, Sqlite
from perdure.manifests.worker import Bucket, ComponentSource, KeyValue, Watch, Worker, WorkerSpec
from perdure.wasi.files.tree import Mount

LOCAL_PROVIDER = "local"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """`listen`, `metrics_listen`: (address, port). `advertise`: the URL other hosts reach this one by.
    `component_digest`: the pinned sha256, refused when the bytes differ. `base`: where relative files are."""

    host: str
    effective: EffectiveConfig
    listen: tuple[str, int]
    metrics_listen: tuple[str, int]
    advertise: str
    data: Path
    secrets: Path
    base: Path
    cache: Path | None = None
    component_file: Path | None = None
    component_digest: str | None = None
    insecure_registries: tuple[str, ...] = ()
    grace: float = 25.0
    settle: float = 3.0
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def worker(self) -> Worker:
        return self.effective.worker

    @property
    def worker_id(self) -> WorkerId:
        return WorkerId(self.worker.namespace, self.worker.name)


def mounts_of(config: HostConfig, root: Path = Path("/etc/perdure/files")) -> tuple[Mount, ...]:
    """Where the directories of `spec.files` are. `root`: where the operator mounts them, by their number. Raises
    `ManifestError` for one that is not there."""
    found: list[Mount] = []
    for index, files in enumerate(config.worker.spec.files):
        directory = root / str(index) if files.directory is None else config.base / files.directory
        if not directory.is_dir():
            hint = "" if files.directory is not None else "; on a laptop give directory: in its place"
            raise ManifestError(f"there is no directory {directory}{hint}", field=f"spec.files[{index}]")
        found.append(Mount(files.mount_path, directory))
    return tuple(found)


def parse_address(text: str, *, option: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080`. Raises `ManifestError` naming the option."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ManifestError(f"{text!r} is not an address; write it as 127.0.0.1:8080", field=option)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host is asked for by the caller


def namespace_apart(provider: str) -> str:
    """Under which name a provider's Namespace buckets are foreign ones. No manifest can have that name."""
    return f"{provider}/namespace"


def catalog_of(
    effective: EffectiveConfig, apart: Collection[str] = (), limits: Mapping[str, BucketLimits] | None = None
) -> BucketCatalog:
    """The engine's view of the bucket configuration. `apart`: providers whose Namespace buckets do not commit together
    with others (`Store.namespace_is_home`); `limits`: of the providers."""

    def policy(bucket: Bucket) -> BucketPolicy:
        name = effective.bucket_provider(bucket.provider).name
        bounds = (limits or {}).get(name, BucketLimits())
        return BucketPolicy(
            name=bucket.name,
            provider=namespace_apart(name) if bucket.scope == "Namespace" and name in apart else name,
            scope=Scope(bucket.scope),
            read_only=bucket.access == "ReadOnly",
            ttl_ms=bucket.ttl,
            max_key_bytes=min(bucket.max_key_bytes, bounds.key_bytes or bucket.max_key_bytes),
            max_value_bytes=min(bucket.max_value_bytes, bounds.value_bytes or bucket.max_value_bytes),
            physical=bucket.physical_name,
            limits=bounds,
            max_keys=bucket.max_keys,
            watch=_watch(bucket.watch),
        )

    section = effective.worker.spec.key_value
    policies = tuple(policy(bucket) for bucket in section.buckets)
    return BucketCatalog(
        policies,
        home=effective.home.name,
        undeclared=section.undeclared_buckets == "Allow",
        cache=CachePolicy(section.cache.bucket, section.cache.vacancy_lease),
    )


def _watch(watch: Watch | None) -> WatchPolicy | None:
    if watch is None:
        return None
    return WatchPolicy(watch.instance, FeedBounds(watch.max_changes, watch.max_bytes))


def effective_from_file(path: Path, *, worker: str | None, local: bool) -> EffectiveConfig:
    """The Worker of a manifest file (or, `local`, of a bare component) with its providers.

    `worker`: `name` or `namespace/name`, needed when the file has several. `local`: SQLite stands in where no
    provider is named. Raises `ManifestError`.
    """
    if local and path.suffix == ".wasm":
        return resolve(_worker_for(path), [_local_provider()])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    found = load_manifests(text, source=path.name)
    chosen = _choose(found.workers, worker, path)
    providers = list(found.providers)
    if local and not any(provider.spec.default for provider in providers):
        providers.append(_local_provider())
    if local and chosen.spec.replicas > 1:
        # One process stands for all replicas.
        chosen = chosen.model_copy(update={"spec": chosen.spec.model_copy(update={"replicas": 1})})
    return resolve(chosen, providers)


def _choose(workers: tuple[Worker, ...], wanted: str | None, path: Path) -> Worker:
    if wanted is not None:
        for worker in workers:
            if wanted in (worker.name, f"{worker.namespace}/{worker.name}"):
                return worker
        raise ManifestError(f"{path.name} has no Worker {wanted}")
    if len(workers) != 1:
        names = ", ".join(worker.name for worker in workers) or "none"
        raise ManifestError(f"{path.name} must have one Worker, or name one with --worker (found: {names})")
    return workers[0]


def _local_provider() -> KeyValueProvider:
    spec = KeyValueProviderSpec(default=True, sqlite=Sqlite())
    return KeyValueProvider(metadata=Metadata(name=LOCAL_PROVIDER), spec=spec)


def _worker_for(path: Path) -> Worker:
    """A component without a manifest: its buckets are undeclared, allowed, and shared by its instances."""
    source = ComponentSource(url=f"file:{path.name}")
    return Worker(
        metadata=Metadata(name=path.stem),
        spec=WorkerSpec(component=source, key_value=KeyValue(undeclared_buckets="Allow")),
    )
