"""Certificates and kubeconfigs of the cluster's components, made with openssl."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from support.cluster.processes import run

POD_GATEWAY = "198.18.0.1"
POD_RANGE = "198.18.0.0/24"
SERVICE_RANGE = "198.19.0.0/16"
FIRST_SERVICE = "198.19.0.1"
NODE = "node0"


@dataclass(frozen=True)
class Pki:
    directory: Path
    server: str

    def cert(self, name: str) -> str:
        return str(self.directory / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    def kubeconfig(self, name: str) -> str:
        return str(self.directory / f"{name}.conf")


def make_pki(directory: Path, server: str) -> Pki:
    directory.mkdir(parents=True)
    pki = Pki(directory, server)
    _key(pki, "ca")
    run("openssl", "req", "-x509", "-new", "-key", pki.key("ca"), "-subj", "/CN=cluster", "-days", "30",
        "-out", pki.cert("ca"))  # fmt: skip
    names = "DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost"
    _sign(pki, "apiserver", "/CN=kube-apiserver", f"IP:127.0.0.1,IP:{POD_GATEWAY},IP:{FIRST_SERVICE},{names}")
    subjects = {
        "admin": "/O=system:masters/CN=admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
        "proxy": "/CN=system:kube-proxy",
    }
    for name, subject in subjects.items():
        _sign(pki, name, subject, f"DNS:{name},DNS:{NODE},IP:{POD_GATEWAY}")
        _kubeconfig(pki, name)
    _key(pki, "sa")
    run("openssl", "ec", "-in", pki.key("sa"), "-pubout", "-out", pki.cert("sa"))
    return pki


def _key(pki: Pki, name: str) -> None:
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pki.key(name))


def _sign(pki: Pki, name: str, subject: str, names: str) -> None:
    request, extensions = pki.directory / f"{name}.csr", pki.directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    _key(pki, name)
    run("openssl", "req", "-new", "-key", pki.key(name), "-subj", subject, "-out", str(request))
    run("openssl", "x509", "-req", "-in", str(request), "-CA", pki.cert("ca"), "-CAkey", pki.key("ca"),
        "-CAcreateserial", "-days", "30", "-extfile", str(extensions), "-out", pki.cert(name))  # fmt: skip


def _kubeconfig(pki: Pki, name: str) -> None:
    def data(path: str) -> str:
        return base64.b64encode(Path(path).read_bytes()).decode()

    cluster = {"server": pki.server, "certificate-authority-data": data(pki.cert("ca"))}
    user = {"client-certificate-data": data(pki.cert(name)), "client-key-data": data(pki.key(name))}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    Path(pki.kubeconfig(name)).write_text(json.dumps(document))
