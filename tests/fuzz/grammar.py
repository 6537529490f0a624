"""Components put together from well-formed definitions. Indices mostly exist, but what is there may be of another kind
than is wanted: such a component is wrong deep inside, where linking resolves it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from fuzz.binary import CORE_HEADER, component, extern, leb, name, section, vec
from support.generated.source import Source, one_in, pick

Make = Callable[[], bytes]
_NAMES = ("a", "m", "t", "a:b/c", "a:b/c@0.1.0", "")
_PRIMITIVES = tuple(bytes([code]) for code in range(0x73, 0x80))
_SORTS = {
    "func": b"\x01",
    "type": b"\x03",
    "component": b"\x04",
    "instance": b"\x05",
    "core func": b"\0\0",
    "core table": b"\0\x01",
    "core memory": b"\0\x02",
    "core global": b"\0\x03",
    "core type": b"\0\x10",
    "core module": b"\0\x11",
    "core instance": b"\0\x12",
    "value": b"\x02",
}
_COMMON = ("func", "type", "instance", "component", "core func", "core instance", "core module", "core memory")
_LATER = (b"\x66\x00", b"\x65\x01\x7f", b"\x64", b"\x67\x7f\x04", b"\x63\x7f\x7f")
_CORE_KINDS = (b"\0\0", b"\x02\0\x01", b"\x01\x70\0\x01", b"\x03\x7f\0")


class _Writer:
    """One component, or one instance or component type, being written. `spaces`: what kind of thing each index names."""

    def __init__(self, s: Source, depth: int = 0, up: _Writer | None = None) -> None:
        self.s = s
        self.depth = depth
        self.up = up
        self.spaces: defaultdict[str, list[str]] = defaultdict(list)

    # --- parts

    def _some(self, make: Make, most: int = 3, least: int = 0) -> bytes:
        return vec([make() for _ in range(self.s.integer(least, most))])

    def _maybe(self, make: Make) -> bytes:
        return b"\x01" + make() if one_in(self.s, 2) else b"\0"

    def _ref(self, sort: str, kind: str = "") -> bytes:
        """An index that mostly exists and, when `kind` is given, mostly names a thing of that kind."""
        held = [index for index, one in enumerate(self.spaces[sort]) if not kind or one == kind]
        if not held or one_in(self.s, 25):
            held = list(range(len(self.spaces[sort]))) or [0]
        return leb(pick(self.s, held[-4:]) if not one_in(self.s, 40) else pick(self.s, (0, 1, 2, 100, (1 << 32) - 1)))

    def _has(self, *sorts: str) -> bool:
        return all(self.spaces[sort] for sort in sorts) or one_in(self.s, 40)

    def _name(self) -> bytes:
        return name(pick(self.s, _NAMES) if one_in(self.s, 8) else "f")

    def _extern(self) -> bytes:
        return extern(pick(self.s, _NAMES) if one_in(self.s, 8) else "f")

    def _sort(self) -> str:
        """Mostly a sort of which there is something."""
        held = [sort for sort in _SORTS if self.spaces[sort]]
        return pick(self.s, held) if held and not one_in(self.s, 8) else pick(self.s, tuple(_SORTS))

    def _sort_index(self) -> bytes:
        sort = self._sort()
        return _SORTS[sort] + self._ref(sort)

    def _value(self) -> bytes:
        return (
            self._ref("type", "value")
            if "value" in self.spaces["type"] and one_in(self.s, 2)
            else pick(self.s, _PRIMITIVES)
        )

    def _field(self) -> bytes:
        return self._name() + self._value()

    def _extern_type(self) -> tuple[str, str, bytes]:
        """(sort, kind, bytes)."""
        kinds = self.spaces["type"]
        form = self.s.integer(0, 7)
        if form <= 2 and "func" in kinds:
            return "func", "", b"\x01" + self._ref("type", "func")
        if form <= 4 and "instance" in kinds:
            return "instance", "", b"\x05" + self._ref("type", "instance")
        if form == 5 and kinds:
            return "type", pick(self.s, kinds), b"\x03\0" + self._ref("type")
        if form == 6 and one_in(self.s, 8):
            return pick(self.s, (("component", "", b"\x04\0"), ("core module", "", b"\0\x11\0")))
        return "type", "resource", b"\x03\x01"

    # --- definitions; each adds to its space

    def type(self) -> bytes:
        kind, out = self._type()
        self.spaces["type"].append(kind)
        return out

    def _type(self) -> tuple[str, bytes]:
        form = self.s.integer(0, 15 if self.depth < 3 else 13)
        match form:
            case 0:
                return "value", b"\x72" + self._some(self._field)
            case 1:
                return "value", b"\x71" + self._some(lambda: self._name() + self._maybe(self._value) + b"\0")
            case 2:
                return "value", b"\x70" + self._value()
            case 3:
                return "value", b"\x6f" + self._some(self._value)
            case 4:
                return "value", pick(self.s, (b"\x6e", b"\x6d")) + self._some(self._name)
            case 5:
                return "value", pick(self.s, (b"\x6b" + self._value(), b"\x6a" + self._maybe(self._value) + b"\0"))
            case 6 | 7 if "resource" in self.spaces["type"]:
                return "value", pick(self.s, (b"\x69", b"\x68")) + self._ref("type", "resource")
            case 12:
                has = self.spaces["core func"] and one_in(self.s, 2)
                return "resource", b"\x3f\x7f" + (b"\x01" + self._ref("core func") if has else b"\0")
            case 13:
                return "value", pick(self.s, _LATER if one_in(self.s, 6) else _PRIMITIVES)
            case 14 | 15:
                inner = _Writer(self.s, self.depth + 1, self)
                if one_in(self.s, 6):
                    return "component", b"\x41" + inner._some(inner.declaration, 5)
                return "instance", b"\x42" + inner._some(inner.declaration, 5)
            case _:
                result = b"\0" + self._value() if one_in(self.s, 2) else b"\x01\0"
                return "func", b"\x40" + self._some(self._field) + result

    def declaration(self) -> bytes:
        form = self.s.integer(0, 5)
        if form <= 1:
            return b"\x01" + self.type()
        if form == 2:
            alias = self.alias()
            if alias is not None:
                return b"\x02" + alias
        sort, kind, out = self._extern_type()
        self.spaces[sort].append(kind)
        return (b"\x03" if form == 3 and one_in(self.s, 10) else b"\x04") + self._extern() + out

    def alias(self) -> bytes | None:
        targets = [
            *([0] if self._has("instance") else []),
            *([1] if self._has("core instance") else []),
            *([2] if self.up is not None or one_in(self.s, 10) else []),
        ]
        if not targets:
            return None
        target = pick(self.s, targets)
        sort = pick(self.s, _COMMON) if one_in(self.s, 2) else self._sort()
        if target == 2:
            count = self.s.integer(0, 2)
            outer: _Writer | None = self
            for _ in range(count):
                outer = outer.up if outer is not None else None
            if outer is None:
                outer, count = self, 0
            sort = outer._sort()
            rest = leb(count) + outer._ref(sort)
            kind = pick(self.s, outer.spaces[sort] or [""])
        else:
            rest = self._ref("core instance" if target else "instance") + self._name()
            kind = pick(self.s, ("value", "func", "instance", "resource")) if sort == "type" else ""
        self.spaces[sort].append(kind)
        return _SORTS[sort] + bytes([target]) + rest

    def canon(self) -> bytes | None:
        form = self.s.integer(0, 5)
        if form <= 2 and self._has("core func", "type"):
            out = b"\0\0" + self._ref("core func") + self._some(self._option) + self._ref("type", "func")
            self.spaces["func"].append("")
            return out
        if form <= 4 and self._has("func"):
            out = b"\x01\0" + self._ref("func") + self._some(self._option)
            self.spaces["core func"].append("")
            return out
        if not self._has("type"):
            return None
        self.spaces["core func"].append("")
        return bytes([self.s.integer(2, 0x48 if one_in(self.s, 20) else 4)]) + self._ref("type", "resource")

    def _option(self) -> bytes:
        option = self.s.integer(0, 6 if one_in(self.s, 40) else 5)
        of = {3: "core memory", 4: "core func", 5: "core func"}
        if option in of and not self._has(of[option]):
            return b"\0"
        return bytes([option]) + (self._ref(of[option]) if option in of else b"")

    def core_instance(self) -> bytes:
        if self._has("core module") and one_in(self.s, 2):
            given = self._some(
                lambda: self._name() + b"\x12" + self._ref("core instance"), 2 if self.spaces["core instance"] else 0
            )
            out = b"\0" + self._ref("core module") + given
        else:
            sorts = ("core func", "core table", "core memory", "core global", "core instance")
            held = tuple(sort for sort in sorts if self.spaces[sort])

            def item() -> bytes:
                sort = pick(self.s, held)
                return self._name() + _SORTS[sort][1:] + self._ref(sort)

            out = b"\x01" + self._some(item, 3 if held else 0)
        self.spaces["core instance"].append("")
        return out

    def instance(self) -> bytes:
        most = 3 if any(self.spaces.values()) else 0
        if self._has("component") and one_in(self.s, 2):
            out = b"\0" + self._ref("component") + self._some(lambda: self._name() + self._sort_index(), most)
        else:
            out = b"\x01" + self._some(lambda: self._extern() + self._sort_index(), most)
        self.spaces["instance"].append("")
        return out

    def import_(self) -> bytes:
        sort, kind, out = self._extern_type()
        self.spaces[sort].append(kind)
        return self._extern() + out

    def export(self) -> bytes | None:
        if not any(self.spaces.values()):
            return None
        sort = self._sort()
        out = self._extern() + _SORTS[sort] + self._ref(sort)
        self.spaces[sort].append(pick(self.s, self.spaces[sort] or [""]))
        return out + (b"\x01" + self._extern_type()[2] if one_in(self.s, 8) else b"\0")

    def core_type(self) -> bytes:
        self.spaces["core type"].append("")
        return pick(self.s, (b"\x60\0\0", b"\x50\0"))

    def component(self) -> bytes:
        """Up to a dozen sections."""
        makes: dict[int, Callable[[], bytes | None]] = {
            2: self.core_instance, 3: self.core_type, 5: self.instance, 6: self.alias, 7: self.type, 8: self.canon,
            10: self.import_, 11: self.export,
        }  # fmt: skip
        sections = []
        for _ in range(self.s.integer(1, 12)):
            kind = pick(self.s, (1, 2, 2, 3, 4, 5, 5, 5, 6, 6, 7, 7, 7, 8, 8, 10, 10, 10, 11))
            if kind == 1:
                imports = self._some(lambda: self._name() + self._name() + pick(self.s, _CORE_KINDS))
                sections.append(section(1, CORE_HEADER + section(1, vec([b"\x60\0\0"])) + section(2, imports)))
                self.spaces["core module"].append("")
            elif kind == 4:
                inner = _Writer(self.s, self.depth + 1, self)
                sections.append(section(4, inner.component() if self.depth < 3 else component()))
                self.spaces["component"].append("")
            else:
                items = (makes[kind]() for _ in range(self.s.integer(1, 4)))
                sections.append(section(kind, vec(one for one in items if one is not None)))
        return component(*sections)


def component_of(s: Source) -> bytes:
    """A whole component."""
    return _Writer(s).component()
