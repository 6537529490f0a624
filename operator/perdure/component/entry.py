"""The arrays of one entry into a core function, and its outcome."""

from __future__ import annotations

import ctypes
import struct

from perdure.component import capi
from perdure.component.capi import RAW, VAL_OF, VAL_SIZE

MAX_PARAMS = 17
"""16 flat parameters and a return pointer."""

_I32 = f"B{VAL_OF - 1}xI{VAL_SIZE - VAL_OF - 4}x"
_pack_one = struct.Struct("<" + _I32).pack_into
_pack_four = struct.Struct("<" + 4 * _I32).pack_into
_outcome = struct.Struct("<QQ").unpack_from
_i32 = struct.Struct("<I").unpack_from
_NOTHING = bytes(16)


class Arrays:
    """Arguments, one result and the out-pointers of a call. The addresses stay valid with the object, which must
    outlive the call's future."""

    __slots__ = ("_memory", "args", "error", "results", "trap")

    def __init__(self) -> None:
        self._memory = (ctypes.c_ubyte * (VAL_SIZE * (MAX_PARAMS + 1) + 16))()
        self.args = ctypes.addressof(self._memory)
        self.results = self.args + VAL_SIZE * MAX_PARAMS
        self.trap = self.results + VAL_SIZE
        self.error = self.trap + 8

    def clear(self) -> None:
        RAW[self.trap : self.trap + 16] = _NOTHING

    def write_i32(self, value: int) -> None:
        """The one argument of a destructor."""
        _pack_one(RAW, self.args, 0, value)

    def write_reallocation(self, old: int, old_size: int, alignment: int, size: int) -> None:
        _pack_four(RAW, self.args, 0, old, 0, old_size, 0, alignment, 0, size)

    def read_i32(self) -> int:
        return int(_i32(RAW, self.results + VAL_OF)[0])

    def raised(self) -> Exception | None:
        """What wasmtime left in the out-pointers, owned from now on."""
        trap, error = _outcome(RAW, self.trap)
        if not trap and not error:
            return None
        self.clear()
        return capi.take_error(error) if error else capi.take_trap(trap)
