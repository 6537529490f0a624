"""The pod template: hardened, merged with the user's, and told apart by a checksum that changes only when it must."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.errors import ManifestError
from perdure.reconciler.objects.pods import CHECKSUM, checksum, pod_template
from perdure.reconciler.objects.purge import Clearing, purge_job
from support.plans import POSTGRES, REDIS, SECURE, SQLITE, plan

OTHER = {"redis": {"url": "redis://other:6379/1"}}
DIGEST = "e" * 64


def host(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_template(plan(**options))["spec"]["containers"][0]
    return found


def template(metadata: object = None, **spec: object) -> dict[str, Any]:
    return {"podTemplate": {**({"metadata": metadata} if metadata is not None else {}), "spec": spec}}


def by(key: str, items: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    found = {item[key]: item for item in items}
    assert len(found) == len(items), f"{key} given twice"
    return found


def test_pods_meet_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, restricted."""
    spec = pod_template(plan())["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container["ports"])
    assert all(set(volume) - {"name"} <= {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
               for volume in spec["volumes"])  # fmt: skip


@pytest.mark.parametrize("asked", [{}, {"serviceAccountName": "mine"}, {"automountServiceAccountToken": True}])
def test_no_service_account_token_is_ever_mounted(asked: dict[str, object]) -> None:
    spec = pod_template(plan(**template(**asked)))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == asked.get("serviceAccountName", "carts")


def test_the_grace_period_covers_the_longest_call() -> None:
    spec = pod_template(plan(limits={"invocationTimeout": "90s"}))["spec"]
    arguments = spec["containers"][0]["args"]
    assert 90 < float(arguments[arguments.index("--grace") + 1]) < spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("component", "volume", "file"),
    [
        ({"configMap": {"name": "c", "key": "a.wasm"}}, {"configMap": {"name": "c"}}, "a.wasm"),
        (
            {"persistentVolumeClaim": {"claimName": "v", "path": "x/y.wasm"}, "sha256": DIGEST},
            {"persistentVolumeClaim": {"claimName": "v", "readOnly": True}},
            "x/y.wasm",
        ),
    ],
)
def test_mounted_components(component: dict[str, Any], volume: dict[str, Any], file: str) -> None:
    spec = pod_template(plan(component=component))["spec"]
    container = spec["containers"][0]
    assert by("name", spec["volumes"])["component"] == {"name": "component", **volume}
    mount = by("mountPath", container["volumeMounts"])["/etc/perdure/component"]
    assert mount["readOnly"] is True
    assert container["args"][container["args"].index("--component-file") + 1] == f"/etc/perdure/component/{file}"


def test_fetched_components() -> None:
    image = {"image": "registry.example/carts:1.0", "pullSecrets": [{"name": "login"}]}
    made = plan(component=image, changes={"insecure_registries": ("registry.example",)})
    spec = pod_template(made)["spec"]
    assert "--component-file" not in spec["containers"][0]["args"]
    assert "registry.example" in spec["containers"][0]["args"]
    assert by("name", spec["volumes"])["pull-0"]["secret"] == {"secretName": "login"}


def test_secrets_of_providers_are_mounted_where_hosts_look() -> None:
    spec = pod_template(plan(providers={"main": SECURE}))["spec"]
    mounts = by("mountPath", spec["containers"][0]["volumeMounts"])
    volumes = by("name", spec["volumes"])
    assert volumes[mounts["/etc/perdure/secrets/main"]["name"]]["secret"] == {"secretName": "redis-auth"}
    authority = volumes[mounts["/etc/perdure/secrets/main-ca"]["name"]]["secret"]
    assert authority == {
        "secretName": "redis-ca",
        "items": [{"key": "authority.pem", "path": "authority.pem"}],
        "optional": True,
    }


def test_secrets_of_postgres_are_mounted_like_those_of_redis() -> None:
    spec = pod_template(plan(providers={"main": POSTGRES}))["spec"]
    mounts = by("mountPath", spec["containers"][0]["volumeMounts"])
    volumes = by("name", spec["volumes"])
    assert volumes[mounts["/etc/perdure/secrets/main"]["name"]]["secret"] == {"secretName": "pg-auth"}
    authority = volumes[mounts["/etc/perdure/secrets/main-ca"]["name"]]["secret"]
    assert authority == {"secretName": "pg-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": True}


def test_the_authority_that_guests_trust_is_mounted() -> None:
    reference = {"name": "corporate-ca", "key": "root.pem"}
    made = plan(http={"allow": ["api.internal"], "tls": {"caSecretRef": reference}})
    spec = pod_template(made)["spec"]
    mounts = by("mountPath", spec["containers"][0]["volumeMounts"])
    source = by("name", spec["volumes"])[mounts["/etc/perdure/secrets/_http-ca"]["name"]]["secret"]
    items = [{"key": "root.pem", "path": "root.pem"}]
    assert source == {"secretName": "corporate-ca", "items": items, "optional": True}
    assert "/etc/perdure/secrets/_http-ca" not in by(
        "mountPath", pod_template(plan())["spec"]["containers"][0]["volumeMounts"]
    )


def test_secrets_of_sentinels_are_their_own() -> None:
    sentinel = {"masterName": "m", "addresses": ["s:26379"], "credentialsSecretRef": {"name": "sentinel-auth"}}
    given = {"main": {"redis": {"sentinel": sentinel, "credentialsSecretRef": {"name": "redis-auth"}}}}
    spec = pod_template(plan(providers=given))["spec"]
    mounts = by("mountPath", spec["containers"][0]["volumeMounts"])
    volumes = by("name", spec["volumes"])
    for path, secret in (("main", "redis-auth"), ("main-sentinel", "sentinel-auth")):
        assert volumes[mounts[f"/etc/perdure/secrets/{path}"]["name"]]["secret"] == {"secretName": secret}
    job = purge_job(plan(providers=given), Clearing.DATA, 9)["spec"]["template"]["spec"]
    assert "/etc/perdure/secrets/main-sentinel" in by("mountPath", job["containers"][0]["volumeMounts"])


def test_secrets_of_a_foreign_provider_are_mounted_with_its_client_certificate() -> None:
    etcd = {
        "endpoints": ["https://etcd:2379"],
        "credentialsSecretRef": {"name": "etcd-auth"},
        "tls": {"caSecretRef": {"name": "etcd-ca"}, "clientCertificateSecretRef": {"name": "etcd-client"}},
    }
    made = plan(
        providers={"main": {"memory": {}}, "far": {"etcd": etcd}},
        keyValue={"buckets": [{"name": "b", "provider": "far"}]},
    )
    spec = pod_template(made)["spec"]
    mounted = {item["name"]: item["mountPath"] for item in spec["containers"][0]["volumeMounts"]}
    volumes = {item["name"]: item for item in spec["volumes"]}
    paths = {volumes[name]["secret"]["secretName"]: path for name, path in mounted.items() if "secret" in volumes[name]}
    folder = "/etc/perdure/secrets/far"
    assert paths == {"etcd-auth": folder, "etcd-ca": f"{folder}-ca", "etcd-client": f"{folder}-tls"}
    job = purge_job(made, Clearing.DATA, 300)["spec"]["template"]["spec"]
    needed = {item["mountPath"] for item in job["containers"][0]["volumeMounts"]}
    assert needed >= set(paths.values())


def test_variables_cannot_override_the_process_environment() -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    container = host(env=[{"name": "PATH", "valueFrom": source}, {"name": "PLAIN", "value": "x"}])
    assert set(by("name", container["env"])) == {"POD_NAME", "POD_IP", "PERDURE_GUEST_PATH"}


def test_the_users_template_is_merged() -> None:
    given = template(
        {"labels": {"team": "a", "app.kubernetes.io/name": "mine"}, "annotations": {"note": "n", CHECKSUM: "frozen"}},
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        priorityClassName="high",
        volumes=[{"name": "extra", "secret": {"secretName": "s"}}, {"name": "cache", "ephemeral": {}}],
        containers=[
            {
                "name": "host",
                "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "2"}},
                "env": [{"name": "POD_NAME", "value": "mine"}, {"name": "LC_ALL", "value": "C"}],
                "volumeMounts": [{"name": "extra", "mountPath": "/a"}, {"name": "extra", "mountPath": "/b"}],
                "ports": [{"containerPort": 7000}, {"containerPort": 7001}],
            },
            {"name": "sidecar", "image": "s"},
        ],
    )
    found = pod_template(plan(**given))
    # What Services and rollouts stand on stays.
    assert found["metadata"]["labels"]["team"] == "a"
    assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "perdure-host"
    assert found["metadata"]["annotations"]["note"] == "n"
    assert found["metadata"]["annotations"][CHECKSUM] != "frozen"
    spec = found["spec"]
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"disk": "ssd"}, "high")
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    volumes = by("name", spec["volumes"])
    assert volumes["cache"] == {"name": "cache", "ephemeral": {}}, "a volume has one source"
    assert {"extra", "config", "tmp", "component"} <= set(volumes)
    containers = by("name", spec["containers"])
    assert containers["sidecar"] == {"name": "sidecar", "image": "s"}
    container = containers["host"]
    assert container["image"] == "perdure:1"
    assert container["resources"] == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "2", "memory": "128Mi"}}
    assert by("name", container["env"])["POD_NAME"] == {"name": "POD_NAME", "value": "mine"}
    assert {"POD_IP", "LC_ALL"} <= set(by("name", container["env"]))
    assert {"/a", "/b", "/tmp", "/etc/perdure/config"} <= set(by("mountPath", container["volumeMounts"]))
    assert {7000, 7001, 8080, 9090} == set(by("containerPort", container["ports"]))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"metadata": None}, "spec.podTemplate.metadata"),
        ({"metadata": {"labels": None}}, "spec.podTemplate.metadata.labels"),
        ({"metadata": {"labels": {"a": 1}}}, "spec.podTemplate.metadata.labels.a"),
        ({"metadata": {"annotations": "x"}}, "spec.podTemplate.metadata.annotations"),
        ({"spec": []}, "spec.podTemplate.spec"),
        ({"spec": {"serviceAccountName": {}}}, "spec.podTemplate.spec.serviceAccountName"),
        ({"spec": {"containers": "x"}}, "spec.podTemplate.spec.containers"),
        ({"spec": {"containers": ["x"]}}, "spec.podTemplate.spec.containers[0]"),
        ({"spec": {"containers": [{"name": ["a"]}]}}, "spec.podTemplate.spec.containers[0].name"),
        ({"spec": {"containers": [{"name": "host", "env": [{}]}]}}, "spec.podTemplate.spec.containers[0].env[0].name"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "spec.podTemplate.spec.volumes[0].name"),
    ],
)
def test_a_template_that_cannot_be_merged_is_refused_by_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ManifestError) as refused:
        plan(podTemplate=given)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 5},
        {"deletionPolicy": "Delete"},
        {"service": {"type": "NodePort", "annotations": {"a": "b"}}},
        {"keyValue": {"provider": "main", "undeclaredBuckets": "Allow"}},
        {"component": {"configMap": {"name": "carts-component"}, "sha256": "d" * 64}},
        {"providers": {"main": {**REDIS, "allowedNamespaces": ["shop"]}}},
        {"providers": {"main": REDIS, "unused": OTHER}},
        {"changes": {"set_replicas": False}},
    ],
    ids=str,
)
def test_the_checksum_stays(change: dict[str, Any]) -> None:
    assert checksum(plan(**{"keyValue": {"undeclaredBuckets": "Allow"}, **change})) == checksum(
        plan(keyValue={"undeclaredBuckets": "Allow"})
    )


@pytest.mark.parametrize(
    "change",
    [
        {"changes": {"digest": "sha256:" + "e" * 64}},
        {"changes": {"host_image": "perdure:2"}},
        {"changes": {"versions": (("Secret/s", "7"),)}},
        {"changes": {"insecure_registries": ("r:5000",)}},
        {"component": {"configMap": {"name": "another"}}},
        {"limits": {"memory": "32Mi"}},
        {"durability": {"commit": "Effect"}},
        {"retry": {"maxAttempts": 9}},
        {"update": "Migrate"},
        {"env": [{"name": "A", "value": "b"}]},
        {"keyValue": {"undeclaredBuckets": "Allow", "buckets": [{"name": "b"}]}},
        {"providers": {"main": OTHER}},
        {"providers": {"renamed": REDIS}},
        template(nodeSelector={"disk": "ssd"}),
        template({"annotations": {"restarted": "now"}}),
    ],
    ids=str,
)
def test_the_checksum_changes_with_what_a_running_host_would_not_notice(change: dict[str, Any]) -> None:
    before = plan(keyValue={"undeclaredBuckets": "Allow"})
    after = plan(**{"keyValue": {"undeclaredBuckets": "Allow"}, **change})
    assert checksum(before) != checksum(after)
    for made in (before, after):
        assert pod_template(made)["metadata"]["annotations"][CHECKSUM] == checksum(made)


def test_a_larger_volume_restarts_no_host() -> None:
    larger = {"sqlite": {"size": "9Gi", "storageClassName": "slow"}}
    assert checksum(plan(providers={"main": SQLITE})) == checksum(plan(providers={"main": larger}))


def test_files_of_guests_are_mounted_read_only_by_their_number() -> None:
    files = [
        {"mountPath": "/etc/app", "configMap": {"name": "app"}},
        {"mountPath": "/models", "persistentVolumeClaim": {"claimName": "models", "path": "v1/small"}},
    ]
    spec = pod_template(plan(files=files))["spec"]
    volumes = by("name", spec["volumes"])
    assert volumes["files-0"] == {"name": "files-0", "configMap": {"name": "app"}}
    assert volumes["files-1"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    mounts = by("mountPath", spec["containers"][0]["volumeMounts"])
    assert mounts["/etc/perdure/files/0"] == {"name": "files-0", "mountPath": "/etc/perdure/files/0", "readOnly": True}
    assert mounts["/etc/perdure/files/1"]["subPath"] == "v1/small" and mounts["/etc/perdure/files/1"]["readOnly"]
    assert checksum(plan(files=files)) != checksum(plan(files=files[:1]))
