"""The identity of a component: the sha256 of its bytes, and what kind of WebAssembly they are."""

from __future__ import annotations

import hashlib

from perdure.errors import ComponentError

_MAGIC = b"\0asm"
_CORE_LAYER, _COMPONENT_LAYER = b"\x01\0\0\0", b"\x0d\0\x01\0"


def digest_of(data: bytes) -> str:
    """`sha256:<64 hexadecimal digits>` of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def require_component(data: bytes, *, name: str) -> None:
    """Refuse, by its first eight bytes, what is not a component. Raises `ComponentError` naming what it is."""
    if data[:4] != _MAGIC:
        raise ComponentError(f"{name} is not WebAssembly: it does not begin with the bytes \\0asm")
    if data[4:8] == _CORE_LAYER:
        raise ComponentError(
            f"{name} is a core module, not a component: build for the target wasm32-wasip2, "
            "or wrap it with `wasm-tools component new`"
        )
    if data[4:8] != _COMPONENT_LAYER:
        raise ComponentError(f"{name} has an unknown WebAssembly version: it may come from a newer toolchain")


def require_digest(data: bytes, expected: str, *, name: str) -> None:
    """Raises `ComponentError` naming both digests unless `data` has the `expected` one."""
    found = digest_of(data)
    wanted = expected if expected.startswith("sha256:") else f"sha256:{expected}"
    if found != wanted.lower():
        raise ComponentError(f"{name} has digest {found}, but {wanted} was expected: its content has changed")
