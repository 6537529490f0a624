"""Images without a registry: archives that containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from support.cluster.processes import run

_PAUSE = """
#include <signal.h>
#include <unistd.h>
static void end(int signal) { _exit(0); }
int main(void) {
    signal(SIGTERM, end);
    signal(SIGINT, end);
    for (;;) pause();
}
"""


def import_image(socket: Path, archive: Path) -> None:
    run("ctr", "-a", str(socket), "-n", "k8s.io", "images", "import", str(archive))


def pause_image(state: Path, name: str) -> Path:
    """The image of the container that holds a pod's namespaces: one static program that waits."""
    root = state / "pause"
    root.mkdir()
    (state / "pause.c").write_text(_PAUSE)
    run("cc", "-static", "-Os", "-o", str(root / "pause"), str(state / "pause.c"))
    archive = state / "pause.tar"
    _docker_archive(archive, name, root, ["/pause"])
    return archive


def _docker_archive(path: Path, name: str, root: Path, entrypoint: list[str]) -> None:
    """One layer, in the format of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(root, arcname=".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for entry, data in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(entry)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
