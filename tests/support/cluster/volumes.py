"""Volumes for claims, where the cluster has nobody who makes them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.cluster.kubectl import Kubectl

_DEFAULT = "storageclass.kubernetes.io/is-default-class"


@contextlib.contextmanager
def volume_for(kubectl: Kubectl, claim: str) -> Iterator[None]:
    """A claim of this name in `kubectl`'s namespace, made by whomever, gets a volume.

    Of the cluster's default StorageClass; in the cluster of `scripts/e2e`, which has none, a directory of this machine.
    """
    classes = kubectl.list("storageclass")
    if any(found["metadata"].get("annotations", {}).get(_DEFAULT) == "true" for found in classes):
        yield
        return
    state = os.environ.get("PERDURE_CLUSTER_STATE")
    assert state, "the cluster has no default StorageClass, which these tests need"
    directory = Path(tempfile.mkdtemp(prefix=f"{claim}-", dir=state))
    directory.chmod(0o777)  # kubelet gives volumes of this kind to nobody
    name = f"{kubectl.namespace}-{claim}"
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": str(directory), "type": "Directory"},
                "claimRef": {"namespace": kubectl.namespace, "name": claim},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        }
    )
    try:
        yield
    finally:
        kubectl.run("delete", "persistentvolume", name, "--wait=false")
