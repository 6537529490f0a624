"""From a manifest to what the engine and the stores are given: each field arrives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from perdure.component.instance import InstanceLimits
from perdure.durable.environment import GuestLine
from perdure.durable.observer import Hooks
from perdure.durable.records import WorkerId
from perdure.durable.settings import CommitMode, Failure, MemoryMode, RetryPolicy, SnapshotPolicy, UpdatePolicy
from perdure.errors import ManifestError, ProviderUnavailable
from perdure.host import stores
from perdure.host.config import mounts_of
from perdure.host.engine import engine_environment
from perdure.host.stores import OpenStores
from perdure.manifests.load import parse_provider
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.wasi.files.tree import Mount
from support.hosts import host_config
from support.plans import API

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: carts}
spec:
  component: {url: "file:x.wasm"}
  limits: {invocationTimeout: 7s}
"""
SET = """
  durability: {commit: Effect, resultRetention: 1h, maxResults: 9, replayBudget: 250ms, maxJournalEntries: 50,
               maxJournalBytes: 1Mi}
  retry: {maxAttempts: 3, initialInterval: 2s, maxInterval: 1m, multiplier: "1.5", failures: [Timeout, Invalid]}
  update: Migrate
  config: {colour: red, timeout: "7"}
  http: {allow: [a.test], timeout: 5s, maxBodyBytes: 1Mi}
"""


class Pool:
    limits = InstanceLimits(1 << 20)


def environment(directory: Path, text: str) -> Any:
    manifest = directory / "w.yaml"
    manifest.write_text(text)
    pool: Any = Pool()
    home = MemoryStore(MemoryWorld(), WorkerId("default", "w"))
    return engine_environment(host_config(manifest, directory), pool, OpenStores(home, {"local": home}), Hooks())


def test_the_engine_gets_what_the_manifest_says(tmp_path: Path) -> None:
    found = environment(tmp_path, WORKER + SET)
    assert (found.commit, found.update) == (CommitMode.EFFECT, UpdatePolicy.MIGRATE)
    assert found.snapshots == SnapshotPolicy(replay_ms=250, entries=50, bytes=1 << 20)
    failures = frozenset({Failure.TIMEOUT, Failure.INVALID})
    assert found.retry == RetryPolicy(3, 2000, 60_000, 1.5, failures)
    assert found.settings == {"colour": "red", "timeout": "7"}
    assert (found.retention_ms, found.max_results, found.timeout) == (3_600_000, 9, 7.0)


def test_without_memory_that_goes_on_an_update_begins_anew(tmp_path: Path) -> None:
    assert environment(tmp_path, WORKER).memory is MemoryMode.INSTANCE
    found = environment(tmp_path, WORKER + SET.replace("{commit: Effect", "{memory: Invocation, commit: Effect"))
    assert (found.memory, found.update) == (MemoryMode.INVOCATION, UpdatePolicy.RESTART)


def test_a_foreign_provider_is_no_home(tmp_path: Path) -> None:
    far = parse_provider(
        {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "far"},
         "spec": {"etcd": {"endpoints": ["http://h:2379"]}}}
    )  # fmt: skip
    manifest = tmp_path / "w.yaml"
    manifest.write_text(WORKER)
    with pytest.raises(ManifestError, match=r"far \(etcd\) serves buckets only"):
        asyncio.run(stores.open_home(far, host_config(manifest, tmp_path)))


def test_a_foreign_providers_bounds_are_its_buckets(tmp_path: Path) -> None:
    far = """
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: far}
spec:
  etcd:
    endpoints: ["https://h:2379"]
    maxRequestBytes: 128Ki
    maxTxnOps: 20
    credentialsSecretRef: {name: s}
    tls: {clientCertificateSecretRef: {name: t}}
"""
    manifest = tmp_path / "w.yaml"
    buckets = "  keyValue: {buckets: [{name: b, provider: far}, {name: small, provider: far, maxKeyBytes: 8, maxValueBytes: 9, maxKeys: 3}]}"
    manifest.write_text(WORKER + buckets + far)

    async def limits() -> Any:
        config = host_config(manifest, tmp_path)
        opened = await stores.open_stores(config)
        try:
            return engine_environment(config, cast("Any", Pool()), opened, Hooks()).catalog
        finally:
            await stores.close_stores(opened)

    catalog = asyncio.run(limits())
    found, small = catalog.find("b"), catalog.find("small")
    assert found.limits.effects == 16 and found.max_key_bytes == 1024
    assert 64 << 10 < found.max_value_bytes < 128 << 10
    assert (small.max_key_bytes, small.max_value_bytes, small.max_keys) == (8, 9, 3)
    assert found.max_keys is None
    assert catalog.find("b").limits is small.limits


def test_its_defaults_are_the_engines_own(tmp_path: Path) -> None:
    found = environment(tmp_path, WORKER)
    assert (found.commit, found.update) == (CommitMode.INVOCATION, UpdatePolicy.RESTART)
    assert (found.snapshots, found.retry) == (SnapshotPolicy(), RetryPolicy())


def redis(secrets: Path = Path("/secrets"), **spec: Any) -> Any:
    document = {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "p"}, "spec": {"redis": spec}}
    found = parse_provider(document).spec.redis
    assert found is not None
    return stores._redis("p", found, secrets)


def test_redis_of_every_kind(tmp_path: Path) -> None:
    plain = redis(url="redis://h:7000/3", timeout="1500ms", poolSize=4, waitReplicas=2)
    assert (plain.url, plain.database, plain.timeout, plain.connections) == ("redis://h:7000/3", 3, 1.5, 4)
    assert (plain.tls, plain.ca, plain.sentinels, plain.cluster, plain.wait_replicas) == (False, None, None, False, 2)
    with pytest.raises(ProviderUnavailable, match=r"the key 'k.pem' of Secret s is not there \(caSecretRef of"):
        redis(url="rediss://node", tls={"caSecretRef": {"name": "s", "key": "k.pem"}})
    (tmp_path / "p-ca").mkdir()
    (tmp_path / "p-ca" / "k.pem").touch()
    tls = {"caSecretRef": {"name": "s", "key": "k.pem"}}
    cluster = redis(tmp_path, url="rediss://node", cluster=True, tls=tls)
    assert (cluster.cluster, cluster.tls, cluster.ca) == (True, True, tmp_path / "p-ca" / "k.pem")


def test_redis_behind_sentinels_has_credentials_of_two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = redis(sentinel={"masterName": "m", "addresses": ["a:26379", "[::1]:26380"], "database": 4})
    assert found.database == 4 and found.sentinels.master_name == "m"
    assert [(node.host, node.port) for node in found.sentinels.nodes] == [("a", 26379), ("::1", 26380)]
    monkeypatch.setenv("PERDURE_P_PASSWORD", "data")
    monkeypatch.setenv("PERDURE_P_SENTINEL_PASSWORD", "watch")
    assert (found.credentials(), found.sentinels.credentials()) == ((None, "data"), (None, "watch"))


def test_credentials_that_cannot_be_read_are_named_and_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "password").write_bytes(b"hunter\xff")
    read = stores._credentials("p", tmp_path, wanted=True)
    with pytest.raises(
        ProviderUnavailable, match="the password in the Secret of provider 'p' cannot be read"
    ) as refused:
        read()
    assert refused.value.cause == "credentials" and "hunter" not in str(refused.value)
    (folder / "password").write_text("hunter\n")
    assert read() == (None, "hunter")


def test_lines_of_guests_reach_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = environment(tmp_path, WORKER)
    with caplog.at_level("DEBUG", "perdure.guest"):
        found.lines(GuestLine("alice", "key", "critical", "part", "one\ntwo" + "o" * 9000))
    assert [(record.levelname, len(record.getMessage())) for record in caplog.records] == [
        ("CRITICAL", 3),
        ("CRITICAL", 8192),
    ]
    assert caplog.records[0].fields == {"instance": "alice", "invocation": "key", "context": "part"}  # type: ignore[attr-defined]


def test_files_are_where_the_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "pod" / "1").mkdir(parents=True)
    manifest = tmp_path / "w.yaml"
    both = "[{mountPath: /etc/app, directory: static}, {mountPath: /more, configMap: {name: c}}]"
    manifest.write_text(WORKER + f"  files: {both}\n")
    found = mounts_of(host_config(manifest, tmp_path), tmp_path / "pod")
    assert found == (Mount("/etc/app", tmp_path / "static"), Mount("/more", tmp_path / "pod" / "1"))
    with pytest.raises(ManifestError, match=r"spec\.files\[1\]: .*on a laptop give directory"):
        mounts_of(host_config(manifest, tmp_path), tmp_path / "none")
    (tmp_path / "static").rmdir()
    with pytest.raises(ManifestError, match=r"spec\.files\[0\]: there is no directory"):
        environment(tmp_path, WORKER + f"  files: {both}\n")


@pytest.mark.parametrize(
    "files",
    [
        "{mountPath: /a}", "{mountPath: /a, directory: x, configMap: {name: c}}", "{mountPath: a, directory: x}",
        "{mountPath: /, directory: x}", "{mountPath: /a/../b, directory: x}", "{mountPath: /a/, directory: x}",
        "{mountPath: /a, persistentVolumeClaim: {claimName: c, path: ../x}}",
        "{mountPath: /a, directory: x}, {mountPath: /a, directory: y}",
    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path: Path, files: str) -> None:
    with pytest.raises(ManifestError, match=r"spec\.files"):
        environment(tmp_path, WORKER + f"  files: [{files}]\n")
