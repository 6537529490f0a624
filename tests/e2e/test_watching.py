"""A Worker that is told of changes which another Worker, and clients, make: with its host killed, and its watch ended."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from e2e.workers import Object, worker
from perdure.cli.main import main
from support.cluster.kubectl import Kubectl, call, eventually
from support.guests import guest

NEWS: Object = {"name": "news", "scope": "Namespace"}
WATCHED: Object = {**NEWS, "watch": {"instance": "notifier"}}


def reader(news: Object) -> Object:
    """Its guest writes down in `seen` what it is told, under numbers that it counts in its memory."""
    component = {"configMap": {"name": "watching"}}
    return worker("reader", replicas=2, component=component, keyValue={"buckets": [news, {"name": "seen"}]})


def writer(news: Object) -> Object:
    """Its component exports nothing to be told by."""
    return worker("writer", replicas=1, keyValue={"buckets": [news]})


def asked(kubectl: Kubectl, name: str, instance: str, function: str, *args: object) -> Any:
    return call(kubectl.client(name, retries=60), instance, function, *args, key=uuid.uuid4().hex)["ok"]


def write(kubectl: Kubectl, value: str, name: str = "writer", instance: str = "a") -> None:
    asked(kubectl, name, instance, "set", "news", "k", base64.b64encode(value.encode()).decode())


def keys(kubectl: Kubectl, action: str, *args: str) -> None:
    assert main(["keys", action, "news", *args, f"--url={kubectl.client('writer').url}"]) == 0


def lines(kubectl: Kubectl) -> list[str]:
    """What the notifier was told, in its order. Another instance looks, so that nobody waits for the notifier's host."""
    numbers = asked(kubectl, "reader", "onlooker", "keys", "seen")
    assert numbers == [f"{number:05}" for number in range(len(numbers))], "its memory counts as the bucket does"
    values = asked(kubectl, "reader", "onlooker", "get-many", "seen", numbers)
    return [base64.b64decode(value).decode().partition(" [")[0] for value in values]


def told(kubectl: Kubectl, *expected: str) -> None:
    eventually(lambda: len(lines(kubectl)) >= len(expected), lambda: f"{lines(kubectl)} is not {expected}", 90)
    assert lines(kubectl) == list(expected)


def test_changes_of_a_namespaces_bucket_are_told(kubectl: Kubectl, redis_keys: Callable[[str], list[str]]) -> None:
    kubectl.config_map("watching", "component.wasm", guest("watch-g4"))
    kubectl.apply(reader(WATCHED), writer(NEWS))
    for name in ("reader", "writer"):
        kubectl.wait_ready(name)

    # All ways to change it, of one key, whose changes are told in the order of their commits.
    write(kubectl, "1")
    keys(kubectl, "set", "k", "2")
    write(kubectl, "3", "reader", "another")
    write(kubectl, "its own", "reader", "notifier")
    asked(kubectl, "writer", "a", "delete", "news", "k")
    keys(kubectl, "set", "k", "4")
    keys(kubectl, "delete", "k")
    # A change that is made again is told again: a repeat would be seen.
    write(kubectl, "5")
    write(kubectl, "5")
    expected = ["k=1", "k=2", "k=3", "k gone", "k=4", "k gone", "k=5", "k=5"]
    told(kubectl, *expected)

    write(kubectl, "6")
    host = json.loads(kubectl.client("reader").request("GET", "/v1/instances/notifier"))["host"]
    kubectl.run("delete", "pod", host, "--force", "--grace-period=0", "--wait=false")
    write(kubectl, "7")
    keys(kubectl, "set", "k", "8")
    expected += ["k=6", "k=7", "k=8"]
    told(kubectl, *expected)
    assert host not in {pod["metadata"]["name"] for pod in kubectl.hosts("reader")}
    kubectl.wait_ready("reader")

    # One watch is taken out; one is given to a component that cannot be told.
    kubectl.apply(reader(NEWS), writer(WATCHED))
    words = "bucket 'news' is watched, but the component exports no"

    def refused() -> bool:
        found = kubectl.condition("writer")
        assert (found.get("status"), found.get("reason")) == ("False", "InvalidSpec"), kubectl.describe("writer")
        assert words in found["message"], found
        assert words in kubectl.condition("writer", "Progressing")["message"]
        return True

    eventually(refused, "the host's own words", 60)
    assert kubectl.run("get", "wk", "writer", "--no-headers").split()[:3] == ["writer", "False", "InvalidSpec"]
    kubectl.wait_ready("reader")
    write(kubectl, "9")
    time.sleep(2)
    told(kubectl, *expected)
    assert asked(kubectl, "reader", "a", "get", "news", "k") == base64.b64encode(b"9").decode(), "what ran runs on"

    # The watch is out of the manifest, and there for a while still: the Worker does not go without it.
    pattern = f"pd:{{{kubectl.namespace}}}:b:news*"
    assert [key for key in redis_keys(pattern) if key.endswith(":w")]
    kubectl.run("delete", "worker", "reader", "--wait=true", seconds=180)
    assert [key for key in redis_keys(pattern) if key.endswith((":w", ":c"))] == []
    assert redis_keys(f"pd:{{{kubectl.namespace}/reader}}:*"), "its data is retained"
    assert "WatchesEnded" in {event["reason"] for event in kubectl.list("event")}
    assert not kubectl.list("job")
