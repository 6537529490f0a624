"""One reconcile of a Worker from its objects to its status: hosts' words, probes' words, and who is told of a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from perdure.reconciler import reconcile
from perdure.reconciler.api import Cluster
from perdure.reconciler.hosts import HostReport, ProviderReport
from perdure.reconciler.objects.common import selector
from perdure.reconciler.objects.pods import CHECKSUM
from perdure.reconciler.reconcile import Reconciler, Settings
from perdure.reconciler.references import References
from support.memory_cluster import MemoryCluster
from support.plans import API, REDIS, worker_document

Object = dict[str, Any]
SILENT = {"type": "Reachable", "status": "False", "reason": "NoAnswer", "message": "it does not answer"}


class World:
    """A Worker with one provider and, where `hosts` says something, one pod."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *conditions: Object) -> None:
        document = worker_document(component={"url": "https://a.test/x.wasm", "sha256": "d" * 64}, replicas=1)
        document["metadata"]["resourceVersion"] = "1"
        provider = {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "main"},
                    "spec": {**REDIS, "default": True}, "status": {"conditions": list(conditions)}}  # fmt: skip
        self.cluster = MemoryCluster(document, provider)
        self.hosts: bool | None = None
        self.doubted: list[str] = []
        self._reconciler = Reconciler(
            cast("Cluster", self.cluster), Settings("perdure:1"), References(), self.doubted.append
        )
        monkeypatch.setattr(reconcile, "ask_hosts", self._ask)
        monkeypatch.setattr(reconcile, "why_not_ready", self._nothing)
        monkeypatch.setattr(reconcile, "ask_host", self._nothing)

    async def _ask(self, addresses: Sequence[str], providers: Sequence[str]) -> list[HostReport]:
        assert addresses == (("10.0.0.1",) if self.hosts is not None else ())
        message = None if self.hosts else "connection refused"
        told = {name: ProviderReport(self.hosts, "D2", "exactly-once", message) for name in providers}
        return [HostReport(told, 1, ("bad",))] if addresses else []

    async def _nothing(self, *_: object) -> None:
        return None

    async def look(self) -> Object:
        """The Worker's status after one reconcile."""
        if self.hosts is not None:
            workload = self.cluster.find("Deployment", "carts")
            assert workload is not None
            metadata = {"name": "carts-1", "labels": selector("carts"),
                        "annotations": dict(workload["spec"]["template"]["metadata"]["annotations"])}  # fmt: skip
            assert CHECKSUM in metadata["annotations"]
            pod: Object = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": str(self.hosts)}],
                           "containerStatuses": [{"name": "host", "state": {"running": {}}}]}  # fmt: skip
            self.cluster.put({"kind": "Pod", "metadata": metadata, "status": pod})
        await self._reconciler.worker(("shop", "carts"))
        found = self.cluster.find("Worker", "carts")
        assert found is not None
        status: Object = found["status"]
        return status


def says(status: Object, kind: str = "ProviderReady") -> tuple[str, str, str]:
    found = next(condition for condition in status["conditions"] if condition["type"] == kind)
    return found["status"], found["reason"], found["message"]


async def test_before_there_are_hosts_the_probe_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, SILENT)
    status = await world.look()
    assert says(status) == ("False", "ProviderUnavailable", "KeyValueProvider main: it does not answer")
    assert says(status, "Ready")[2] == "KeyValueProvider main: it does not answer"
    assert world.cluster.find("Deployment", "carts") is not None, "hosts are made all the same"
    # The control: without a probe's word there is nothing to say.
    assert says(await World(monkeypatch).look())[:2] == ("True", "Resolved")


async def test_hosts_that_answer_win(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, SILENT)
    await world.look()
    world.hosts = True
    status = await world.look()
    assert says(status)[0] == says(status, "Ready")[0] == "True"
    assert status["providers"] == [
        {
            "name": "main",
            "kind": "redis",
            "home": True,
            "durability": "D2",
            "guarantee": "exactly-once",
            "reachable": True,
        }
    ]
    assert status["quarantined"] == {"count": 1, "instances": ["bad"]}


async def test_what_hosts_notice_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    status = await world.look()
    for hosts, doubted in ((True, []), (True, []), (False, ["main"]), (False, ["main"]), (True, ["main", "main"])):
        world.hosts = hosts
        status = await world.look()
        assert status["providers"][0]["reachable"] is hosts
        assert world.doubted == doubted
    assert "message" not in status["providers"][0]
