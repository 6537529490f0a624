"""The README's commands for a cluster, as they stand there."""

from __future__ import annotations

import os
import subprocess
import uuid

from e2e.conftest import Release
from support.cluster.kubectl import Kubectl
from support.readme import ROOT, blocks, commands


def test_a_worker_by_hand(cluster: Kubectl, release: Release) -> None:
    """From the ConfigMap to `get`; kind and helm are what the fixtures stand for."""
    image = os.environ.get("PERDURE_E2E_IMAGE", "localhost/perdure:e2e")
    install, use = blocks("On a cluster")
    assert commands(install)[-1].startswith("helm install perdure charts/perdure --namespace perdure-system")
    namespace = f"readme-{uuid.uuid4().hex[:8]}"
    cluster.run("create", "namespace", namespace)
    printed = []
    try:
        for line in commands(use):
            target = f"kubectl --kubeconfig={cluster.kubeconfig} --namespace={namespace}"
            shown = line.replace("kubectl", target, 1).replace("perdure:dev", image)
            done = subprocess.run(shown, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
            assert done.returncode == 0, (
                line,
                done.stdout,
                done.stderr,
                cluster.within(namespace).describe("key-value"),
            )
            printed.append(done.stdout)
        assert '"Ymx1ZQ=="' in printed[-1]
    finally:
        cluster.run("delete", "worker", "--all", f"--namespace={namespace}", "--wait=false")
        cluster.run("delete", "namespace", namespace, "--wait=false")
