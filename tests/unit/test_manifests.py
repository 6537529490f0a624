"""Manifests: what is accepted, and errors that name the field."""

from __future__ import annotations

import pytest

from perdure.errors import ManifestError
from perdure.manifests import load_manifests
from perdure.manifests.effective import ProviderProblem, resolve
from perdure.manifests.units import parse_bytes, parse_milliseconds

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: carts, namespace: shop}
spec:
  component: {COMPONENT}
  replicas: 2
  keyValue: {KEYVALUE}
"""
PROVIDER = """
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: NAME}
spec: {SPEC}
"""


def worker(component: str = "url: 'file:x.wasm'", key_value: str = "") -> str:
    return WORKER.replace("COMPONENT", component).replace("KEYVALUE", key_value)


def more(section: str) -> str:
    return worker() + f"  {section}\n"


def provider(name: str, spec: str) -> str:
    return PROVIDER.replace("NAME", name).replace("SPEC", spec)


@pytest.mark.parametrize(("text", "size"), [("64Ki", 65536), ("1.5Mi", 1572864), ("10k", 10000), (7, 7)])
def test_quantities(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(("text", "ms"), [("100ms", 100), ("30s", 30_000), ("1h30m", 5_400_000), ("0.5s", 500)])
def test_durations(text: str, ms: int) -> None:
    assert parse_milliseconds(text) == ms


@pytest.mark.parametrize("text", ["", "1x", "-1s", "s", "1", 5, None, True, [1], "0s"])
def test_bad_durations(text: object) -> None:
    with pytest.raises(ValueError):
        parse_milliseconds(text)


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        (worker("url: a, image: b"), "spec.component", "exactly one"),
        (worker("url: 'https://x/y.wasm'"), "spec.component", "sha256"),
        (
            worker("persistentVolumeClaim: {claimName: c, path: ../x}"),
            "spec.component.persistentVolumeClaim.path",
            "..",
        ),
        (worker("url: 'file:x', sha256: abc"), "spec.component.sha256", "64"),
        (worker(key_value="bucket: []"), "spec.keyValue.bucket", "did you mean buckets"),
        (worker(key_value="buckets: [{name: a, ttl: 5s}, {name: a}]"), "spec.keyValue.buckets", "twice"),
        (worker(key_value="buckets: [{name: a, ttl: 5}]"), "spec.keyValue.buckets[0].ttl", "such as 5s or 5ms"),
        (worker(key_value='buckets: [{name: "a\\x1fb"}]'), "spec.keyValue.buckets[0].name", "U+001F"),
        (
            worker(key_value='buckets: [{name: a, physicalName: "\\x1fpromises"}]'),
            "spec.keyValue.buckets[0].physicalName",
            "U+001F",
        ),
        (worker(key_value="buckets: [{name: a, scope: Global}]"), "spec.keyValue.buckets[0].scope", "Worker"),
        (
            worker(key_value="buckets: [{name: a, maxValueBytes: 1Zi}]"),
            "spec.keyValue.buckets[0].maxValueBytes",
            "64Ki",
        ),
        (worker(key_value="buckets: [{name: a, maxKeys: 0}]"), "spec.keyValue.buckets[0].maxKeys", "1"),
        (worker(key_value="buckets: [{name: a, maxKeys: 1Ki}]"), "spec.keyValue.buckets[0].maxKeys", "integer"),
        (provider("p", "redis: {url: 'redis://h'}, memory: {}"), "spec", "exactly one"),
        (provider("p", "redis: {url: 'redis://u:secret@h'}"), "spec.redis.url", "credentialsSecretRef"),
        (provider("p", "redis: {url: 'http://h'}"), "spec.redis.url", "redis://"),
        (provider("p", "redis: {}"), "spec.redis", "exactly one of url and sentinel"),
        (provider("p", "redis: {sentinel: {masterName: m, addresses: []}}"), "spec.redis.sentinel.addresses", "1 item"),
        (provider("p", "redis: {sentinel: {masterName: m, addresses: [h]}}"), "spec.redis.sentinel.addresses", "26379"),
        (
            provider("p", "redis: {cluster: true, sentinel: {masterName: m, addresses: ['h:1']}}"),
            "spec.redis",
            "any node",
        ),
        (provider("p", "redis: {cluster: true, url: 'redis://h/3'}"), "spec.redis", "database 0"),
        (provider("p", "redis: {url: 'redis://h', waitReplicas: -1}"), "spec.redis.waitReplicas", "0"),
        (provider("p", "redis: {url: 'redis://h?db=1'}"), "spec.redis.url", "fields of their own"),
        (provider("p", "redis: {url: 'redis://h:0'}"), "spec.redis.url", "redis://host"),
        (provider("p", "redis: {url: 'redis://h:x'}"), "spec.redis.url", "redis://host"),
        (provider("p", "postgres: {url: 'postgres://h'}"), "spec.postgres.url", "database"),
        (provider("p", "postgres: {url: 'postgres://u:secret@h/d'}"), "spec.postgres.url", "credentialsSecretRef"),
        (provider("p", "postgres: {url: 'redis://h/d'}"), "spec.postgres.url", "postgres://"),
        (provider("p", "postgres: {url: 'postgres://h/d', schema: 'a-b'}"), "spec.postgres.schema", "pattern"),
        (provider("p", "postgres: {url: 'postgres://h/d', schema: pg_mine}"), "spec.postgres.schema", "pg_"),
        (provider("p", "nats: {servers: ['http://h:1']}"), "spec.nats.servers", "nats://host:port"),
        (provider("p", "nats: {servers: ['nats://h:1'], bucket: 'a.b'}"), "spec.nats.bucket", "pattern"),
        (provider("p", "nats: {servers: ['nats://h:1'], tls: {}}"), "spec.nats", "tls://"),
        (provider("p", "nats: {servers: ['nats://token@h:1']}"), "spec.nats.servers", "credentialsSecretRef"),
        (provider("p", "etcd: {endpoints: ['http://h']}"), "spec.etcd.endpoints", "http://host:port"),
        (provider("p", "etcd: {endpoints: ['http://u:secret@h:1']}"), "spec.etcd.endpoints", "credentialsSecretRef"),
        (provider("p", "etcd: {endpoints: ['http://h:1', 'https://i:1']}"), "spec.etcd.endpoints", "all http"),
        (provider("p", "etcd: {endpoints: ['http://h:1'], tls: {}}"), "spec.etcd", "https://"),
        (provider("p", "etcd: {endpoints: ['http://h:1'], maxTxnOps: 2}"), "spec.etcd.maxTxnOps", "8"),
        (provider("p", "default: true, etcd: {endpoints: ['http://h:1']}"), "spec", "buckets only"),
        (provider("p", "postgres: {url: 'postgres://a:1,b:x/d'}"), "spec.postgres.url", "postgres://"),
        (provider("p", "redis: {url: 'redis://a:1,b:2'}"), "spec.redis.url", "redis://"),
        (provider("p", "redis: {url: 'redis://@h'}"), "spec.redis.url", "credentialsSecretRef"),
        (worker(key_value='buckets: [{name: a, maxKeys: "3"}]'), "spec.keyValue.buckets[0].maxKeys", "integer"),
        (worker(key_value="buckets: [{name: a, maxKeys: true}]"), "spec.keyValue.buckets[0].maxKeys", "integer"),
        (worker(key_value="buckets: [{name: a, maxKeys: 3.0}]"), "spec.keyValue.buckets[0].maxKeys", "integer"),
        (worker(key_value="buckets: {a: {}}"), "spec.keyValue.buckets", "must be a list"),
        (worker(key_value="buckets: [a]"), "spec.keyValue.buckets[0]", "must be an object"),
        (more("config: [a]"), "spec.config", "must be an object"),
        (more("config: {a: 1}"), "spec.config.a", "must be text"),
        (more("env: {A: b}"), "spec.env", "must be a list"),
        (more("env: [{name: A, value: 1}]"), "spec.env[0].value", "must be text"),
        (more('env: [{name: A, value: "a\\0b"}]'), "spec.env[0].value", "U+0000"),
        (more('env: [{name: "A\\0", value: a}]'), "spec.env[0].name", "U+0000 or ="),
        (more("env: [{name: A=B, value: a}]"), "spec.env[0].name", "U+0000 or ="),
        (
            more("env: [{name: A, value: a}, {name: B, value: b}, {name: A, value: c}]"),
            "spec.env",
            "'A' is given twice",
        ),
        (more("durability: null"), "spec.durability", "must be an object"),
        (provider("p", "default: 'yes', memory: {}"), "spec.default", "true or false"),
        (more("durability: {commit: Never}"), "spec.durability.commit", "Effect"),
        (more("durability: {maxResults: 0}"), "spec.durability.maxResults", "1"),
        (more("durability: {replayBudget: '100'}"), "spec.durability.replayBudget", "unit"),
        (more("durability: {maxJournalEntry: 1}"), "spec.durability.maxJournalEntry", "did you mean maxJournalEntries"),
        (
            worker(key_value="buckets: [{name: b, scope: Instance, watch: {instance: r}}]"),
            "spec.keyValue.buckets[0]",
            "a bucket of scope Instance cannot be watched",
        ),
        (worker(key_value="buckets: [{name: b, watch: {}}]"), "spec.keyValue.buckets[0].watch.instance", "required"),
        (
            worker(key_value='buckets: [{name: b, watch: {instance: "a\\nb"}}]'),
            "spec.keyValue.buckets[0].watch.instance",
            "printable",
        ),
        (
            worker(key_value="buckets: [{name: b, watch: {instance: r, maxChanges: 0}}]"),
            "spec.keyValue.buckets[0].watch.maxChanges",
            "1",
        ),
        (more("retry: {maxAttempts: 0}"), "spec.retry.maxAttempts", "1"),
        (more("retry: {multiplier: 0.5}"), "spec.retry.multiplier", "from 1 to 10"),
        (more("retry: {multiplier: '1e3'}"), "spec.retry.multiplier", "from 1 to 10"),
        (more("retry: {multiplier: .nan}"), "spec.retry.multiplier", "from 1 to 10"),
        (more("retry: {initialInterval: 10m}"), "spec.retry", "maxInterval"),
        (more("retry: {failures: [Oops]}"), "spec.retry.failures[0]", "Trap"),
        (more("update: Never"), "spec.update", "Restart"),
        (more("limits: {maxPendingPerInstance: -1}"), "spec.limits.maxPendingPerInstance", "0"),
        ("apiVersion: perdure.dev/v2\nkind: Worker", "apiVersion", "v1alpha1"),
        ("apiVersion: perdure.dev/v1alpha1\nkind: Wurker", "kind", "Worker"),
    ],
)
def test_errors_name_the_field(text: str, field: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, source="w.yaml")
    assert caught.value.field == field
    assert said in caught.value.detail and "secret" not in caught.value.detail.replace("credentialsSecretRef", "")


@pytest.mark.parametrize("text", ["a: [", "- 1", "&a [*a]", "x: !!python/object:os.system {}", "\0", "? [a]\n: b"])
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(ManifestError):
        load_manifests(text, source="w.yaml")


def test_what_is_given_twice_is_said() -> None:
    for text in (
        worker(key_value="undeclaredBuckets: Deny, undeclaredBuckets: Allow"),
        more("replicas: 1\n  replicas: 2"),
    ):
        with pytest.raises(ManifestError, match=r"(undeclaredBuckets|replicas) is given twice"):
            load_manifests(text, source="w.yaml")


def test_other_kinds_are_skipped() -> None:
    found = load_manifests("apiVersion: v1\nkind: Secret\n---\n" + worker(), source="w.yaml")
    assert [w.name for w in found.workers] == ["carts"]


def test_durations_of_the_engine_are_milliseconds() -> None:
    text = more("durability: {commit: Effect, replayBudget: 50ms, maxJournalBytes: 1Mi}") + (
        "  retry: {initialInterval: 500ms, maxInterval: 1m, multiplier: '1.5', failures: [Trap]}\n  update: Pin\n"
    )
    (found,) = load_manifests(text, source="w.yaml").workers
    durability, retry = found.spec.durability, found.spec.retry
    assert (durability.commit, durability.replay_budget, durability.max_journal_bytes) == ("Effect", 50, 1 << 20)
    assert (retry.initial_interval, retry.max_interval, retry.multiplier) == (500, 60_000, 1.5)
    assert (retry.failures, found.spec.update) == (("Trap",), "Pin")


def test_the_kinds_of_redis_and_postgres() -> None:
    text = "\n---\n".join(
        [
            provider("s", "redis: {sentinel: {masterName: m, addresses: ['a:26379', '[::1]:26379']}, waitReplicas: 1}"),
            provider("c", "redis: {url: 'rediss://node:6379', cluster: true}"),
            provider("p", "postgres: {url: 'postgresql://h:5432,i:5432/d', schema: mine, poolSize: 4}"),
        ]
    )
    sentinel, cluster, postgres = (found.spec for found in load_manifests(text, source="p.yaml").providers)
    assert sentinel.redis is not None and sentinel.redis.sentinel is not None
    assert sentinel.redis.sentinel.addresses == ("a:26379", "[::1]:26379") and sentinel.redis.wait_replicas == 1
    assert cluster.redis is not None and cluster.redis.cluster and cluster.server is cluster.redis
    assert postgres.postgres is not None and postgres.postgres.schema_name == "mine"
    assert [found.kind for found in (sentinel, cluster, postgres)] == ["redis", "redis", "postgres"]


def resolved(workers: str, *providers: str) -> str:
    found = load_manifests("\n---\n".join([workers, *providers]), source="w.yaml")
    return resolve(found.workers[0], found.providers).home.name


def test_provider_selection() -> None:
    memory, redis = provider("m", "memory: {}, default: true"), provider("r", "redis: {url: 'redis://h'}")
    assert resolved(worker(), memory, redis) == "m"
    assert resolved(worker(key_value="provider: r"), memory, redis) == "r"


@pytest.mark.parametrize(
    ("text", "providers", "said"),
    [
        (worker(key_value="provider: shared-redis"), [], "KeyValueProvider shared-redis not found"),
        (worker(), [], "no KeyValueProvider is the default"),
        (worker(), [provider("a", "memory: {}, default: true"), provider("b", "memory: {}, default: true")], "several"),
        (
            worker(),
            [provider("a", "memory: {}, default: true, allowedNamespaces: [other]")],
            "does not allow namespace",
        ),
        (worker(), [provider("a", "sqlite: {}, default: true")], "one replica"),
        (
            worker(key_value="provider: far"),
            [provider("far", "etcd: {endpoints: ['http://h:1']}")],
            "far (etcd) serves buckets only",
        ),
        (
            worker(key_value="buckets: [{name: cache, provider: far}]"),
            [provider("a", "memory: {}, default: true"), provider("far", "etcd: {endpoints: ['http://h:1']}")],
            "far (etcd) cannot have the cache's bucket",
        ),
        (
            worker(key_value="buckets: [{name: b, provider: far, watch: {instance: r}}]"),
            [provider("a", "memory: {}, default: true"), provider("far", "nats: {servers: ['nats://h:1']}")],
            "far (nats) keeps no feed of changes: the buckets that can be watched are those of",
        ),
        (
            worker(
                key_value="buckets: [{name: b, watch: {instance: r}}, "
                "{name: c, provider: a, physicalName: b, watch: {instance: s}}]"
            ),
            [provider("a", "memory: {}, default: true")],
            "buckets 'b' and 'c' are one bucket of KeyValueProvider a",
        ),
        (
            worker(key_value="buckets: [{name: b, provider: gone}]"),
            [provider("a", "memory: {}, default: true")],
            "KeyValueProvider gone not found (spec.keyValue.buckets[0].provider)",
        ),
    ],
)
def test_provider_problems_in_words(text: str, providers: list[str], said: str) -> None:
    with pytest.raises(ProviderProblem) as caught:
        resolved(text, *providers)
    assert said in caught.value.detail
