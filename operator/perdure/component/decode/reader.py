"""A bounds-checked reader of WebAssembly's binary encodings. Every failure is a `ComponentError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from perdure.errors import ComponentError, ComponentUnsupported

T = TypeVar("T")


class Reader:
    """Reads `data[position:end]`. Counts are bounded by the bytes that are left, so hostile input ends soon.

    `refusals`: where a list is given, unsupported features that can be passed over are noted there; else each raises.
    """

    __slots__ = ("data", "end", "position", "refusals")

    def __init__(
        self,
        data: bytes,
        position: int = 0,
        end: int | None = None,
        refusals: list[ComponentUnsupported] | None = None,
    ) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self.refusals = refusals

    def fail(self, what: str) -> ComponentError:
        """An error that names the offset."""
        return ComponentError(f"malformed component: {what} at byte {self.position:#x}")

    def too_deep(self, what: str, limit: int) -> ComponentUnsupported:
        """For nesting that the format allows and nobody writes."""
        return ComponentUnsupported(
            f"the component has {what} more than {limit} deep", feature=f"{what} over {limit} deep"
        )

    def refuse(self, detail: str, feature: str) -> None:
        """Raise `ComponentUnsupported`, or note it where refusals are collected."""
        refusal = ComponentUnsupported(detail, feature=feature)
        if self.refusals is None:
            raise refusal
        self.refusals.append(refusal)

    @property
    def left(self) -> int:
        return self.end - self.position

    def byte(self) -> int:
        if self.position >= self.end:
            raise self.fail("unexpected end")
        value = self.data[self.position]
        self.position += 1
        return value

    def peek(self) -> int:
        if self.position >= self.end:
            raise self.fail("unexpected end")
        return self.data[self.position]

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise self.fail("unexpected end")
        start = self.position
        self.position += size
        return self.data[start : self.position]

    def skip(self, size: int) -> None:
        if size > self.left:
            raise self.fail("unexpected end")
        self.position += size

    def u32(self) -> int:
        """Unsigned LEB128 of at most 5 bytes."""
        return self._unsigned(5, 32)

    def u64(self) -> int:
        return self._unsigned(10, 64)

    def _unsigned(self, most: int, bits: int) -> int:
        result = shift = 0
        for _ in range(most):
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if result >> bits:
                    raise self.fail("integer too large")
                return result
            shift += 7
        raise self.fail("integer too long")

    def signed(self, most: int = 10) -> int:
        """Signed LEB128."""
        result = shift = 0
        for _ in range(most):
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return result - (1 << shift) if byte & 0x40 else result
        raise self.fail("integer too long")

    def name(self) -> str:
        try:
            return self.take(self.u32()).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("a name that is not UTF-8") from None

    def vector(self, item: Callable[[Reader], T]) -> tuple[T, ...]:
        count = self.u32()
        if count > self.left:
            raise self.fail("a count larger than what follows")
        return tuple(item(self) for _ in range(count))

    def optional(self, item: Callable[[Reader], T]) -> T | None:
        flag = self.byte()
        if flag > 1:
            raise self.fail("an option that is neither 0 nor 1")
        return item(self) if flag else None

    def sub(self, size: int) -> Reader:
        """A reader of the next `size` bytes, which this one then has passed."""
        if size > self.left:
            raise self.fail("unexpected end")
        inner = Reader(self.data, self.position, self.position + size, self.refusals)
        self.position += size
        return inner
