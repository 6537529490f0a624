"""A component with every function body replaced by one that traps: as valid as the original, its code aside.

This is the one reading of a component that comes before wasmtime's validator has accepted it, and it reads framing
alone: the preamble, the lengths of sections, of nested components and of function bodies. It copies the rest, keeps no
index and follows no reference; its work and its result are bounded by the binary's size, its depth by `MAX_DEPTH`.

wasmtime says whether a component is valid only by compiling it, and its core modules are compiled anyway, in the form
that runs. With their bodies taken out, validating costs a tenth of that; the compilation then validates the bodies.
"""

from __future__ import annotations

from perdure.component.coremodule import encoded_section, encoded_u32
from perdure.component.decode.reader import Reader
from perdure.component.decode.sections import MAX_DEPTH, check_preamble
from perdure.errors import ComponentUnsupported

_CUSTOM, _CODE = 0, 10
_CORE_MODULE, _COMPONENT = 1, 4
_REFUSED = {9: ("a start function with values", "component start"), 12: ("definitions of values", "values")}
"""Sections that the validator has no name for: it calls each by the other's."""
# No locals, `unreachable`, `end`: valid whatever the function's type is.
_TRAPS = b"\x03\x00\x00\x0b"


def skeleton(component: bytes) -> bytes:
    """Raises `ComponentError` for what is not a component or is malformed in its framing, `ComponentUnsupported` for
    nesting beyond `MAX_DEPTH` and for sections that are not supported whatever is in them."""
    check_preamble(component)
    return _component(component, 0)


def _component(data: bytes, depth: int) -> bytes:
    """Preambles of nested components and modules are copied: the validator reads them."""
    r = Reader(data)
    parts = [r.take(8)]
    if depth > MAX_DEPTH:
        raise r.too_deep("components within one another", MAX_DEPTH)
    while r.left:
        number, body = r.byte(), r.sub(r.u32())
        if number in _REFUSED:
            words, feature = _REFUSED[number]
            raise ComponentUnsupported(f"the component has {words}", feature=feature)
        inner = body.take(body.left)
        if number == _CORE_MODULE:
            inner = _module(inner)
        elif number == _COMPONENT:
            inner = _component(inner, depth + 1)
        elif number == _CUSTOM:
            inner = _name(inner)
        parts.append(encoded_section(number, inner))
    return b"".join(parts)


def _name(data: bytes) -> bytes:
    """A custom section's name, which is all of it that can be invalid."""
    r = Reader(data)
    r.take(min(r.u32(), r.left))
    return data[: len(data) - r.left]


def _module(data: bytes) -> bytes:
    r = Reader(data)
    parts = [r.take(8)]
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
