"""Every setting of a bucket, on two Workers and two providers: applied, observed, changed, observed again."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

from e2e.conftest import default_url
from e2e.workers import Object, worker
from support.cluster.kubectl import Kubectl, call, eventually


class Guest:
    """The key-value guest of one Worker, as a client within the cluster sees it."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._client = kubectl.client(name, retries=60)

    def ask(self, function: str, *args: object, instance: str = "a") -> Any:
        return call(self._client, instance, function, *args, key=uuid.uuid4().hex)

    def set(self, bucket: str, key: str, value: bytes = b"v", instance: str = "a") -> Any:
        return self.ask("set", bucket, key, base64.b64encode(value).decode(), instance=instance)

    def get(self, bucket: str, key: str, instance: str = "a") -> bytes | None:
        found = self.ask("get", bucket, key, instance=instance)["ok"]
        return None if found is None else base64.b64decode(found)


def settings(second: str, *, changed: bool) -> Object:
    """The first Worker's; `changed`: each one another way."""
    buckets: list[Object] = [
        {"name": "own", **({"physicalName": "another"} if changed else {})},
        {"name": "private", "scope": "Worker" if changed else "Instance"},
        {"name": "common", "scope": "Namespace"},
        {"name": "fixed", "physicalName": "own", "access": "ReadWrite" if changed else "ReadOnly"},
        {"name": "brief", **({} if changed else {"ttl": "2s"})},
        {
            "name": "small",
            **({"maxKeyBytes": 8, "maxValueBytes": 8} if changed else {"maxKeyBytes": 4, "maxValueBytes": 4}),
        },
        {"name": "few", "maxKeys": 3 if changed else 2},
        {"name": "away", **({} if changed else {"provider": second})},
    ]
    return {"undeclaredBuckets": "Allow" if changed else "Deny", "buckets": buckets}


def rolled_out(kubectl: Kubectl, name: str) -> Callable[[], bool]:
    def done() -> bool:
        found = kubectl.get("worker", name) or {}
        same = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        return same and kubectl.condition(name, "Progressing").get("status") == "False"

    return done


def test_settings_of_buckets(
    kubectl: Kubectl, cluster: Kubectl, offer: Callable[..., str], redis_keys: Callable[..., list[str]]
) -> None:
    second = offer("second", redis={"url": default_url(cluster).removesuffix("/0") + "/7"})
    common = {"name": "common", "scope": "Namespace", "provider": "default"}
    kubectl.apply(worker("left", replicas=2, keyValue=settings(second, changed=False), deletionPolicy="Delete"))
    kubectl.apply(
        worker(
            "right",
            replicas=1,
            keyValue={"provider": second, "buckets": [{"name": "own"}, common]},
            deletionPolicy="Delete",
        )
    )
    for name in ("left", "right"):
        kubectl.wait_ready(name)
    left, right = Guest(kubectl, "left"), Guest(kubectl, "right")

    # Who shares a bucket.
    assert left.set("own", "k", b"left's") == {"ok": None}
    assert left.get("own", "k", instance="b") == b"left's"
    assert right.get("own", "k") is None, "a bucket of the same name is each Worker's own"
    left.set("private", "k", b"a's")
    assert (left.get("private", "k"), left.get("private", "k", instance="b")) == (b"a's", None)
    left.set("common", "k", b"everybody's")
    assert right.get("common", "k") == b"everybody's"
    right.set("common", "k", b"right's")
    assert left.get("common", "k") == b"right's"

    # What may be done with it.
    assert left.get("fixed", "k") == b"left's", "another name of the same bucket"
    assert left.set("fixed", "k") == {"err": "access denied"}
    assert left.set("unknown", "k") == {"err": "no such store"}
    assert "a value of 5 bytes" in left.set("small", "k", b"12345")["err"]
    assert "a key of 5 bytes" in left.set("small", "12345")["err"]
    assert left.set("small", "1234", b"1234") == {"ok": None}
    assert left.set("few", "1") == left.set("few", "2", instance="b") == {"ok": None}
    assert "maxKeys" in left.set("few", "3")["err"]
    assert left.set("few", "1", b"over") == {"ok": None}, "no further key"
    left.set("brief", "k")
    assert left.get("brief", "k") == b"v"
    time.sleep(3)
    assert left.get("brief", "k") is None

    # Where it is kept.
    left.set("away", "k")
    pattern = f"*{{{kubectl.namespace}/left}}:b:away"
    assert redis_keys(pattern, 7) and not redis_keys(pattern, 0)

    kubectl.apply(worker("left", replicas=2, keyValue=settings(second, changed=True), deletionPolicy="Delete"))
    eventually(rolled_out(kubectl, "left"), "the changed settings are rolled out", 180)
    assert left.get("own", "k") is None, "another physical name is another bucket"
    assert left.get("fixed", "k") == b"left's", "and nothing was lost with the name"
    assert left.set("fixed", "k", b"changed") == {"ok": None}
    assert left.get("private", "k", instance="b") is None, "what was private stays so"
    left.set("private", "k", b"all's")
    assert left.get("private", "k", instance="b") == b"all's"
    assert left.set("unknown", "k") == {"ok": None}
    assert left.set("small", "12345678", b"12345678") == {"ok": None}
    assert "a value of 9 bytes" in left.set("small", "k", b"123456789")["err"]
    assert left.set("few", "3") == {"ok": None}
    assert "maxKeys" in left.set("few", "4", instance="b")["err"]
    assert left.ask("keys", "few")["ok"] == ["1", "2", "3"]
    left.set("brief", "k")
    time.sleep(3)
    assert left.get("brief", "k") == b"v", "values stay without a ttl"
    assert left.get("away", "k") is None, "the bucket is at the other provider now"
    left.set("away", "k")
    assert redis_keys(pattern, 0)
    assert right.get("common", "k") == b"right's", "the other Worker was not touched"
