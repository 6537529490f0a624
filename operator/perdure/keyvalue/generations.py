"""Which generation of wasi:keyvalue an import belongs to. Pure.

| name | interfaces | used by |
|---|---|---|
| G1 | unversioned; types, readwrite, batch, atomic, cache | Golem's documentation (2023) |
| G2 | 0.1.0, or unversioned with eventual | Golem's host |
| G3 | 0.2.0-draft; store, atomics, batch, watcher | Spin, wasmCloud |
| G4 | 0.2.0-draft2; the same with text cursors and cas | the proposal's main branch |

`Spin` is beside them: the interface of Spin's own that its SDKs bind.
"""

from __future__ import annotations

from collections.abc import Iterable

PACKAGE = "wasi:keyvalue/"
SPIN = "fermyon:spin/key-value@2.0.0"


def split(interface: str) -> tuple[str, str] | None:
    """(interface, version) of an import of wasi:keyvalue, e.g. ("store", "0.2.0-draft"); else None."""
    if not interface.startswith(PACKAGE):
        return None
    name, _, version = interface.removeprefix(PACKAGE).partition("@")
    return name, version


def generation(interface: str) -> str | None:
    """`G1` … `G4`, `Spin`, or None for another package or an unknown version."""
    if interface == SPIN:
        return "Spin"
    found = split(interface)
    if found is None:
        return None
    name, version = found
    if version == "":
        return "G2" if name.startswith(("eventual", "wasi-keyvalue-error")) else "G1"
    if version.startswith("0.1."):
        return "G2"
    if version == "0.2.0-draft":
        return "G3"
    return "G4" if version.startswith("0.2.0-draft") else None


def generations(interfaces: Iterable[str]) -> tuple[str, ...]:
    """The generations that a component's imports use. Unversioned `types` alone goes with whatever else is there."""
    found = {made for name in interfaces if (made := generation(name)) is not None}
    if (
        "G2" in found
        and "G1" in found
        and not any(name.startswith((PACKAGE + "readwrite", PACKAGE + "batch")) for name in interfaces)
    ):
        found.discard("G1")
    return tuple(sorted(found))
