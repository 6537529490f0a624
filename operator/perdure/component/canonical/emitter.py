"""Writing Python source: lines, indentation, fresh names and the constants the source refers to.

Lift and lower are generated as one specialised function per function type, because a walk over the type at every
call costs several times the call itself. The source is kept and can be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType

from perdure.component.canonical.strings import GuestString, encode
from perdure.component.capi import RAW
from perdure.component.traps import AbiTrap
from perdure.component.types import Err, Ok, Some, Variant

NAN = float("nan")


def checked_char(code: int) -> str:
    """A `char` from its code point ("Loading": convert_i32_to_char). Raises `AbiTrap` for a surrogate or a number
    beyond Unicode."""
    if code >= 0x110000 or 0xD800 <= code <= 0xDFFF:
        raise AbiTrap(f"{code:#x} is not a Unicode scalar value")
    return chr(code)


def char_code(char: str) -> int:
    """A `char`'s code point ("Storing": char_to_i32). Raises `ValueError` for a surrogate,
    `TypeError` for what is not one character."""
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"{code:#x} is not a Unicode scalar value")
    return code


def copied(value: bytearray | memoryview) -> bytes:
    """Its bytes as they are now. Raises `TypeError` for what has none."""
    return memoryview(value).tobytes()


def flag_names(names: tuple[str, ...], bits: int) -> frozenset[str]:
    """The names whose bits are set; higher bits are ignored ("Loading": unpack_flags_from_int)."""
    return frozenset(name for index, name in enumerate(names) if bits >> index & 1)


def flag_bits(positions: dict[str, int], names: object) -> int:
    """The bit set of a collection of names ("Storing": pack_flags_into_int)."""
    bits = 0
    for name in names:  # type: ignore[attr-defined]
        bits |= 1 << positions[name]
    return bits


def bits_of_f32(value: float) -> int:
    """As a float joins an integer in a variant's payload ("Flat Lowering": lower_flat_variant); so the next three."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def bits_of_f64(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def f32_of_bits(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))[0])


def f64_of_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


class Emitter:
    """Collects the body of one function. `placing`: it ends where it needs guest memory (`lower.Placement`)."""

    def __init__(self, *, placing: bool = False) -> None:
        self.placing = placing
        self.lines: list[str] = []
        self.namespace: dict[str, object] = {
            "RAW": RAW,
            "NAN": NAN,
            "AbiTrap": AbiTrap,
            "CoroutineType": CoroutineType,
            "Some": Some,
            "Ok": Ok,
            "Err": Err,
            "Variant": Variant,
            "pack": struct.pack,
            "pack_into": struct.pack_into,
            "encode": encode,
            "GuestString": GuestString,
            "BITS": {False: 0, True: 1},
            "copied": copied,
            "checked_char": checked_char,
            "char_code": char_code,
            "flag_names": flag_names,
            "flag_bits": flag_bits,
            "bits_of_f32": bits_of_f32,
            "bits_of_f64": bits_of_f64,
            "f32_of_bits": f32_of_bits,
            "f64_of_bits": f64_of_bits,
        }
        self._depth = 1
        self._names = 0

    def emit(self, line: str) -> None:
        self.lines.append("    " * self._depth + line)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """An indented block; an empty one gets a `pass`."""
        self.emit(header)
        self._depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.emit("pass")
        self._depth -= 1

    def switch(self, number: str, count: int, arm: Callable[[int], None]) -> None:
        """Emit `arm(i)` for each value i < `count` of `number`, found by halving: a chain of `elif` would be slow,
        and a long one too deep for Python's compiler."""
        self._halve(number, 0, count, arm)

    def _halve(self, number: str, low: int, high: int, arm: Callable[[int], None]) -> None:
        if high - low == 1:
            arm(low)
            return
        middle = (low + high) // 2
        with self.block(f"if {number} < {middle}:"):
            self._halve(number, low, middle, arm)
        with self.block("else:"):
            self._halve(number, middle, high, arm)

    def name(self, prefix: str = "v") -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def let(self, expression: str, prefix: str = "v") -> str:
        """Bind an expression to a fresh name, so that it is evaluated once. A name stays what it is: none is ever
        bound anew."""
        if expression.isidentifier():
            return expression
        name = self.name(prefix)
        self.emit(f"{name} = {expression}")
        return name

    def constant(self, value: object, prefix: str) -> str:
        """A name for an object that source cannot spell."""
        for name, known in self.namespace.items():
            if known is value:
                return name
        name = f"{prefix.upper()}_{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def reader(self, form: str) -> str:
        """A bound `Struct.unpack_from` for a little-endian format."""
        name = f"read_{form}"
        self.namespace.setdefault(name, struct.Struct("<" + form).unpack_from)
        return name

    def writer(self, form: str) -> str:
        """A bound `Struct.pack_into` for a little-endian format."""
        name = f"write_{form}"
        self.namespace.setdefault(name, struct.Struct("<" + form).pack_into)
        return name

    def function(self, name: str, signature: str) -> tuple[Callable[..., object], str]:
        """Compile what was emitted as `def name(signature)`; returns it with its source. `mem` is that of `cx`."""
        lines = self.lines or ["    pass"]
        if any("mem." in line for line in lines):
            # `begin` makes its `cx` in its first line.
            after = lines[0].startswith("    cx = ")
            lines = [*lines[:after], "    mem = cx.mem", *lines[after:]]
        source = f"def {name}({signature}):\n" + "\n".join(lines) + "\n"
        # The source is made from types alone: names of fields and cases enter it as string literals only.
        exec(compile(source, f"<canonical {name}>", "exec"), self.namespace)  # noqa: S102
        function = self.namespace[name]
        assert callable(function)
        return function, source
