"""kubectl and the API server's proxy, as a user has them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.cli.client import Client
from support.servers import free_port

Object = dict[str, Any]
Objects = list[Object]
_LONGEST_CALL = 12.0
"""Seconds; more than an invocation may take. The API server's connection to a pod that was killed just hangs."""
_RESOURCES = {
    "worker": ("apis/perdure.dev/v1alpha1", "workers", True),
    "kvp": ("apis/perdure.dev/v1alpha1", "keyvalueproviders", False),
    "pod": ("api/v1", "pods", True),
    "service": ("api/v1", "services", True),
    "configmap": ("api/v1", "configmaps", True),
    "serviceaccount": ("api/v1", "serviceaccounts", True),
    "persistentvolumeclaim": ("api/v1", "persistentvolumeclaims", True),
    "event": ("api/v1", "events", True),
    "deployment": ("apis/apps/v1", "deployments", True),
    "statefulset": ("apis/apps/v1", "statefulsets", True),
    "job": ("apis/batch/v1", "jobs", True),
    "poddisruptionbudget": ("apis/policy/v1", "poddisruptionbudgets", True),
    "lease": ("apis/coordination.k8s.io/v1", "leases", True),
    "storageclass": ("apis/storage.k8s.io/v1", "storageclasses", False),
}


class CommandFailed(AssertionError):
    """kubectl ended with an error; the text is what it printed."""


@dataclass(frozen=True)
class Kubectl:
    """`namespace`: where commands without one act."""

    kubeconfig: str
    namespace: str = "default"
    proxy: str = ""

    def within(self, namespace: str) -> Kubectl:
        return Kubectl(self.kubeconfig, namespace, self.proxy)

    def run(self, *args: str, stdin: str | None = None, seconds: float = 120) -> str:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise CommandFailed(done.stdout + done.stderr)
        return done.stdout

    def apply(self, *documents: Object) -> str:
        return self.run("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))

    def get(self, kind: str, name: str) -> Object | None:
        return self._read(kind, f"/{name}")

    def list(self, kinds: str, selector: str = "") -> Objects:
        """Of one kind, or of several with commas between them."""
        query = f"?labelSelector={urllib.parse.quote(selector)}" if selector else ""
        found: list[Object] = []
        for kind in kinds.split(","):
            found += (self._read(kind, query) or {}).get("items") or []
        return found

    def _read(self, kind: str, rest: str) -> Object | None:
        """Straight from the API server: waiting for something asks often, and each kubectl is a large process."""
        group, plural, namespaced = _RESOURCES[kind]
        scope = f"/namespaces/{self.namespace}" if namespaced else ""
        try:
            with urllib.request.urlopen(f"{self.proxy}/{group}{scope}/{plural}{rest}", timeout=30) as reply:
                document: Object = json.load(reply)
                return document
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise CommandFailed(f"{kind}{rest}: {error.code} {error.read().decode(errors='replace')}") from None

    def config_map(self, name: str, key: str, file: Path) -> None:
        made = self.run("create", "configmap", name, f"--from-file={key}={file}", "--dry-run=client", "-o", "yaml")
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=made)

    def secret(self, name: str, **data: str) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def condition(self, worker: str, kind: str = "Ready") -> Object:
        """The condition, or {} where there is none (yet). Only one about the present generation counts."""
        return self._conditions(worker).get(kind, {})

    def _conditions(self, worker: str) -> dict[str, Object]:
        found = self.get("worker", worker) or {}
        conditions: list[Object] = (found.get("status") or {}).get("conditions", [])
        generation = found.get("metadata", {}).get("generation")
        return {c["type"]: c for c in conditions if c["observedGeneration"] == generation}

    def wait_ready(self, worker: str, seconds: float = 120) -> Object:
        """Until the Worker is Ready and all its pods run the present configuration."""

        def done() -> bool:
            conditions = self._conditions(worker)
            status = {kind: conditions.get(kind, {}).get("status") for kind in ("Ready", "Progressing")}
            return status == {"Ready": "True", "Progressing": "False"}

        eventually(done, lambda: self.describe(worker), seconds)
        found = self.get("worker", worker)
        assert found is not None
        return found

    def describe(self, worker: str) -> str:
        found = self.get("worker", worker) or {}
        pods = self.run("get", "pods", "-o", "wide")
        logs = ""
        with contextlib.suppress(CommandFailed):
            logs = self.run("logs", "-l", f"perdure.dev/worker={worker}", "--tail=15", "--prefix")
        return json.dumps(found.get("status"), indent=1) + pods + logs

    def hosts(self, worker: str) -> Objects:
        """Pods that are not going."""
        pods = self.list("pod", f"perdure.dev/worker={worker}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def client(self, worker: str, *, retries: int = 30) -> Client:
        """The Worker's Service, through the API server: what kube-proxy would choose, from anywhere."""
        url = f"{self.proxy}/api/v1/namespaces/{self.namespace}/services/{worker}:http/proxy"
        return Client(url, timeout=_LONGEST_CALL, retries=retries)

    def pod_client(self, pod: str, port: int = 8080) -> Client:
        url = f"{self.proxy}/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy"
        return Client(url, timeout=_LONGEST_CALL, retries=10)


def call(client: Client, instance: str, function: str, *arguments: object, key: str | None = None) -> Any:
    body = json.dumps(arguments).encode()
    return json.loads(client.request("POST", f"/v1/instances/{instance}/functions/{function}", body, key=key))


def eventually(check: Callable[[], object], explain: Callable[[], str] | str, seconds: float = 60) -> None:
    """Until `check` holds; a failing check's own assertion is shown."""
    deadline = time.monotonic() + seconds
    error: AssertionError | None = None
    while True:
        try:
            if check():
                return
            error = None
        except AssertionError as failed:
            error = failed
        if time.monotonic() > deadline:
            words = explain if isinstance(explain, str) else explain()
            raise AssertionError(f"not within {seconds} s: {words}") from error
        time.sleep(0.25)


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, target: str, port: int) -> Iterator[str]:
    """`target`'s port as an address of this machine, e.g. `service/registry`."""
    command = ["kubectl", f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}", "port-forward",
               target, f":{port}"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
        assert found is not None, line + process.stdout.read()
        yield f"http://{found[1]}"
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def proxied(kubeconfig: str) -> Iterator[Kubectl]:
    """With `kubectl proxy` beside it."""
    port = free_port()
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "proxy", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert "Starting to serve" in process.stdout.readline()
        yield Kubectl(kubeconfig, proxy=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
