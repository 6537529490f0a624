"""Which provider keeps what: SQLite on a volume, another Redis for one bucket, TLS and a password that changes."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.conftest import REDIS_IMAGE, default_url
from e2e.workers import restricted_pod, service_of, worker
from support.cluster.kubectl import Kubectl, call, eventually
from support.cluster.processes import run
from support.cluster.volumes import volume_for


def value(kubectl: Kubectl, bucket: str, key: str) -> int:
    return int(base64.b64decode(call(kubectl.client("counter"), "a", "get", bucket, key)["ok"]))


def uids(kubectl: Kubectl) -> dict[str, int]:
    """Hosts with their restarts."""
    pods = kubectl.hosts("counter")
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def test_sqlite_keeps_its_volume_and_one_bucket_is_elsewhere(
    kubectl: Kubectl, offer: Callable[..., str], redis_keys: Callable[[str], list[str]]
) -> None:
    files = offer("files", sqlite={"size": "1Gi"})
    buckets = [{"name": "numbers"}, {"name": "shared", "provider": "default"}]
    spec: dict[str, Any] = {
        "replicas": 1,
        "deletionPolicy": "Delete",
        "keyValue": {"provider": files, "undeclaredBuckets": "Deny", "buckets": buckets},
    }
    pattern = f"*{{{kubectl.namespace}/counter}}*"
    with volume_for(kubectl, "data-counter-0"):
        # A first pod that never starts must not keep the one that mends it from being made.
        broken = {"spec": {"containers": [{"name": "host", "image": "localhost/none:1", "imagePullPolicy": "Never"}]}}
        kubectl.apply(worker(**spec, podTemplate=broken))
        eventually(lambda: "ErrImageNeverPull" in kubectl.condition("counter").get("message", ""), "the reason")
        kubectl.apply(worker(**spec))
        assert kubectl.wait_ready("counter")["status"]["provider"] == files
        assert kubectl.get("deployment", "counter") is None
        client = kubectl.client("counter", retries=60)
        for number in (1, 2, 3):
            assert call(client, "a", "increment", "numbers", "n", key=f"home-{number}") == {"ok": number}
            assert call(client, "a", "increment", "shared", "n", key=f"away-{number}") == {"ok": number}
        kept = redis_keys(pattern)
        assert any(key.endswith(":b:shared") for key in kept), kept
        assert not any("numbers" in key for key in kept), "what is at home is not in Redis"

        kubectl.run("delete", "pod", "counter-0", "--force", "--grace-period=0")
        assert call(client, "a", "increment", "numbers", "n", key="home-4") == {"ok": 4}
        assert call(client, "a", "increment", "shared", "n", key="away-4") == {"ok": 4}
        # The guest's memory came back, and repeats of old calls change nothing.
        assert call(client, "a", "increment", "numbers", "n", key="home-2") == {"ok": 2}
        assert call(client, "a", "increment", "shared", "n", key="away-2") == {"ok": 2}
        assert call(client, "a", "calls") == 8
        assert (value(kubectl, "numbers", "n"), value(kubectl, "shared", "n")) == (4, 4)

        # A file has one host. A mistake stops nothing.
        kubectl.wait_ready("counter")
        before = uids(kubectl)
        kubectl.run("scale", "wk", "counter", "--replicas=2")
        eventually(
            lambda: kubectl.condition("counter", "ProviderReady").get("reason") == "ProviderRefused", "the reason"
        )
        assert "one replica can use it" in kubectl.condition("counter")["message"]
        assert call(client, "a", "increment", "numbers", "n", key="home-5") == {"ok": 5}
        assert uids(kubectl) == before
        assert (kubectl.get("worker", "counter") or {})["status"]["durability"] == "D2"

        kubectl.run("delete", "worker", "counter", "--wait=true", seconds=180)
        assert kubectl.get("persistentvolumeclaim", "data-counter-0") is None, "the volume is data"
        assert redis_keys(pattern) == []
        assert "DataDeleted" in {event["reason"] for event in kubectl.list("event")}


def test_a_bucket_at_a_second_redis_is_exactly_once(
    kubectl: Kubectl, cluster: Kubectl, offer: Callable[..., str], redis_keys: Callable[..., list[str]]
) -> None:
    second = offer("second", redis={"url": default_url(cluster).removesuffix("/0") + "/6"})
    buckets = [{"name": "here"}, {"name": "there", "provider": second, "maxValueBytes": 4}]
    kv = {"undeclaredBuckets": "Deny", "buckets": buckets}
    kubectl.apply(worker(replicas=2, keyValue=kv, deletionPolicy="Delete"))
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=60)

    def owner() -> str:
        return str(json.loads(kubectl.client("counter").request("GET", "/v1/instances/a"))["host"])

    def taken_over() -> bool:
        call(client, "a", "calls", key=uuid.uuid4().hex)
        return owner() not in killed

    killed: list[str] = []
    replies = []
    for number in range(40):
        if number == 15:
            killed.append(owner())
            kubectl.run("delete", "pod", killed[-1], "--force", "--grace-period=0", "--wait=false")
        if number == 30:  # a killed pod answers for a moment longer
            eventually(taken_over, "another host has taken over")
        replies.append(call(client, "a", "increment", "there", "n", key=f"call-{number}")["ok"])
    assert replies == list(range(1, 41))
    assert value(kubectl, "there", "n") == 40
    # A repeat after the takeover gets its first answer and writes nothing.
    assert call(client, "a", "increment", "there", "n", key="call-5") == {"ok": 6}
    assert value(kubectl, "there", "n") == 40
    assert call(client, "a", "increment", "here", "n", key="here") == {"ok": 1}
    assert call(client, "a", "calls", key="last") == 41
    # The bucket's configuration acts there, too.
    assert "err" in call(client, "a", "set", "there", "n", [1, 2, 3, 4, 5], key="long")
    pattern = f"*{{{kubectl.namespace}/counter}}*"
    at_home, away = redis_keys(pattern), redis_keys(pattern, database=6)
    assert any(key.endswith(":b:here") for key in at_home)
    assert not any(key.endswith(":b:there") for key in at_home)
    assert any(key.endswith(":b:there") for key in away)
    assert not any(":j:" in key for key in away), "the journal is at home"
    eventually(lambda: (cluster.get("kvp", second) or {})["status"]["workers"] == 1, "the provider counts its Workers")
    entries = (kubectl.get("worker", "counter") or {})["status"]["providers"]
    assert [(entry["name"], entry["home"], entry["reachable"], entry["durability"]) for entry in entries] == [
        ("default", True, True, "D2"), (second, False, True, "D2"),
    ]  # fmt: skip
    kubectl.run("delete", "worker", "counter", "--wait=true", seconds=180)
    assert redis_keys(pattern) == redis_keys(pattern, database=6) == []


def test_tls_and_a_rotated_password(kubectl: Kubectl, offer: Callable[..., str], tmp_path: Path) -> None:
    first, second = f"first-{uuid.uuid4().hex}", f"second-{uuid.uuid4().hex}"
    authority = certificates(tmp_path, f"redis.{kubectl.namespace}.svc")
    kubectl.secret("redis-server", **{name: (tmp_path / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")})
    kubectl.secret("redis-ca", **{"authority.pem": authority})
    kubectl.secret("redis-auth", password="not-this-one")
    kubectl.apply(secure_redis(first), service_of("redis", 6379, 6379))
    kubectl.run("wait", "--for=condition=Ready", "pod/redis", "--timeout=60s")
    secure = offer(
        "secure",
        redis={
            "url": f"rediss://redis.{kubectl.namespace}.svc:6379/0",
            "credentialsSecretRef": {"name": "redis-auth"},
            "tls": {"caSecretRef": {"name": "redis-ca", "key": "authority.pem"}},
        },
    )
    kubectl.apply(worker(replicas=1, keyValue={"provider": secure, "undeclaredBuckets": "Allow"}))

    def refused() -> bool:
        found = kubectl.condition("counter", "ProviderReady")
        assert (found.get("reason"), found.get("status")) == ("ProviderUnavailable", "False"), found
        return "refused the credentials" in found["message"]

    eventually(refused, lambda: kubectl.describe("counter"), 60)
    before = uids(kubectl)
    # The Secret is mended: the very same process connects with it.
    kubectl.secret("redis-auth", password=first)
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=60)
    assert call(client, "a", "increment", "b", "n", key="1") == {"ok": 1}
    # Both sides change; connections that are open are closed, as a failover would.
    kubectl.secret("redis-auth", password=second)
    cli(kubectl, first, "CONFIG", "SET", "requirepass", second)
    cli(kubectl, second, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert call(client, "a", "increment", "b", "n", key="2") == {"ok": 2}
    assert call(client, "a", "increment", "b", "n", key="1") == {"ok": 1}
    assert call(client, "a", "calls") == 2
    assert uids(kubectl) == before, "no host was restarted for a password"
    text = kubectl.run("get", "worker,configmap,deployment,pod,event", "-l", "app!=redis", "-o", "yaml")
    logs = kubectl.run("logs", "-l", "perdure.dev/worker=counter", "--tail=-1")
    assert first not in text + logs
    assert second not in text + logs


def cli(kubectl: Kubectl, password: str, *command: str) -> str:
    """Over the server's second port, which has no TLS."""
    out = kubectl.run("exec", "redis", "--", "redis-cli", "-p", "6380", "--no-auth-warning", "-a", password, *command)
    assert "ERR" not in out and "WRONGPASS" not in out, out
    return out


def secure_redis(password: str) -> dict[str, Any]:
    options = ["--tls-port", "6379", "--port", "6380", "--tls-auth-clients", "no", "--requirepass", password,
               "--tls-cert-file", "/tls/tls.crt", "--tls-key-file", "/tls/tls.key", "--tls-ca-cert-file", "/tls/ca.crt",
               "--dir", "/data", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]  # fmt: skip
    container = {
        "name": "redis",
        "image": REDIS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["redis-server"],
        "args": options,
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "data", "mountPath": "/data"}],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "tls", "secret": {"secretName": "redis-server"}},
        {"name": "data", "emptyDir": {}},
    ]
    return restricted_pod("redis", container, volumes=volumes)


def certificates(directory: Path, name: str) -> str:
    """An authority and a server certificate for `name`; returns the authority's."""
    authority, server = directory / "ca", directory / "tls"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests", "-days", "2",
        "-keyout", f"{authority}.key", "-out", f"{authority}.crt")  # fmt: skip
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=redis", "-keyout", f"{server}.key",
        "-out", f"{server}.csr")  # fmt: skip
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", f"{server}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
        "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", f"{server}.crt")  # fmt: skip
    return Path(f"{authority}.crt").read_text()
