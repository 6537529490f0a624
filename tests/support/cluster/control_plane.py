"""etcd, API server, controller manager and scheduler. All ports are the usual ones: the network is our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.cluster.pki import POD_GATEWAY, SERVICE_RANGE, Pki
from support.cluster.processes import Processes


def start_control_plane(processes: Processes, pki: Pki, state: Path) -> None:
    processes.start(
        "etcd",
        "etcd",
        f"--data-dir={state / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
    )
    processes.start(
        "kube-apiserver",
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={POD_GATEWAY}",
        f"--tls-cert-file={pki.cert('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.cert('ca')}",
        f"--service-account-key-file={pki.cert('sa')}",
        f"--service-account-signing-key-file={pki.key('sa')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki.cert('admin')}",
        f"--kubelet-client-key={pki.key('admin')}",
        "--kubelet-preferred-address-types=InternalIP",
    )
    processes.wait_for("the API server", lambda: _ready(pki))
    processes.start(
        "kube-controller-manager",
        "kube-controller-manager",
        f"--kubeconfig={pki.kubeconfig('controller-manager')}",
        f"--service-account-private-key-file={pki.key('sa')}",
        f"--root-ca-file={pki.cert('ca')}",
        "--use-service-account-credentials=true",
        "--horizontal-pod-autoscaler-sync-period=3s",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    )
    processes.start(
        "kube-scheduler",
        "kube-scheduler",
        f"--kubeconfig={pki.kubeconfig('scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    )


def _ready(pki: Pki) -> bool:
    command = ["kubectl", "--kubeconfig", pki.kubeconfig("admin"), "get", "--raw", "/readyz"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
