"""A Worker's objects: ownership, the workload of each provider, the configuration that hosts read, the purge Job."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.manifests import load_manifests
from perdure.manifests.effective import resolve
from perdure.reconciler.objects.children import children
from perdure.reconciler.objects.common import LABEL
from perdure.reconciler.objects.config import config_map
from perdure.reconciler.objects.network import disruption_budget
from perdure.reconciler.objects.purge import FOR_UID, Clearing, purge_config, purge_job
from perdure.reconciler.objects.workload import claim_name, with_existing_claim, workload
from support.plans import POSTGRES, REDIS, SECURE, SQLITE, UID, plan

SECRET = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "later-gone", "key": "k"}}}]


def kinds(**options: Any) -> list[tuple[str, str]]:
    return [(obj["kind"], obj["metadata"]["name"]) for obj in children(plan(**options))]


def test_all_children_are_owned_and_labelled() -> None:
    for obj in children(plan()):
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("Worker", "carts", UID, True)
        assert obj["metadata"]["labels"][LABEL] == "carts"
        assert obj["metadata"]["namespace"] == "shop"


def test_a_workload_of_each_kind() -> None:
    assert ("Deployment", "carts") in kinds()
    assert ("StatefulSet", "carts") in kinds(providers={"main": SQLITE})
    assert ("ServiceAccount", "carts") in kinds()


def test_the_users_service_account_is_not_made() -> None:
    assert "ServiceAccount" not in dict(kinds(podTemplate={"spec": {"serviceAccountName": "mine"}}))


def test_selectors_find_the_pods() -> None:
    made = children(plan(podTemplate={"metadata": {"labels": {LABEL: "stolen"}}}))
    found = {obj["kind"] + obj["metadata"]["name"]: obj for obj in made}
    labels = found["Deploymentcarts"]["spec"]["template"]["metadata"]["labels"]
    selectors = [found["Deploymentcarts"]["spec"]["selector"]["matchLabels"],
                 found["PodDisruptionBudgetcarts"]["spec"]["selector"]["matchLabels"],
                 found["Servicecarts"]["spec"]["selector"], found["Servicecarts-hosts"]["spec"]["selector"]]  # fmt: skip
    for selector in selectors:
        assert selector.items() <= labels.items()
        # Not those of a purge Job: the Service must not lead to it.
        assert (
            not selector.items()
            <= purge_job(plan(), Clearing.DATA, 9)["spec"]["template"]["metadata"]["labels"].items()
        )


def test_replicas_are_left_to_an_autoscaler() -> None:
    assert workload(plan(replicas=4))["spec"]["replicas"] == 4
    assert "replicas" not in workload(plan(replicas=4, changes={"set_replicas": False}))["spec"]


def test_no_host_is_taken_away_before_another_is_ready() -> None:
    assert workload(plan())["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_an_sqlite_home_has_a_volume_that_outlives_its_workload(policy: str) -> None:
    spec = workload(plan(providers={"main": SQLITE}, deletionPolicy=policy))["spec"]
    assert spec["serviceName"] == "carts-hosts"
    assert spec["podManagementPolicy"] == "Parallel", "a pod that never gets ready must be replaceable"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(2 << 30)}},
        "storageClassName": "fast",
    }
    assert claim["metadata"]["labels"][LABEL] == "carts"
    assert claim_name("carts") == f"{claim['metadata']['name']}-carts-0"
    (container,) = spec["template"]["spec"]["containers"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/perdure"} in container["volumeMounts"]
    (plain,) = workload(plan(providers={"main": {"sqlite": {}}}))["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in plain["spec"], "the cluster's default class"


def test_a_volume_that_was_made_keeps_its_claim() -> None:
    """A StatefulSet's claim is immutable: a provider with another size must not block its Workers."""
    existing = workload(plan(providers={"main": SQLITE}))
    wanted = workload(plan(providers={"main": {"sqlite": {"size": "9Gi"}}}))
    assert (
        with_existing_claim(wanted, existing)["spec"]["volumeClaimTemplates"]
        == existing["spec"]["volumeClaimTemplates"]
    )
    assert with_existing_claim(wanted, None) == wanted
    assert with_existing_claim(workload(plan()), workload(plan())) == workload(plan())
    service = next(obj for obj in children(plan()) if obj["kind"] == "Service")
    assert with_existing_claim(service, existing) == service


def read(data: dict[str, str]) -> Any:
    (text,) = data.values()
    found = load_manifests(text, source="perdure.yaml")
    return resolve(found.workers[0], found.providers)


def test_hosts_read_what_the_manifests_said() -> None:
    made = plan(
        providers={"main": {**SECURE, "redis": {**SECURE["redis"], "timeout": "1500ms"}}, "second": REDIS},
        keyValue={"buckets": [{"name": "b", "provider": "second", "ttl": "1h30m", "maxValueBytes": "64Ki"}]},
        limits={"invocationTimeout": "1m", "memory": "32Mi", "maxPendingPerInstance": 7},
        durability={"commit": "Effect", "replayBudget": "250ms", "maxJournalBytes": "1Mi", "maxResults": 9},
        retry={"maxAttempts": 2, "initialInterval": "2s", "multiplier": "1.5", "failures": ["Timeout"]},
        update="Pin",
        env=[{"name": "A", "value": "b"}],
        component={"image": "registry.example/carts:1.0"},
        changes={"image_ref": "registry.example/carts@sha256:" + "a" * 64},
    )
    found = read(config_map(made)["data"])
    wanted = made.effective
    assert found.worker.spec.key_value.model_copy(update={"provider": None}) == wanted.worker.spec.key_value
    assert found.worker.spec.limits == wanted.worker.spec.limits
    assert found.worker.spec.env == wanted.worker.spec.env
    assert found.worker.spec.durability == wanted.worker.spec.durability
    assert (found.worker.spec.retry, found.worker.spec.update) == (wanted.worker.spec.retry, "Pin")
    assert found.worker.spec.component.image == made.image_ref, "the pinned digest, not the tag"
    assert found.home.name == "main"
    assert [p.spec.redis for p in found.providers] == [p.spec.redis for p in wanted.providers]


@pytest.mark.parametrize(
    "spec",
    [
        POSTGRES,
        {"redis": {"url": "redis://node:6379", "cluster": True, "waitReplicas": 1}},
        {"redis": {"sentinel": {"masterName": "m", "addresses": ["a:26379"], "database": 3}}},
    ],
)
def test_hosts_read_every_kind_of_server(spec: dict[str, Any]) -> None:
    made = plan(providers={"main": spec})
    (found,) = read(config_map(made)["data"]).providers
    assert found.spec.server == made.effective.home.spec.server
    assert purge_job(made, Clearing.DATA, 9)["spec"]["template"]["spec"]["containers"][0]["args"][0] == "purge"


def test_nothing_secret_is_in_the_configuration() -> None:
    (text,) = config_map(plan(providers={"main": SECURE}, env=SECRET))["data"].values()
    assert "redis-auth" in text, "references are"
    assert "password" not in text


def test_the_purge_job_reaches_all_providers_and_needs_nothing_else() -> None:
    template = {
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "serviceAccountName": "mine",
            "volumes": [{"name": "extra", "secret": {"secretName": "later-gone"}}],
            "containers": [{"name": "host", "volumeMounts": [{"name": "extra", "mountPath": "/x"}]},
                           {"name": "sidecar", "image": "s"}],
        }
    }  # fmt: skip
    made = plan(
        providers={"main": SECURE, "second": REDIS},
        keyValue={"buckets": [{"name": "b", "provider": "second"}]},
        env=SECRET,
        podTemplate=template,
        component={"image": "r.example/c:1", "pullSecrets": [{"name": "later-gone"}]},
    )
    job = purge_job(made, Clearing.DATA, 300)
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert job["spec"]["activeDeadlineSeconds"] == 300
    assert container["args"][0] == "purge"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert (spec["nodeSelector"], spec["serviceAccountName"]) == ({"disk": "ssd"}, "mine")
    # Secrets of the guest and of its registry may be deleted together with the Worker.
    assert "later-gone" not in str(job)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert "/etc/perdure/secrets/main" in {mount["mountPath"] for mount in container["volumeMounts"]}
    found = read(purge_config(made, Clearing.DATA)["data"])
    assert [provider.name for provider in found.providers] == ["main", "second"]
    assert found.worker.spec.env == ()


def test_the_purge_job_is_not_owned_but_knows_its_worker() -> None:
    """A foreground deletion takes owned objects away before the finalizer has run."""
    for what, name in ((Clearing.DATA, "carts-purge"), (Clearing.WATCHES, "carts-unwatch")):
        for obj in (purge_job(plan(), what, 300), purge_config(plan(), what)):
            assert obj["metadata"]["name"] == name
            assert "ownerReferences" not in obj["metadata"]
            assert obj["metadata"]["annotations"][FOR_UID] == UID
            assert obj["metadata"]["labels"][LABEL] == "carts"


def test_the_job_that_ends_watches_is_the_same_but_deletes_nothing() -> None:
    def pod(what: Clearing) -> tuple[list[str], dict[str, Any]]:
        spec = purge_job(plan(), what, 300)["spec"]["template"]["spec"]
        (config,) = [volume for volume in spec["volumes"] if volume["name"] == "config"]
        return spec["containers"][0].pop("args"), config.pop("configMap") and spec

    (purge, one), (unwatch, other) = pod(Clearing.DATA), pod(Clearing.WATCHES)
    assert unwatch == [*purge, "--watches-only"]
    assert one == other


def test_a_node_can_be_drained_while_no_host_answers() -> None:
    spec = disruption_budget(plan())["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
