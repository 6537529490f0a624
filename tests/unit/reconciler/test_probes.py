"""Probes of KeyValueProviders: when there is one, where, and what its outcome says."""

from __future__ import annotations

import datetime
import json
from typing import Any, cast

import pytest

from perdure.errors import ManifestError
from perdure.manifests.load import load_manifests, parse_provider
from perdure.manifests.provider import Probe
from perdure.manifests.report import ProbeReport, ServerFound
from perdure.reconciler.api import ApiError, Cluster
from perdure.reconciler.conditions import Reason
from perdure.reconciler.objects.probe import CHECKSUM, LABEL, ProbePlan, label_of, probe_job
from perdure.reconciler.probes import Prober
from perdure.reconciler.providers import accept, provider_status
from perdure.reconciler.reachability import Known
from perdure.reconciler.status import merge_patch
from support.memory_cluster import MemoryCluster
from support.plans import API, REDIS, SECURE

Object = dict[str, Any]
OF_PROBES = {
    "Answers", "NoServer", "NoAnswer", "CredentialsRefused", "TlsFailed", "Unsuitable", "Refused", "Probing",
    "ProbeFailed", "NotProbed", "AsDeclared", "WeakerThanDeclared",
}  # fmt: skip
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
GOOD = ProbeReport(
    provider="main",
    kind="redis",
    usable=True,
    message="redis 7.4.1 answers; durability D1",
    server=ServerFound(version="7.4.1", settings={"appendfsync": "everysec"}),
    durability="D1",
    guarantee="exactly-once",
)
SILENT = ProbeReport(provider="main", kind="redis", usable=False, cause="no-answer", message="it does not answer")


class World:
    """A provider, the cluster's objects, and a clock; `look` is one look of the operator."""

    def __init__(self, spec: Object = REDIS, *objects: Object) -> None:
        self.cluster = MemoryCluster(*objects)
        self.document: Object = {
            "apiVersion": API,
            "kind": "KeyValueProvider",
            "metadata": {"name": "main", "uid": "u-1", "generation": 1},
            "spec": spec,
        }
        self.now = START
        self.jobs = 0
        self._prober = Prober(
            cast("Cluster", self.cluster), image="perdure:1", pull_policy="Never", namespace="system",
            pull_secrets=("registry",),
        )  # fmt: skip

    @property
    def status(self) -> Object:
        found: Object = self.document.get("status") or {}
        return found

    @property
    def job(self) -> Object | None:
        return self.cluster.find("Job", "perdure-probe-main")

    async def look(self, seconds: float = 0, *, doubted: bool = False) -> float:
        """`seconds` pass before it. Returns when the operator wants to look again."""
        self.now += datetime.timedelta(seconds=seconds)
        provider, accepted = accept(self.document, [])
        assert provider is not None
        found = await self._prober.look(provider, self.status, self.now, doubted=doubted)
        self.document["status"] = provider_status(self.document, provider, accepted, found, 0, self.now.isoformat())
        if self.job is not None and "uid" not in self.job["metadata"]:
            self.jobs += 1
            self.job["metadata"]["uid"] = f"j-{self.jobs}"
        return found.again

    def end(self, message: str | ProbeReport | None, **status: Any) -> None:
        """The Job ends with these last words; None: without a pod."""
        assert self.job is not None
        uid = self.job["metadata"]["uid"]
        self.job["status"] = {"conditions": [{"type": "Complete", "status": "True"}], **status}
        if message is None:
            return
        text = message.document() if isinstance(message, ProbeReport) else message
        self.cluster.put(pod(uid, state={"terminated": {"message": text}}))

    async def until(self, seconds: float, message: ProbeReport) -> list[float]:
        """Let time pass; each Job ends at once with these words. When those began, in seconds since now."""
        began, start = [], self.now
        while (passed := (self.now - start).total_seconds()) < seconds:
            again = await self.look()
            if self.job is not None and "status" not in self.job:
                began.append(round(passed, 1))
                self.end(message)
            self.now += datetime.timedelta(seconds=max(again, 0.1))
        return began

    def says(self, kind: str = "Reachable") -> tuple[str, str]:
        condition = self._condition(kind)
        return condition["status"], condition["reason"]

    def message(self, kind: str = "Reachable") -> str:
        return str(self._condition(kind)["message"])

    def _condition(self, kind: str) -> Object:
        found: Object = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found


def pod(uid: str, **container: Any) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": f"pod-of-{uid}", "labels": {LABEL: "main"}, "ownerReferences": [{"uid": uid}]},
        "status": {"containerStatuses": [{"name": "probe", **container}]},
    }


def secret(name: str, version: str = "1") -> Object:
    return {"kind": "Secret", "metadata": {"name": name, "resourceVersion": version}}


async def test_from_a_new_provider_to_its_outcome() -> None:
    world = World()
    assert await world.look() <= 2
    assert world.says() == ("Unknown", "Probing")
    assert await world.look(1) <= 2, "it is waited for"
    assert world.jobs == 1
    world.end(GOOD)
    await world.look(1)
    assert world.says() == ("True", "Answers")
    assert world.message() == "redis 7.4.1 answers; durability D1"
    assert world.status["server"] == {"version": "7.4.1", "settings": {"appendfsync": "everysec"}}
    assert (world.status["durability"], world.status["guarantee"]) == ("D1", "exactly-once")
    assert world.status["lastProbeTime"] == "2026-01-01T00:00:02Z"
    before = json.dumps(world.status)
    await world.look(5)
    assert json.dumps(world.status) == before, "another look changes nothing"
    assert world.jobs == 1


async def test_how_often_it_is_looked_at() -> None:
    """By the interval while all is well, sooner after a failure and then less and less often. Never two at once."""
    world = World({**REDIS, "probe": {"interval": "10m"}})
    began = await world.until(2 * 3600, GOOD)
    gaps = [later - before for before, later in zip(began, began[1:], strict=False)]
    assert 10 <= len(began) <= 14
    assert all(0.9 * 600 <= gap <= 1.1 * 600 + 70 for gap in gaps), gaps
    assert len(set(gaps)) > 5, "not at the same distance for ever"
    began = await world.until(3600, SILENT)
    gaps = [later - before for before, later in zip(began, began[1:], strict=False)]
    assert gaps[0] < 30 and sorted(gaps)[-1] <= 1.1 * 600 + 70
    assert len(began) <= 14, "an outage costs few Jobs"
    assert world.status["probe"]["failures"] == len(began)
    began = await world.until(1200, GOOD)
    assert world.status["probe"]["failures"] == 0


async def test_what_hosts_have_noticed_is_looked_into() -> None:
    world = World()
    await world.until(60, GOOD)
    await world.look(1)
    assert world.job is not None and "status" in world.job, "the control: without a doubt it is not due"
    await world.look(1, doubted=True)
    await world.look(1, doubted=True)
    assert world.jobs == 2
    world.end(SILENT)
    again = await world.look(1)
    assert world.says() == ("False", "NoAnswer")
    assert await world.look(doubted=True) > 5, "again and again is no reason to be asked all the time"
    assert again > 5


async def test_an_operator_that_starts_anew_does_not_probe_everything() -> None:
    world = World()
    await world.until(10, GOOD)
    again = World()
    again.document, again.now = world.document, world.now
    await again.look(5)
    assert (again.jobs, again.says()) == (0, ("True", "Answers"))
    # The control: without the status it would.
    del again.document["status"]
    await again.look()
    assert again.jobs == 1


async def test_another_server_is_looked_at_at_once_and_nothing_is_claimed_of_it() -> None:
    world = World()
    await world.until(10, GOOD)
    world.document["spec"] = {"redis": {"url": "redis://other:6379/0"}}
    world.document["metadata"]["generation"] = 2
    await world.look(1)
    assert world.says() == ("Unknown", "Probing")
    assert "durability" not in world.status and "server" not in world.status
    await world.until(10, SILENT)
    assert (world.jobs, world.says()) == (2, ("False", "NoAnswer"))
    # What concerns Workers only is no reason to look again.
    world.document["spec"] = {**world.document["spec"], "allowedNamespaces": ["a"]}
    await world.look(1)
    assert (world.jobs, world.says()) == (2, ("False", "NoAnswer"))


async def test_a_changed_secret_is_tried_and_the_verdict_stands_meanwhile() -> None:
    world = World(SECURE, secret("redis-auth"), secret("redis-ca"))
    await world.until(10, GOOD)
    world.cluster.put(secret("redis-auth", "2"))
    await world.look(10)
    await world.look(2)
    assert (world.jobs, world.says()) == (2, ("True", "Answers"))
    # A Secret that changes all the time does not keep the probe from ending, and bounds are kept.
    for version in range(3, 100):
        world.cluster.put(secret("redis-auth", str(version)))
        if version % 10 == 0 and world.job is not None:
            world.end(SILENT)
        await world.look(0.5)
    assert world.says() == ("False", "NoAnswer")
    assert world.jobs <= 8


async def test_a_missing_secret() -> None:
    world = World(SECURE, secret("redis-ca"))
    assert await world.look() <= 15
    assert world.says() == ("Unknown", "SecretNotFound")
    assert "Secret redis-auth not found in namespace system (credentialsSecretRef" in world.message()
    assert "spec.probe.namespace" in world.message()
    assert world.job is None, "its pod would wait for ever"
    world.cluster.put(secret("redis-auth"))
    await world.until(10, GOOD)
    assert world.says() == ("True", "Answers")


@pytest.mark.parametrize(
    ("cause", "reason", "words"),
    [
        ("no-answer", "NoAnswer", "Asked from namespace system"),
        ("credentials", "CredentialsRefused", "why not"),
        ("tls", "TlsFailed", "why not"),
        ("unsuitable", "Unsuitable", "why not"),
        ("refused", "Refused", "why not"),
    ],
)
async def test_what_cannot_be_used(cause: Any, reason: str, words: str) -> None:
    world = World()
    await world.until(10, GOOD)
    report = ProbeReport(provider="main", kind="redis", usable=False, cause=cause, message="why not")
    await world.until(700, report)
    assert world.says() == ("False", reason)
    assert words in world.message()
    assert ("durability" in world.status) is (cause == "no-answer"), "a silent server has not changed"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "ended without a word (DeadlineExceeded too long)"),
        ("", "ended without a word"),
        ("bad-manifest: no such field", "no such field"),
        ("Traceback: secret", "left no report"),
        ('{"usable": "perhaps"}', "left no report"),
    ],
)
async def test_a_probe_that_could_not_look(message: str | None, words: str) -> None:
    world = World()
    await world.look()
    failed = [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]
    world.end(message, conditions=failed)
    await world.look(1)
    assert world.says() == ("Unknown", "ProbeFailed")
    assert words in world.message() and "secret" not in world.message()
    assert await world.look(1) < 15, "it is tried again soon"


async def test_an_evicted_probe_says_nothing_of_the_server() -> None:
    world = World()
    await world.until(10, GOOD)
    while world.jobs < 2:
        await world.look(30)
    world.end(None)
    await world.look(1)
    assert (world.says(), world.status["probe"]["failures"]) == (("True", "Answers"), 1)
    while world.jobs < 3:
        await world.look(5)
    world.end(None)
    await world.look(1)
    assert world.says() == ("Unknown", "ProbeFailed"), "twice in a row it is worth a word"


async def test_a_pod_that_does_not_start_says_why() -> None:
    world = World()
    await world.look()
    world.cluster.put(pod("j-1", state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))
    await world.look(1)
    assert world.message() == "pod pod-of-j-1: ImagePullBackOff: no such image"


async def test_the_pod_of_another_job_proves_nothing() -> None:
    world = World()
    world.cluster.put(pod("j-0", state={"terminated": {"message": GOOD.document()}}))
    await world.look()
    await world.look(1)
    assert world.says() == ("Unknown", "Probing")


async def test_jobs_that_are_somebody_elses() -> None:
    foreign: Object = {"kind": "Job", "metadata": {"name": "perdure-probe-main", "namespace": "system", "uid": "f"}}
    world = World(REDIS, foreign)
    await world.look()
    assert world.says() == ("Unknown", "ProbeFailed") and "is in the way" in world.message()
    assert world.job == foreign
    # One of a former provider of the same name is cleared away, whatever it has found.
    former = {**foreign, "metadata": {**foreign["metadata"], "labels": {LABEL: "main"},
                                      "ownerReferences": [{"uid": "u-0"}]}}  # fmt: skip
    world = World(REDIS, former)
    await world.look()
    assert world.job is None
    await world.until(10, GOOD)
    assert world.says() == ("True", "Answers")


@pytest.mark.parametrize("status", [403, 404, 422])
async def test_a_namespace_that_takes_no_job(status: int) -> None:
    world = World({**REDIS, "probe": {"namespace": "shop"}})
    world.cluster.refusals["create Job/perdure-probe-main"] = ApiError(status, "Forbidden", "exceeded quota: pods")
    assert await world.look() >= 10
    assert world.says() == ("Unknown", "ProbeFailed")
    assert "in namespace shop: exceeded quota" in world.message()
    world.cluster.refusals["create Job/perdure-probe-main"] = ApiError(500, "InternalError", "etcd")
    with pytest.raises(ApiError):
        await world.look()


async def test_probes_can_be_turned_off_and_on() -> None:
    world = World({**REDIS, "probe": {"enabled": False}})
    await world.look()
    assert (world.says(), world.job) == (("Unknown", "NotProbed"), None)
    world.document["spec"] = REDIS
    await world.until(10, GOOD)
    assert world.says() == ("True", "Answers")


@pytest.mark.parametrize(("spec", "level"), [({"sqlite": {}}, "D2"), ({"memory": {}}, "D0")])
async def test_what_has_no_server(spec: Object, level: str) -> None:
    world = World(spec)
    await world.look()
    assert (world.says(), world.status["durability"]) == (("True", "NoServer"), level)
    assert world.cluster.calls == []


@pytest.mark.parametrize(
    ("wanted", "status", "reason"),
    [("D0", "True", "AsDeclared"), ("D1", "True", "AsDeclared"), ("D2", "False", "WeakerThanDeclared")],
)
async def test_a_weaker_durability_than_was_counted_on(wanted: str, status: str, reason: str) -> None:
    world = World({**REDIS, "minDurability": wanted})
    await world.look()
    assert world.says("Durable") == ("Unknown", "Probing")
    report = GOOD.model_copy(update={"warnings": ("appendfsync is everysec",)})
    await world.until(10, report)
    assert world.says("Durable") == (status, reason)
    assert ("appendfsync is everysec" in world.message("Durable")) is (status == "False")
    assert world.says() == ("True", "Answers")


async def test_without_a_declared_durability_there_is_no_such_condition() -> None:
    world = World()
    await world.until(10, GOOD)
    assert [condition["type"] for condition in world.status["conditions"]] == ["Ready", "Reachable"]


def test_all_reasons_are_here() -> None:
    assert {reason.value for reason in Reason} >= OF_PROBES


@pytest.mark.parametrize(
    "status",
    [
        {}, {"lastProbeTime": "yesterday"}, {"lastProbeTime": 5}, {"probe": None},
        {"conditions": [{"type": "Reachable", "status": "True", "reason": "OfALaterVersion"}]},
    ],
)  # fmt: skip
def test_a_status_that_somebody_has_damaged_is_as_if_there_were_none(status: Object) -> None:
    known = Known.of(status)
    assert (known.at, known.verdict) == (None, None)
    assert known.wait("x", 600, START) == 0


async def test_a_time_from_a_clock_that_was_wrong_does_not_count() -> None:
    world = World()
    await world.until(10, GOOD)
    world.status["lastProbeTime"] = "2027-01-01T00:00:00Z"
    await world.look()
    await world.look(1)
    assert world.jobs == 2


# The Job.


def made(spec: Object = SECURE, name: str = "main", **changes: Any) -> Object:
    document = {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": name, "uid": "u-1"}, "spec": spec}
    return probe_job(ProbePlan(parse_provider(document), "system", "perdure:1", "Never", **changes))


def test_the_job_is_restricted_and_bounded() -> None:
    job = made()
    spec, template = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 120, 300)
    assert template["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in template
    assert template["securityContext"]["runAsNonRoot"] is True
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = template["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("KeyValueProvider", "u-1")
    assert "blockOwnerDeletion" not in owner, "that would take a right on finalizers"


def test_the_job_reads_what_hosts_read() -> None:
    job = made(
        {**SECURE, "default": True, "allowedNamespaces": ["a"], "minDurability": "D2", "probe": {"interval": "1m"}}
    )
    template = job["spec"]["template"]
    (text,) = template["metadata"]["annotations"].values()
    (provider,) = load_manifests(text, source="x").providers
    assert (
        provider.spec.redis
        == parse_provider(
            {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "main"}, "spec": SECURE}
        ).spec.redis
    )
    assert (provider.spec.default, provider.spec.probe) == (False, Probe())
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["credentials-0"]["secret"] == {"secretName": "redis-auth"}
    mounts = {mount["name"]: mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["credentials-0"] == "/etc/perdure/secrets/main"
    assert mounts["ca-0"] == "/etc/perdure/secrets/main-ca"
    assert set(volumes) == set(mounts)


def test_what_makes_a_new_probe_due() -> None:
    def checksum(spec: Object = REDIS, **changes: Any) -> str:
        return str(made(spec, **changes)["metadata"]["annotations"][CHECKSUM])

    assert checksum() == checksum({**REDIS, "default": True, "minDurability": "D3", "probe": {"interval": "1h"}})
    assert checksum() == checksum(pull_secrets=("a",))
    assert checksum() != checksum({"redis": {"url": "redis://other:6379/0"}})
    assert checksum() != checksum(versions=(("a", "1"),))


POD: Object = {
    "labels": {"team": "data", LABEL: "other"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "nodeSelector": {"pool": "infra"},
    "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "low",
    "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": 1}},
    "imagePullSecrets": [{"name": "mirror"}, {"name": "own"}],
}


def test_what_the_cluster_asks_of_the_pod() -> None:
    job = made({**SECURE, "probe": {"pod": POD}}, pull_secrets=("own",))
    template, plain = job["spec"]["template"], made()["spec"]["template"]
    assert template["metadata"]["labels"] == plain["metadata"]["labels"] | {"team": "data"}, "what finds it stays"
    assert template["metadata"]["annotations"] == plain["metadata"]["annotations"] | POD["annotations"]
    pod = template["spec"]
    for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[field] == POD[field]
        assert field not in plain["spec"]
    assert pod["imagePullSecrets"] == [{"name": "own"}, {"name": "mirror"}]
    (container,) = pod["containers"]
    assert container["resources"] == {
        "requests": {"cpu": 1, "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    # Nothing else of the pod can be changed by it.
    assert {name for name in pod if pod[name] != plain["spec"].get(name)} - set(POD) == {"containers"}
    assert container | {"resources": None} == plain["spec"]["containers"][0] | {"resources": None}


@pytest.mark.parametrize("pod", [{"hostNetwork": True}, {"serviceAccountName": "x"}, {"tolerations": [{"x": 1}]},
                                 {"volumes": []}, {"nodeSelector": {"a": 1}}, {"resources": {"claims": []}}])  # fmt: skip
def test_a_pod_of_the_probe_is_no_pod_template(pod: Object) -> None:
    with pytest.raises(ManifestError, match=r"spec\.probe\.pod\."):
        made({**REDIS, "probe": {"pod": pod}})


async def test_a_probe_that_waits_for_its_node_is_made_anew_when_it_is_asked_for_otherwise() -> None:
    world = World()
    await world.until(10, GOOD)
    former = world.document["spec"]
    world.document["spec"] = {**former, "probe": {"interval": "10s"}}
    for _ in range(8):
        await world.look(3)
    assert (world.jobs, world.says()) == (2, ("True", "Answers"))
    job = world.job
    assert job is not None
    world.document["spec"] = {**former, "probe": {"interval": "10s", "pod": {"nodeSelector": {"pool": "infra"}}}}
    await world.look(2)
    await world.look(2)
    assert world.job is not None and world.job["metadata"]["uid"] != job["metadata"]["uid"]
    assert world.job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "infra"}
    assert world.says() == ("True", "Answers"), "it is the same server: what is known of it stands"


@pytest.mark.parametrize("name", ["a", "a" * 253, "a.b.c", "x" * 31 + ".y" + "z" * 100, "b" * 30 + ".-.c" * 9])
def test_names_are_valid_whatever_the_provider_is_called(name: str) -> None:
    job = made(REDIS, name)
    label = job["metadata"]["labels"][LABEL]
    assert len(job["metadata"]["name"]) <= 63
    assert label.replace("-", "").isalnum() and label[0].isalnum() and label[-1].isalnum()
    assert label_of(name) != label_of(name + "a")


def test_what_is_wanted_no_more_is_removed() -> None:
    former = {"a": 1, "server": {"version": "7", "settings": {"x": "1", "y": "2"}}, "gone": {"b": 1}}
    wanted = {"a": 2, "server": {"version": "7", "settings": {"x": "3"}}}
    assert merge_patch(former, wanted) == {
        "a": 2, "server": {"version": "7", "settings": {"x": "3", "y": None}}, "gone": None,
    }  # fmt: skip
