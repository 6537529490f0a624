"""Components as OCI artifacts: the manifest, and a push that needs no tool but HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse
import urllib.request
from dataclasses import dataclass

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Artifact:
    """`blobs` by digest; `digest`: of the manifest; `component`: of the one layer."""

    manifest: bytes
    blobs: dict[str, bytes]
    component: str

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def artifact(component: bytes, *, media_type: str = "application/wasm") -> Artifact:
    """An OCI image manifest (v1.1) with one layer and the empty configuration."""
    config = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": "application/wasm",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **_descriptor(config)},
        "layers": [{"mediaType": media_type, **_descriptor(component)}],
    }
    blobs = {digest_of(config): config, digest_of(component): component}
    return Artifact(json.dumps(document).encode(), blobs, digest_of(component))


def _descriptor(data: bytes) -> dict[str, object]:
    return {"digest": digest_of(data), "size": len(data)}


@dataclass(frozen=True)
class Pusher:
    """`base`: the registry's address, which may have a path in front of `/v2/`."""

    base: str
    username: str
    password: str

    def push(self, repository: str, tag: str, component: bytes) -> Artifact:
        """Distribution specification v1.1, "Pushing manifests": blobs first, each in one piece."""
        made = artifact(component)
        for digest, data in made.blobs.items():
            location = self._send("POST", f"{self.base}/v2/{repository}/blobs/uploads/", b"", "")
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(self.base, location))
            query = "&".join([*filter(None, [parts.query]), f"digest={urllib.parse.quote(digest, safe='')}"])
            # A proxy in between may answer with the address that it knows the registry by.
            own = urllib.parse.urlsplit(self.base)._replace(path=parts.path, query=query)
            self._send("PUT", urllib.parse.urlunsplit(own), data, "application/octet-stream")
        self._send("PUT", f"{self.base}/v2/{repository}/manifests/{tag}", made.manifest, MANIFEST_TYPE)
        return made

    def _send(self, method: str, url: str, data: bytes, content_type: str) -> str:
        login = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": content_type}
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(reply.headers.get("Location", ""))
