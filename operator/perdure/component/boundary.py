"""Which of the two implementations of the boundary runs: C (`native/`) or ctypes (`reference.py`).

Both do the same; tests run under both. C is taken where it was built; `PERDURE_PURE=1` chooses ctypes.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

from wasmtime import _bindings

from perdure.component import capi, crossing, fiber, reference

if TYPE_CHECKING:
    from perdure.component.reference import BEGIN, NEXT, UNFINISHED, WAIT, State

__all__ = ["BEGIN", "DESCRIPTION", "NATIVE", "NEXT", "UNFINISHED", "WAIT", "State"]

_STRUCTS = {
    "val": ctypes.sizeof(_bindings.wasmtime_val_t),
    "val.of": _bindings.wasmtime_val_t.of.offset,
    "raw": ctypes.sizeof(_bindings.wasmtime_val_raw_t),
    "continuation": ctypes.sizeof(_bindings.wasmtime_async_continuation_t),
}


def _extension() -> ModuleType | None:
    """None: it was not built, or is not wanted. Raises `ImportError` for one that does not fit this wasmtime."""
    if os.environ.get("PERDURE_PURE") == "1":
        return None
    try:
        made = importlib.import_module("perdure.component._crossing")
    except ModuleNotFoundError:
        return None
    if made.STRUCTS != _STRUCTS:
        raise ImportError(
            f"perdure's extension was built for other structs of wasmtime: {made.STRUCTS}, not {_STRUCTS}"
        )
    functions = (capi.call_async, capi.future_poll, capi.future_delete, capi.trap_new)
    made.setup(
        tuple(map(capi.address, functions)),
        (crossing.check_may_leave, crossing.settle, crossing.proceed, fiber.begin_waiting, fiber.go_on),
    )
    return made


_native = _extension()
NATIVE = _native is not None
"""Whether it is C."""
DESCRIPTION = "with its extension module" if NATIVE else "without its extension module, slower"

if not TYPE_CHECKING:
    State, UNFINISHED, BEGIN, NEXT, WAIT = (
        getattr(_native or reference, name) for name in ("State", "UNFINISHED", "BEGIN", "NEXT", "WAIT")
    )
