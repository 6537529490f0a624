"""A component with every function body replaced by one that traps: as valid as the original, its code aside.

wasmtime says whether a component is valid only by compiling it, and its core modules are compiled anyway, in the form
that runs. With their bodies taken out, the first compilation is over at once: the second one validates the bodies.
"""

from __future__ import annotations

from perdure.component.coremodule import encoded_section, encoded_u32
from perdure.component.decode.reader import Reader

_CUSTOM, _CODE = 0, 10
_CORE_MODULE, _COMPONENT = 1, 4
# No locals, `unreachable`, `end`: valid whatever the function's type is.
_TRAPS = b"\x03\x00\x00\x0b"


def skeleton(component: bytes) -> bytes:
    """Raises `ComponentError` on malformed sections. For components that have been decoded: nesting is bounded."""
    parts = [component[:8]]
    r = Reader(component, 8)
    while r.left:
        number, body = r.byte(), r.sub(r.u32())
        data = body.take(body.left)
        if number == _CORE_MODULE:
            data = _module(data)
        elif number == _COMPONENT:
            data = skeleton(data)
        if number != _CUSTOM:
            parts.append(encoded_section(number, data))
    return b"".join(parts)


def _module(data: bytes) -> bytes:
    parts = [data[:8]]
    r = Reader(data, 8)
    while r.left:
        number, body = r.byte(), r.sub(r.u32())
        if number == _CODE:
            count = body.u32()
            for _ in range(count):
                body.skip(body.u32())
            if body.left:
                raise body.fail("bytes left over in a section")
            parts.append(encoded_section(number, encoded_u32(count) + _TRAPS * count))
        elif number != _CUSTOM:
            parts.append(encoded_section(number, body.take(body.left)))
    return b"".join(parts)
