"""The node: a bridge for pods, containerd, kubelet, kube-proxy and CoreDNS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from support.cluster.images import import_image, pause_image
from support.cluster.pki import NODE, POD_GATEWAY, POD_RANGE, SERVICE_RANGE, Pki
from support.cluster.processes import Processes, run

BRIDGE = "cni0"
PAUSE = "localhost/perdure-pause:1"


def start_node(processes: Processes, pki: Pki, state: Path, socket: Path) -> None:
    """Over the containerd at `socket`."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{POD_GATEWAY}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    # Service addresses are rewritten on the way out; without any route there is no way out.
    run("ip", "route", "add", SERVICE_RANGE, "dev", BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    import_image(socket, pause_image(state, PAUSE))
    _start_kubelet(processes, pki, state, socket)
    processes.start(
        "kube-proxy",
        "kube-proxy",
        f"--kubeconfig={pki.kubeconfig('proxy')}",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={POD_RANGE}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",
    )
    _start_dns(processes, pki, state)
    processes.wait_for("the node", lambda: _node_ready(pki))


def start_containerd(processes: Processes, state: Path) -> Path:
    """Returns its socket."""
    network = state / "cni"
    network.mkdir()
    plugin = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": str(state / "ipam"), "ranges": [[{"subnet": POD_RANGE}]],
                 "routes": [{"dst": "0.0.0.0/0"}]},
    }  # fmt: skip
    plugins = [plugin, {"type": "portmap", "capabilities": {"portMappings": True}}]
    network.joinpath("10-pods.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
    )
    socket = state / "containerd.sock"
    config = state / "containerd.toml"
    # restrict_oom_score_adj: in a nested machine the scores of pause containers may not be lowered.
    config.write_text(f"""version = 2
root = "{state}/containerd"
state = "{state}/containerd-state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
""")
    processes.start("containerd", "containerd", "-c", str(config))
    processes.wait_for("containerd", lambda: _answers(socket))
    return socket


def _answers(socket: Path) -> bool:
    command = ["ctr", "-a", str(socket), "version"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def _start_kubelet(processes: Processes, pki: Pki, state: Path, socket: Path) -> None:
    config = state / "kubelet.json"
    resolv = state / "resolv.conf"
    resolv.write_text("")
    config.write_text(
        json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "authentication": {
                    "anonymous": {"enabled": False},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": pki.cert("ca")},
                },
                "authorization": {"mode": "Webhook"},
                "cgroupDriver": "cgroupfs",
                "failCgroupV1": False,
                "failSwapOn": False,
                "containerRuntimeEndpoint": f"unix://{socket}",
                "clusterDNS": [POD_GATEWAY],
                "clusterDomain": "cluster.local",
                "resolvConf": str(resolv),
                "evictionHard": {},
                "imageGCHighThresholdPercent": 100,
                "syncFrequency": "5s",
                "tlsCertFile": pki.cert("kubelet"),
                "tlsPrivateKeyFile": pki.key("kubelet"),
            }
        )
    )
    processes.start(
        "kubelet",
        "kubelet",
        f"--config={config}",
        f"--kubeconfig={pki.kubeconfig('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={POD_GATEWAY}",
        f"--root-dir={state / 'kubelet'}",
    )


def _start_dns(processes: Processes, pki: Pki, state: Path) -> None:
    corefile = state / "Corefile"
    corefile.write_text(f""".:53 {{
    bind {POD_GATEWAY}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {pki.kubeconfig("admin")}
        ttl 1
    }}
}}
""")
    processes.start("coredns", "coredns", "-conf", str(corefile))


def _node_ready(pki: Pki) -> bool:
    path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    command = ["kubectl", "--kubeconfig", pki.kubeconfig("admin"), "get", "node", NODE, "-o", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() == "True"
