"""A pod that dies takes nothing with it and repeats nothing."""

from __future__ import annotations

import base64
import functools
import json
import threading

from e2e.conftest import Release, ready_operator
from e2e.workers import worker
from perdure.cli.client import ApiError, Client
from support.cluster.kubectl import Kubectl, call, eventually

KILLS = 3
BETWEEN = 20
"""Calls that are answered between a takeover and the next kill, at least."""


def owner(client: Client, instance: str) -> str:
    return str(json.loads(client.request("GET", f"/v1/instances/{instance}"))["host"])


def test_killed_owners_in_a_series_of_increments(kubectl: Kubectl) -> None:
    kubectl.apply(worker())
    kubectl.wait_ready("counter")
    client = kubectl.client("counter", retries=60)
    replies: list[int] = []
    failed: list[Exception] = []
    enough = threading.Event()

    def series() -> None:
        try:
            while not enough.is_set():
                reply = call(client, "cart", "increment", "numbers", "n", key=f"call-{len(replies)}")
                replies.append(reply["ok"])
        except (ApiError, AssertionError) as error:
            failed.append(error)

    killed: list[str] = []

    def taken_over() -> bool:
        # A killed pod answers for a moment longer. The calls go on until nobody waits for a takeover any more.
        assert not failed, failed
        return owner(kubectl.client("counter"), "cart") not in killed

    def went_on(wanted: int) -> bool:
        return bool(failed) or len(replies) >= wanted

    thread = threading.Thread(target=series)
    thread.start()
    try:
        for _ in range(KILLS):
            wanted = len(replies) + BETWEEN
            eventually(functools.partial(went_on, wanted), "the series goes on")
            eventually(taken_over, "another host has taken over")
            killed.append(owner(kubectl.client("counter"), "cart"))
            kubectl.run("delete", "pod", killed[-1], "--force", "--grace-period=0", "--wait=false")
        eventually(taken_over, "another host has taken over")
    finally:
        enough.set()
        thread.join(300)
    assert not thread.is_alive()
    assert not failed, failed
    calls = len(replies)

    # Every acknowledged call counted exactly once, in the bucket and in the guest's own memory.
    assert replies == list(range(1, calls + 1))
    value = call(client, "cart", "get", "numbers", "n")["ok"]
    assert base64.b64decode(value) == str(calls).encode()
    assert call(client, "cart", "calls") == calls
    # A late repeat of an old call gets its first answer, and changes nothing.
    old = calls - BETWEEN
    assert call(client, "cart", "increment", "numbers", "n", key=f"call-{old}") == {"ok": old + 1}
    assert call(client, "cart", "calls") == calls
    # The negative control: without a key the same call counts again.
    assert call(client, "cart", "increment", "numbers", "n") == {"ok": calls + 1}
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
