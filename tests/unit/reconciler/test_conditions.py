"""Conditions: the first cause is what `Ready` says, every reason can be reached and is documented."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure.reconciler.conditions import Facts, Problem, Reason, merged, transitions, verdicts
from perdure.reconciler.deletion import FINALIZER, FORCE
from perdure.reconciler.objects.pods import CHECKSUM
from perdure.reconciler.observation import observe, why_no_pods
from perdure.reconciler.providers import accept, provider_status
from support.plans import REDIS
from unit.reconciler.test_probes import OF_PROBES

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "conditions.md"
GOOD = Facts(digest="sha256:d", provider="main", desired=3, ready=3, updated=3, total=3)
COMPONENT = Problem(Reason.COMPONENT_NOT_FOUND, "no component")
REFUSED = Problem(Reason.COMPONENT_REFUSED, "a core module")
PROVIDER = Problem(Reason.PROVIDER_NOT_FOUND, "no provider")
NOT_ALLOWED = Problem(Reason.PROVIDER_REFUSED, "not allowed")
SECRET = Problem(Reason.SECRET_NOT_FOUND, "no secret")
CONFIG = Problem(Reason.CONFIG_MAP_NOT_FOUND, "no config")
CLAIM = Problem(Reason.CLAIM_NOT_FOUND, "no claim")
ACCOUNT = Problem(Reason.ACCOUNT_NOT_FOUND, "no account")
NOW = datetime.datetime(2026, 1, 1, 12, 0, 30, tzinfo=datetime.UTC)


def found(**facts: Any) -> dict[str, tuple[str, str, str]]:
    made = verdicts(dataclasses.replace(GOOD, **facts))
    return {verdict.type: (verdict.status, verdict.reason.value, verdict.message) for verdict in made}


def test_all_is_well() -> None:
    assert {name: status for name, (status, _, _) in found().items()} == {
        "ComponentResolved": "True", "ProviderReady": "True", "Available": "True", "Progressing": "False",
        "Ready": "True",
    }  # fmt: skip


# In the order in which causes hide one another.
CAUSES: list[tuple[dict[str, Any], Reason, str]] = [
    ({"spec_error": "the spec"}, Reason.INVALID_SPEC, "the spec"),
    ({"component_error": COMPONENT}, Reason.COMPONENT_NOT_FOUND, "no component"),
    ({"provider_error": NOT_ALLOWED}, Reason.PROVIDER_REFUSED, "not allowed"),
    ({"reference_error": SECRET}, Reason.SECRET_NOT_FOUND, "no secret"),
    ({"refusal": ("bad-manifest", "by a host")}, Reason.INVALID_SPEC, "by a host"),
    ({"ready": 0, "waiting": "pod a waits"}, Reason.HOSTS_NOT_READY, "pod a waits"),
    ({"ready": 2}, Reason.HOSTS_NOT_READY, "2 of 3 hosts answer"),
]


@pytest.mark.parametrize("number", range(len(CAUSES)))
def test_ready_says_the_first_cause(number: int) -> None:
    everything: dict[str, Any] = {}
    for facts, _, _ in reversed(CAUSES[number:]):
        everything |= facts
    _, reason, words = CAUSES[number]
    assert found(**everything)["Ready"] == ("False", reason.value, words)


@pytest.mark.parametrize("cause", [c for c in CAUSES if not {"ready", "refusal"} & set(c[0])], ids=lambda c: c[2])
def test_what_is_blocked_says_so_while_what_runs_runs_on(cause: tuple[dict[str, Any], Reason, str]) -> None:
    conditions = found(**cause[0])
    assert conditions["Progressing"] == ("False", "Blocked", cause[2])
    assert conditions["Available"][0] == "True", "a mistake in the manifest does not stop running hosts"


@pytest.mark.parametrize(
    ("facts", "condition", "wanted"),
    [
        ({"component_error": REFUSED}, "ComponentResolved", ("False", "ComponentRefused", "a core module")),
        (
            {"ready": 0, "refusal": ("component-unsupported", "uses stream<T>")},
            "ComponentResolved",
            ("False", "ComponentRefused", "uses stream<T>"),
        ),
        ({"provider_error": PROVIDER}, "ProviderReady", ("False", "ProviderNotFound", "no provider")),
        ({"reference_error": CONFIG}, "ProviderReady", ("False", "ConfigMapNotFound", "no config")),
        (
            {"ready": 0, "refusal": ("provider-unavailable", "refused the credentials")},
            "ProviderReady",
            ("False", "ProviderUnavailable", "refused the credentials"),
        ),
        ({"ready": 0, "unreachable": "by the probe"}, "ProviderReady", ("False", "ProviderUnavailable", "by the probe")),
        (
            {"ready": 0, "refusal": ("provider-unavailable", "by a host"), "unreachable": "by the probe"},
            "ProviderReady",
            ("False", "ProviderUnavailable", "by a host"),
        ),
        ({"ready": 1, "unreachable": "by the probe"}, "ProviderReady",
         ("True", "Resolved", "KeyValueProvider main is used")),
        ({"desired": 0, "ready": 0, "updated": 0, "total": 0}, "Available",
         ("False", "Suspended", "replicas is 0: no host runs, the data stays")),
        ({"desired": 0, "ready": 0, "updated": 0, "total": 0}, "Progressing",
         ("False", "UpToDate", "all hosts run the present configuration")),
        ({"ready": 0, "refusal": ("bad-manifest", "spec.env: no")}, "Available",
         ("False", "HostsNotReady", "spec.env: no")),
        ({"updated": 0, "total": 4, "refusal": ("bad-manifest", "spec.env: no")}, "Available",
         ("True", "HostsAvailable", "3 of 3 hosts answer")),
        ({"updated": 0, "total": 4, "refusal": ("bad-manifest", "spec.env: no")}, "Ready",
         ("False", "InvalidSpec", "spec.env: no")),
        ({"updated": 0, "total": 4, "refusal": ("bad-manifest", "spec.env: no")}, "Progressing",
         ("True", "RollingOut", "spec.env: no")),
        ({"updated": 1}, "Progressing", ("True", "RollingOut", "1 of 3 hosts run the present configuration")),
        ({"stopping": 1}, "Progressing",
         ("True", "RollingOut", "1 hosts of a former configuration finish their calls")),
        ({"total": 4}, "Progressing", ("True", "RollingOut", "3 of 3 hosts run the present configuration")),
        ({"spec_error": "bad"}, "ComponentResolved", ("Unknown", "InvalidSpec", "bad")),
        ({"spec_error": "bad"}, "ProviderReady", ("Unknown", "InvalidSpec", "bad")),
        ({}, "ComponentResolved", ("True", "Resolved", "the component is sha256:d")),
        ({}, "Ready", ("True", "Reconciled", "3 of 3 hosts answer")),
    ],
)  # fmt: skip
def test_each_condition(facts: dict[str, Any], condition: str, wanted: tuple[str, str, str]) -> None:
    assert found(**facts)[condition] == wanted


def test_a_rollout_of_running_hosts_is_ready_and_progressing() -> None:
    conditions = found(updated=1, total=4, ready=3)
    assert conditions["Ready"][0] == conditions["Progressing"][0] == "True"


def test_every_reason_is_documented() -> None:
    text = DOCUMENT.read_text()
    missing = [reason.value for reason in Reason if f"`{reason.value}`" not in text]
    assert missing == []
    for name in (*found(), FINALIZER, FORCE):
        assert f"`{name}" in text


def test_every_reason_can_be_reached() -> None:
    facts: list[dict[str, Any]] = [
        {}, {"updated": 1}, {"desired": 0, "ready": 0}, {"ready": 0}, {"component_error": REFUSED},
        {"provider_error": PROVIDER}, {"reference_error": CONFIG}, {"reference_error": CLAIM}, {"reference_error": ACCOUNT},
        {"ready": 0, "refusal": ("provider-unavailable", "x")}, *(cause[0] for cause in CAUSES),
    ]  # fmt: skip
    reached = {reason for each in facts for _, reason, _ in found(**each).values()}
    reached |= {condition["reason"] for condition in provider(REDIS)["conditions"]}
    # test_deletion.py reaches one, test_probes.py those of probes.
    assert {reason.value for reason in Reason} - reached == {Reason.DELETING.value, *OF_PROBES}


def test_a_transition_time_changes_with_the_status_only() -> None:
    first = merged(verdicts(GOOD), [], 1, "2026-01-01T00:00:00Z")
    second = merged(verdicts(dataclasses.replace(GOOD, ready=2)), first, 2, "2026-01-02T00:00:00Z")
    times = {condition["type"]: condition["lastTransitionTime"][:10] for condition in second}
    assert times["Ready"] == "2026-01-02"
    assert times["Available"] == "2026-01-01", "another message is no transition"
    assert {condition["observedGeneration"] for condition in second} == {2}
    assert [condition["type"] for condition in transitions(first, second)] == ["Progressing", "Ready"]
    assert transitions(second, second) == []


def test_a_hostile_message_is_cut() -> None:
    (condition,) = [
        c for c in merged(verdicts(dataclasses.replace(GOOD, ready=0, waiting="x" * 9999)), [], 1, "now")
        if c["type"] == "Ready"
    ]  # fmt: skip
    assert len(condition["message"]) == 1024


def provider(spec: dict[str, Any], defaults: tuple[str, ...] = ()) -> dict[str, Any]:
    document = yaml.safe_load("{apiVersion: perdure.dev/v1alpha1, kind: KeyValueProvider, metadata: {name: main}}")
    whole = {**document, "spec": spec}
    return provider_status(whole, *accept(whole, list(defaults)), None, 2, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("spec", "defaults", "status", "words"),
    [
        (REDIS, (), "True", "connect to it from their own pods"),
        ({"sqlite": {}}, (), "True", "a volume of its own"),
        ({"memory": {}, "default": True}, ("main",), "True", "nothing survives"),
        ({**REDIS, "default": True}, ("main", "other"), "False", "other is the default one, too"),
        ({"redis": {"url": "http://x"}}, (), "False", "redis://host:port/database"),
    ],
)
def test_the_status_of_a_provider(spec: dict[str, Any], defaults: tuple[str, ...], status: str, words: str) -> None:
    found = provider(spec, defaults)
    (ready,) = found["conditions"]
    assert ready["status"] == status
    assert words in ready["message"]
    assert found["workers"] == 2


def pod(name: str = "a", *, current: bool = True, ready: bool = False, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "annotations": {CHECKSUM: "now" if current else "before"}},
        "status": {"conditions": conditions, "podIP": "10.0.0.1", **status},
    }


def host(**state: Any) -> dict[str, Any]:
    return {
        "containerStatuses": [
            {"name": "sidecar", "state": {"waiting": {"reason": "ContainerCreating"}}},
            {"name": "host", **state},
        ]
    }


def test_pods_that_go_or_have_ended_do_not_count() -> None:
    going = pod("going", ready=True)
    going["metadata"]["deletionTimestamp"] = "now"
    seen = observe(
        [pod("a", ready=True), pod("b", current=False, ready=True), going, pod("c", phase="Failed")], "now", NOW
    )
    assert (seen.total, seen.ready, seen.current) == (2, 2, 1)


def test_a_host_of_a_former_configuration_counts_until_it_answers_no_more() -> None:
    running, ended = host(state={"running": {}}), host(state={"terminated": {}})
    pods = [pod("a", current=False, **running), pod("b", current=False, **ended), pod("c", **running)]
    for each in pods:
        each["metadata"]["deletionTimestamp"] = "now"
    assert observe(pods, "now", NOW).stopping == 1, "one that has ended, and one that is merely scaled away, do not"


@pytest.mark.parametrize(
    ("status", "refusal", "waiting", "silent"),
    [
        (host(state={"terminated": {"message": "component-invalid: not one\n"}}), ("component-invalid", "not one"), None, None),
        (host(state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
              lastState={"terminated": {"message": "provider-unavailable: no"}}),
         ("provider-unavailable", "no"), "pod a: CrashLoopBackOff: no", None),
        (host(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}), None,
         "pod a: ImagePullBackOff: no such image", None),
        (host(state={"waiting": {"reason": "ContainerCreating"}}), None, None, None),
        (host(state={"running": {}}), None, None, "10.0.0.1"),
        (host(state={"terminated": {"message": "Traceback (most recent call last): x"}}), None, None, None),
        ({}, None, None, None),
    ],
)  # fmt: skip
def test_what_a_pod_says(
    status: dict[str, Any], refusal: tuple[str, str] | None, waiting: str | None, silent: str | None
) -> None:
    seen = observe([pod(**status)], "now", NOW)
    assert (seen.refusal, seen.waiting, seen.silent) == (refusal, waiting, silent)
    # What a pod of a former configuration says is not about this one.
    former = observe([pod(current=False, **status)], "now", NOW)
    assert (former.refusal, former.waiting, former.silent) == (None, None, None)


def test_a_pod_that_cannot_be_scheduled() -> None:
    waits = pod()
    waits["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]
    assert observe([waits], "now", NOW).waiting == "pod a cannot be scheduled: 0/1 nodes are available"


def test_a_container_beside_the_host_that_does_not_start_is_named() -> None:
    broken = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
    starts = host(state={"waiting": {"reason": "PodInitializing"}})
    first = pod(**starts, initContainerStatuses=[{"name": "migrate", **broken}])
    assert observe([first], "now", NOW).waiting == "pod a, container migrate: CrashLoopBackOff: back-off"
    runs = host(state={"running": {}})
    runs["containerStatuses"][0] |= broken
    assert observe([pod(**runs)], "now", NOW).waiting == "pod a, container sidecar: CrashLoopBackOff: back-off"


@pytest.mark.parametrize(("started", "told"), [("2026-01-01T12:00:20Z", False), ("2026-01-01T12:00:00Z", True)])
def test_a_pod_that_does_not_get_its_volumes_is_named_after_a_while(started: str, told: bool) -> None:
    waits = pod(**host(state={"waiting": {"reason": "ContainerCreating"}}), startTime=started)
    words = f"pod a is being started since {started}: kubectl describe pod a says what it waits for"
    assert observe([waits], "now", NOW).waiting == (words if told else None)
    # What somebody says is better than that nobody does.
    refused = pod("b", **host(state={"waiting": {"reason": "ImagePullBackOff", "message": "none"}}))
    assert observe([waits, refused], "now", NOW).waiting == "pod b: ImagePullBackOff: none"


def workload(kind: str, status: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "carts", "generation": 2}, "spec": {"replicas": 1}, "status": status}


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("Deployment", {}, None),
        ("Deployment", {"conditions": [{"type": "Available", "status": "False"}]}, None),
        ("Deployment", {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                                        "message": "exceeded quota: pods"}]},
         "Deployment carts: FailedCreate: exceeded quota: pods"),
        ("StatefulSet", {"observedGeneration": 1, "replicas": 0}, None),
        ("StatefulSet", {"observedGeneration": 2, "replicas": 1}, None),
        ("StatefulSet", {"observedGeneration": 2, "replicas": 0},
         "StatefulSet carts has no pod: kubectl describe statefulset carts says why"),
    ],
)  # fmt: skip
def test_why_there_are_no_pods(kind: str, status: dict[str, Any], words: str | None) -> None:
    assert why_no_pods(workload(kind, status)) == words
