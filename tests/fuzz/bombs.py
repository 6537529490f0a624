"""Small components that ask for a lot: deep nesting, huge counts, work that doubles with each definition.

Some are valid, so that they reach code generation as well.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.binary import CORE_HEADER, component, core_module, extern, leb, name, section, types, vec
from support.generated.source import Source, pick

_U8 = b"\x7d"
_DEPTHS = (2, 10, 19, 21, 33, 65, 99, 101, 300, 3000)
_WIDTHS = (2, 31, 33, 257, 999, 1001, 4000, 9999, 10001)
_MOST = 4 << 20
_COUNTS = (1 << 16, 1 << 20, 1 << 25, 1 << 28, (1 << 32) - 1, 1 << 32, 1 << 40)


def _returning(*definitions: bytes) -> bytes:
    """A valid frame: an exported function whose result is the last of the type definitions."""
    last = leb(len(definitions) - 1)
    module = core_module(
        section(1, vec([b"\x60\0" + vec([b"\x7f"])])),
        section(3, vec([b"\0"])),
        section(5, vec([b"\0\x01"])),
        section(7, vec([name("f") + b"\0\0", name("m") + b"\x02\0"])),
        section(10, vec([vec_bytes(b"\0\x41\0\x0b")])),
    )
    function = b"\x40" + vec([]) + b"\0" + last
    return component(
        module,
        section(2, vec([b"\0\0\0"])),
        section(6, vec([b"\0\0\x01\0" + name("f"), b"\0\x02\x01\0" + name("m")])),
        types(*definitions, function),
        section(8, vec([b"\0\0\0" + vec([b"\x03\0"]) + leb(len(definitions))])),
        section(11, vec([extern("f") + b"\x01\0\0"])),
    )


def vec_bytes(data: bytes) -> bytes:
    return leb(len(data)) + data


def _chain(s: Source) -> bytes:
    """list<list<…>>, option<option<…>>, tuple<tuple<…>>."""
    head, tail = pick(s, ((b"\x70", b""), (b"\x6b", b""), (b"\x6f\x01", b""), (b"\x6a\x01", b"\0")))
    depth = pick(s, _DEPTHS)
    return _returning(head + _U8 + tail, *(head + leb(index) + tail for index in range(depth)))


def _doubling(s: Source) -> bytes:
    """Each type has the one before twice."""
    depth = pick(s, (8, 12, 14, 17, 19, 20, 30, 64, 1000))
    head = pick(s, (b"\x6f\x02", b"\x6a"))
    items = [b"\x6f\x01" + _U8]
    for index in range(depth):
        ref = leb(index)
        items.append(head + ref + ref if head[0] == 0x6F else head + b"\x01" + ref + b"\x01" + ref)
    return _returning(*items)


def _wide(s: Source) -> bytes:
    """Many fields, cases or names; the names may be long."""
    count = pick(s, _WIDTHS)
    long = pick(s, (0, 0, 100))
    names = [name(f"n{index}" + "x" * long) for index in range(count)]
    kind = s.integer(0, 5)
    if kind == 0:
        return _returning(b"\x6d" + vec(names))
    if kind == 1:
        return _returning(b"\x6e" + vec(names))
    if kind == 2:
        return _returning(b"\x6f" + vec([pick(s, (_U8, b"\x73", b"\x79"))] * count))
    if kind == 3:
        return _returning(b"\x72" + vec(one + _U8 for one in names))
    return _returning(b"\x71" + vec(one + b"\x01\x79\0" for one in names))


def _count(s: Source) -> bytes:
    """A count of what does not follow."""
    count = leb(pick(s, _COUNTS)) + bytes(s.integer(0, 8))
    kind = s.integer(2, 12)
    form = pick(s, (b"\x72", b"\x71", b"\x6f", b"\x6e", b"\x6d", b"\x40", b"\x41", b"\x42"))
    canon = b"\0\0" + leb(0)
    return pick(
        s,
        (
            component(section(kind, count)),
            component(section(7, leb(1) + form + count)),
            component(section(7, leb(1) + b"\x72" + leb(1) + count + _U8)),
            component(section(8, leb(1) + canon + count)),
            component(section(2, leb(1) + b"\0\0" + count)),
            component(section(5, leb(1) + b"\0\0" + count)),
            component(core_module(section(2, count))),
            component(section(1, CORE_HEADER + b"\x02" + count)),
            component(section(pick(s, (1, 4, 7)), b"")[:1] + count),
            component(section(3, leb(1) + b"\x50" + count)),
        ),
    )


def _nested_components(s: Source) -> bytes:
    inner = component()
    for _ in range(pick(s, _DEPTHS)):
        inner = component(section(4, inner))
    return inner


def _nested_types(s: Source) -> bytes:
    form = pick(s, (b"\x42", b"\x41"))
    inner = form + b"\0"
    for _ in range(pick(s, _DEPTHS)):
        inner = form + b"\x01\x01" + inner
    return component(types(inner))


def _nested_core_types(s: Source) -> bytes:
    inner = b"\x50\0"
    for _ in range(pick(s, _DEPTHS)):
        inner = b"\x50\x01\x01" + inner
    return component(section(3, vec([inner])))


def _instances_that_double(s: Source) -> bytes:
    inner = component()
    for _ in range(pick(s, (4, 8, 12, 16, 20, 31))):
        inner = component(section(4, inner), section(5, vec([b"\0\0\0"] * 2)))
    return inner


def _modules_that_double(s: Source) -> bytes:
    inner = component(core_module(), section(2, vec([b"\0\0\0"])))
    for _ in range(pick(s, (4, 8, 12, 16, 20, 31))):
        inner = component(section(4, inner), section(5, vec([b"\0\0\0"] * 2)))
    return inner


def _wide_modules(s: Source) -> bytes:
    """A core module of many imports, instantiated many times."""
    one = name("a") + name("b") + b"\0\0"
    imports = section(2, vec([one] * pick(s, (10, 1000, 30_000))))
    empty, given = core_module(), b"\0\x01" + vec([name("a") + b"\x12\0"])
    count = pick(s, (10, 1000, 9_000))
    module = core_module(section(1, vec([b"\x60\0\0"])), imports)
    return component(empty, module, section(2, vec([b"\0\0\0", *[given] * count])))


def _instantiates_itself(s: Source) -> bytes:
    """The inner component takes itself from the outer one, by a number that its own definition has not reached."""
    count = leb(pick(s, (1, 2)))
    inner = component(section(6, vec([b"\x04\x02" + count + b"\0"])), section(5, vec([b"\0\0\0"])))
    return component(section(4, inner), section(5, vec([b"\0\0\0"])))


def _far_outside(s: Source) -> bytes:
    return component(section(6, vec([pick(s, (b"\x03", b"\x04")) + b"\x02" + leb(pick(s, _COUNTS)) + b"\0"])))


def _aliases(s: Source) -> bytes:
    """Many definitions of the same thing."""
    count = pick(s, (100, 3_000, 30_000))
    return component(types(b"\x70" + _U8), section(6, vec([b"\x03\x02\0\0"] * count)))


def _exports_of_exports(s: Source) -> bytes:
    """Each instance holds the one before once or twice; names may be long."""
    depth = pick(s, (5, 17, 20, 60, 500))
    fill = "x" * pick(s, (0, 0, 4000, 90_000))
    held = pick(s, (("a",), ("a", "b")))
    # No more than is kept: the fuzzer's own memory counts as the case's.
    depth = min(depth, 1 + _MOST // (len(held) * (1 + len(fill))))
    inner = (vec(extern(one + fill) + b"\x05" + leb(index) for one in held) for index in range(depth))
    function = types(b"\x40\0\x01\0") + section(10, vec([extern("f") + b"\x01\0"]))
    items = [b"\x01" + vec([extern("f") + b"\x01\0"]), *(b"\x01" + one for one in inner)]
    exported = section(11, vec([extern("x") + b"\x05" + leb(depth) + b"\0"]))
    return component(function, section(5, vec(items)), exported)[:_MOST]


def _imported_instances_that_double(s: Source) -> bytes:
    """An instance type whose exports are instances of the type before it, once or twice."""
    items = [b"\x42" + vec([])]
    exported = pick(s, (("a",), ("a", "b")))
    for index in range(pick(s, (4, 8, 12, 16, 20, 64, 300))):
        before = b"\x02\x03\x02\x01" + leb(index)
        items.append(b"\x42" + vec([before, *(b"\x04" + extern(name) + b"\x05\0" for name in exported)]))
    return component(types(*items), section(10, vec([extern("x:y/z") + b"\x05" + leb(len(items) - 1)])))


_BOMBS: tuple[Callable[[Source], bytes], ...] = (
    _count, _count, _count, _chain, _doubling, _wide, _nested_components, _nested_types, _nested_core_types,
    _instances_that_double, _modules_that_double, _wide_modules, _instantiates_itself, _imported_instances_that_double, _far_outside, _aliases, _exports_of_exports,
)  # fmt: skip


def bomb(s: Source) -> bytes:
    """One of them, of a drawn size."""
    return pick(s, _BOMBS)(s)
