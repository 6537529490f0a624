"""The whole cluster: from nothing to a Ready node in about 15 s, with the project's images loaded meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.cluster.control_plane import start_control_plane
from support.cluster.images import import_image
from support.cluster.node import start_containerd, start_node
from support.cluster.pki import make_pki
from support.cluster.processes import processes


@contextlib.contextmanager
def local_cluster() -> Iterator[str]:
    """Yields the path of an administrator's kubeconfig. Needs the namespaces that `scripts/e2e` makes."""
    state = os.environ.get("PERDURE_CLUSTER_STATE")
    assert state, "set KUBECONFIG to a cluster of yours, or run `make e2e`, which starts one"
    directory = Path(state)
    with processes(directory / "logs") as running:
        socket = start_containerd(running, directory)
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(_load_images, socket)
            pki = make_pki(directory / "pki", "https://127.0.0.1:6443")
            start_control_plane(running, pki, directory)
            start_node(running, pki, directory, socket)
            loading.result()
        yield pki.kubeconfig("admin")


def _load_images(socket: Path) -> None:
    for archive in sorted(Path(os.environ["PERDURE_IMAGES"]).glob("*.tar")):
        import_image(socket, archive)
