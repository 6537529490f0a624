"""Traps: what ends a guest's call, and their translation into `GuestTrapped`."""

from __future__ import annotations

import errno
import os
import re

from wasmtime import Trap, WasmtimeError

from perdure.errors import GuestTrapped

MAX_FRAMES = 32
MAX_NAME = 200
"""Characters of a function's name, and of a reason: both can hold what the guest's binary says, at any length."""
_OTHER_KINDS = {
    "thrown Wasm exception": "uncaught-exception",
    "count too high": "limit-exceeded",
    "exceeds memory limits": "limit-exceeded",
    "exceeds table limits": "limit-exceeded",
    os.strerror(errno.ENOMEM): "out-of-memory",
}


class AbiTrap(Exception):
    """The guest broke a rule of the canonical ABI (component-model `CanonicalABI.md`: "trap if")."""


class HostTrap(Exception):
    """Raised by a host function to end the call with words for the guest's author."""


def guest_trap(error: Exception) -> GuestTrapped:
    """The typed error for what wasmtime (or one of the classes above) reported."""
    if isinstance(error, AbiTrap):
        return GuestTrapped(f"the guest broke the canonical ABI: {error}", trap="canonical-abi")
    if isinstance(error, HostTrap):
        return GuestTrapped(str(error), trap="host-refused")
    frames = tuple(_frame_names(error))
    kind = _trap_kind(error)
    return GuestTrapped(f"the guest trapped: {_reason(error)}", trap=kind, frames=frames)


def _trap_kind(error: Exception) -> str:
    code = getattr(error, "trap_code", None)
    if code is not None:
        return str(code.name).lower().replace("_", "-")
    match = re.search(r"wasm trap: (.+)", str(error))
    if match is None:
        return next((kind for said, kind in _OTHER_KINDS.items() if said in str(error)), "trap")
    text = match.group(1).splitlines()[0]
    if "unreachable" in text:
        return "unreachable"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _reason(error: Exception) -> str:
    match = re.search(r"wasm trap: (.+)", str(error))
    if match:
        return match.group(1).splitlines()[0][:MAX_NAME]
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:MAX_NAME] if lines else type(error).__name__


def _frame_names(error: Exception) -> list[str]:
    if isinstance(error, (Trap, WasmtimeError)):
        frames = getattr(error, "frames", None)
        if frames:
            return [(frame.func_name or f"function {frame.func_index}")[:MAX_NAME] for frame in frames[:MAX_FRAMES]]
    found = re.findall(r"^\s*\d+:\s+0x[0-9a-f]+ - (.+)$", str(error), re.MULTILINE)
    return [name.strip()[:MAX_NAME] for name in found[:MAX_FRAMES]]
