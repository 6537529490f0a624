"""A pod that dies takes nothing with it and repeats nothing."""

from __future__ import annotations

import base64
import json
import threading
import time

from e2e.conftest import Release, ready_operator
from e2e.workers import worker
from perdure.cli.client import ApiError, Client
from support.cluster.kubectl import Kubectl, call, eventually

CALLS = 200


def owner(client: Client, instance: str) -> str:
    return str(json.loads(client.request("GET", f"/v1/instances/{instance}"))["host"])


def test_killed_owners_in_a_series_of_increments(kubectl: Kubectl) -> None:
    kubectl.apply(worker())
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=60)
    replies: list[int] = []
    failed: list[Exception] = []

    def series() -> None:
        try:
            for number in range(CALLS):
                reply = call(client, "cart", "increment", "numbers", "n", key=f"call-{number}")
                replies.append(reply["ok"])
        except (ApiError, AssertionError) as error:
            failed.append(error)

    thread = threading.Thread(target=series)
    thread.start()
    killed = []
    for threshold in (20, 70, 120):
        while len(replies) < threshold and thread.is_alive():
            time.sleep(0.01)
        # A killed pod answers for a moment longer; another one is to be killed then.
        eventually(lambda: owner(kubectl.client("counter"), "cart") not in killed, "another host has taken over")
        killed.append(owner(kubectl.client("counter"), "cart"))
        kubectl.run("delete", "pod", killed[-1], "--force", "--grace-period=0", "--wait=false")
    thread.join(300)
    assert not thread.is_alive()
    assert not failed, failed

    # Every acknowledged call counted exactly once, in the bucket and in the guest's own memory.
    assert replies == list(range(1, CALLS + 1))
    value = call(client, "cart", "get", "numbers", "n")["ok"]
    assert base64.b64decode(value) == str(CALLS).encode()
    assert call(client, "cart", "calls") == CALLS
    # A late repeat of an old call gets its first answer, and changes nothing.
    assert call(client, "cart", "increment", "numbers", "n", key="call-7") == {"ok": 8}
    assert call(client, "cart", "calls") == CALLS
    # The negative control: without a key the same call counts again.
    assert call(client, "cart", "increment", "numbers", "n") == {"ok": CALLS + 1}
    assert owner(client, "cart") not in killed


def test_nothing_stops_while_the_operator_is_away(kubectl: Kubectl, release: Release) -> None:
    kubectl.apply(worker(replicas=2))
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=60)
    call(client, "a", "increment", "numbers", "n", key="before")
    release.kubectl.run("scale", "deployment", "perdure-operator", "--replicas=0")
    try:
        victim = owner(client, "a")
        kubectl.run("delete", "pod", victim, "--force", "--grace-period=0")
        assert call(client, "a", "increment", "numbers", "n", key="after") == {"ok": 2}
    finally:
        release.kubectl.run("scale", "deployment", "perdure-operator", "--replicas=1")
        ready_operator(release.kubectl)
