"""From a manifest to what the engine and the stores are given: each field arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure.component.instance import InstanceLimits
from perdure.durable.observer import Hooks
from perdure.durable.settings import CommitMode, Failure, RetryPolicy, SnapshotPolicy, UpdatePolicy
from perdure.host import stores
from perdure.host.engine import engine_environment
from perdure.manifests.load import parse_provider
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
"""


class Pool:
    limits = InstanceLimits(1 << 20)


def environment(directory: Path, text: str) -> Any:
    manifest = directory / "w.yaml"
    manifest.write_text(text)
    pool: Any = Pool()
    return engine_environment(host_config(manifest, directory), pool, {}, Hooks())


def test_the_engine_gets_what_the_manifest_says(tmp_path: Path) -> None:
    found = environment(tmp_path, WORKER + SET)
    assert (found.commit, found.update) == (CommitMode.EFFECT, UpdatePolicy.MIGRATE)
    assert found.snapshots == SnapshotPolicy(replay_ms=250, entries=50, bytes=1 << 20)
    failures = frozenset({Failure.TIMEOUT, Failure.INVALID})
    assert found.retry == RetryPolicy(3, 2000, 60_000, 1.5, failures)
    assert (found.retention_ms, found.max_results, found.timeout) == (3_600_000, 9, 7.0)


def test_its_defaults_are_the_engines_own(tmp_path: Path) -> None:
    found = environment(tmp_path, WORKER)
    assert (found.commit, found.update) == (CommitMode.INVOCATION, UpdatePolicy.RESTART)
    assert (found.snapshots, found.retry) == (SnapshotPolicy(), RetryPolicy())


def redis(**spec: Any) -> Any:
    document = {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "p"}, "spec": {"redis": spec}}
    found = parse_provider(document).spec.redis
    assert found is not None
    return stores._redis("p", found, Path("/secrets"))


def test_redis_of_every_kind() -> None:
    plain = redis(url="redis://h:7000/3", timeout="1500ms", poolSize=4, waitReplicas=2)
    assert (plain.url, plain.database, plain.timeout, plain.connections) == ("redis://h:7000/3", 3, 1.5, 4)
    assert (plain.tls, plain.ca, plain.sentinels, plain.cluster, plain.wait_replicas) == (False, None, None, False, 2)
    cluster = redis(url="rediss://node", cluster=True, tls={"caSecretRef": {"name": "s", "key": "k.pem"}})
    assert (cluster.cluster, cluster.tls, cluster.ca) == (True, True, Path("/secrets/p-ca/k.pem"))


def test_redis_behind_sentinels_has_credentials_of_two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = redis(sentinel={"masterName": "m", "addresses": ["a:26379", "[::1]:26380"], "database": 4})
    assert found.database == 4 and found.sentinels.master_name == "m"
    assert [(node.host, node.port) for node in found.sentinels.nodes] == [("a", 26379), ("::1", 26380)]
    monkeypatch.setenv("PERDURE_P_PASSWORD", "data")
    monkeypatch.setenv("PERDURE_P_SENTINEL_PASSWORD", "watch")
    assert (found.credentials(), found.sentinels.credentials()) == ((None, "data"), (None, "watch"))
