"""The handful of wasmtime C functions that the runtime calls, through ctypes, and the layout of their structs.

wasmtime's own Python classes are used for engines, modules and stores; calls, memories and host functions go
through here because the classes cost several microseconds each. Signatures: wasmtime's C headers
(`wasmtime/config.h`, `func.h`, `async.h`, `linker.h`, `memory.h`, `global.h`, `table.h`).

`RAW` is a view of this process's whole address space. It removes all protection, so only `memory.Memory.at`
and this package's own buffers may produce addresses for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_size_t, c_uint64, c_void_p
from typing import Any

from wasmtime import _bindings as _bindings
from wasmtime import _ffi as _ffi

RAW = memoryview((ctypes.c_ubyte * (2**47)).from_address(0)).cast("B")

VAL_SIZE: int = ctypes.sizeof(_bindings.wasmtime_val_t)
VAL_OF: int = _bindings.wasmtime_val_t.of.offset
RAW_SIZE: int = ctypes.sizeof(_bindings.wasmtime_val_raw_t)
EXTERN_SIZE: int = ctypes.sizeof(_ffi.wasmtime_extern_t)
EXTERN_OF: int = _ffi.wasmtime_extern_t.of.offset
INSTANCE_SIZE: int = ctypes.sizeof(_ffi.wasmtime_instance_t)

VALUE_KIND = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
FUNCREF = 5

# A library handle of our own, so that prototypes set here do not change those of wasmtime's classes.
_library = ctypes.CDLL(_ffi.dll._name)


def _function(name: str, result: Any, *params: Any) -> Callable[..., Any]:
    function = _library[name]
    function.restype = result
    function.argtypes = list(params)
    return function


P = c_void_p
compact_imports = _function("wasmtime_config_wasm_compact_imports_set", None, P, c_bool)
call_async = _function("wasmtime_func_call_async", P, P, P, P, c_size_t, P, c_size_t, P, P)
future_poll = _function("wasmtime_call_future_poll", c_bool, P)
future_delete = _function("wasmtime_call_future_delete", None, P)
linker_define = _function("wasmtime_linker_define", P, P, P, c_char_p, c_size_t, c_char_p, c_size_t, P)
linker_get = _function("wasmtime_linker_get", c_bool, P, P, c_char_p, c_size_t, c_char_p, c_size_t, P)
linker_instantiate = _function("wasmtime_linker_instantiate_async", P, P, P, P, P, P, P)
export_get = _function("wasmtime_instance_export_get", c_bool, P, P, c_char_p, c_size_t, P)
memory_data = _function("wasmtime_memory_data", P, P, P)
memory_size = _function("wasmtime_memory_data_size", c_size_t, P, P)
memory_grow = _function("wasmtime_memory_grow", P, P, P, c_uint64, P)
memory_page_size = _function("wasmtime_memory_page_size", c_uint64, P, P)
global_get = _function("wasmtime_global_get", None, P, P, P)
global_set = _function("wasmtime_global_set", P, P, P, P)
table_get = _function("wasmtime_table_get", c_bool, P, P, c_uint64, P)
table_size = _function("wasmtime_table_size", c_uint64, P, P)
func_to_raw = _function("wasmtime_func_to_raw", P, P, P)
value_unroot = _function("wasmtime_val_unroot", None, P)
trap_new = _function("wasmtime_trap_new", P, c_char_p, c_size_t)
# The header declares an error as the result of this one, but nothing is returned: the value must not be read.
epoch_yield = _function("wasmtime_context_epoch_deadline_async_yield_and_update", None, P, c_uint64)

UncheckedCallback = ctypes.CFUNCTYPE(P, P, P, P, c_size_t)
linker_define_unchecked = _function(
    "wasmtime_linker_define_func_unchecked", P, P, c_char_p, c_size_t, c_char_p, c_size_t, P, P, P, P
)
AsyncCallback = ctypes.CFUNCTYPE(None, P, P, P, c_size_t, P, c_size_t, P, P)
Continuation = ctypes.CFUNCTYPE(c_bool, P)
linker_define_async = _function(
    "wasmtime_linker_define_async_func", P, P, c_char_p, c_size_t, c_char_p, c_size_t, P, P, P, P
)


def address(pointer: Any) -> int:
    """The address a ctypes pointer holds."""
    return ctypes.cast(pointer, c_void_p).value or 0


def take_error(pointer: int) -> Exception:
    """The `WasmtimeError` behind a `wasmtime_error_t*`, which it now owns."""
    from wasmtime import WasmtimeError

    return WasmtimeError._from_ptr(ctypes.cast(pointer, ctypes.POINTER(_bindings.wasmtime_error_t)))


def take_trap(pointer: int) -> Exception:
    """The `Trap` behind a `wasm_trap_t*`, which it now owns."""
    from wasmtime import Trap

    return Trap._from_ptr(ctypes.cast(pointer, ctypes.POINTER(_bindings.wasm_trap_t)))
