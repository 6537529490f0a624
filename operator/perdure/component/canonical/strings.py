"""Strings in the three encodings (component-model `CanonicalABI.md`, "Loading" and "Storing" of strings).

A string of the host is written in one allocation of its exact size. A string that goes from one component to another
is written as the ABI says, in allocations that the callee can observe: a guess from the source's length, which may
have to grow and then to shrink.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from perdure.component.plan import StringEncoding

UTF16_TAG = 1 << 31
MAX_STRING_BYTES = (1 << 32) - 1

SimpleEncoding: TypeAlias = Literal["utf8", "utf16", "latin1"]


class GuestString(str):
    """A string as another component had it: its code units decide how it is allocated anew."""

    __slots__ = ("simple_encoding", "tagged", "units")
    simple_encoding: SimpleEncoding
    tagged: bool
    units: int

    @classmethod
    def of(cls, text: str, encoding: StringEncoding, units: int) -> GuestString:
        """`units` as the component gave them, tag included."""
        made = cls(text)
        made.tagged = encoding == "latin1+utf16"
        wide = encoding == "utf16" or (made.tagged and bool(units & UTF16_TAG))
        made.simple_encoding = "utf16" if wide else "latin1" if made.tagged else "utf8"
        made.units = units & ~UTF16_TAG if made.tagged else units
        return made


def layout_of(encoding: StringEncoding, units: int) -> tuple[int, int, int, str]:
    """(code units, bytes each, alignment, Python codec) of a guest string of `units`, tag included ("Loading":
    load_string_from_range)."""
    if encoding == "utf8":
        return units, 1, 1, "utf-8"
    if encoding == "utf16":
        return units, 2, 2, "utf-16-le"
    if units & UTF16_TAG:
        return units ^ UTF16_TAG, 2, 2, "utf-16-le"
    return units, 1, 2, "latin-1"


def encode(encoding: StringEncoding, text: str) -> tuple[bytes, int, int]:
    """(bytes, alignment, code units) for the guest ("Storing": store_string_into_range).

    Raises `ValueError` for lone surrogates and for what a 32-bit memory cannot hold.
    """
    if encoding == "utf8":
        data = text.encode("utf-8")
        return _bounded(data), 1, len(data)
    if encoding == "latin1+utf16":
        try:
            data = text.encode("latin-1")
            return _bounded(data), 2, len(data)
        except UnicodeEncodeError:
            data = text.encode("utf-16-le")
            return _bounded(data), 2, len(data) // 2 | UTF16_TAG
    data = text.encode("utf-16-le")
    return _bounded(data), 2, len(data) // 2


def allocations(encoding: StringEncoding, text: GuestString, data: bytes) -> list[int]:
    """The sizes in bytes that the callee's `realloc` is asked for, one after the other, to hold `data`.

    One size: an exact or sufficient first allocation. "Storing" has a
    function for each case (store_string_copy, store_utf16_to_utf8, …).
    """
    source, units, final = text.simple_encoding, text.units, len(data)
    if encoding == "utf8":
        if source == "utf8":
            return [final]
        if text.isascii():
            return [units]
        return _shrunk([units, units * (3 if source == "utf16" else 2)], final)
    if encoding == "utf16":
        return _shrunk([2 * units], final) if source == "utf8" else [2 * units]
    if text.tagged:
        # From latin1+utf16 itself: a wide string may turn out to be narrow.
        return [units] if source == "latin1" else _shrunk([2 * units], final)
    if final <= units and max(text, default="") < "\u0100":
        return _shrunk([units], final)
    return _shrunk([units, 2 * units], final)


def _shrunk(sizes: list[int], final: int) -> list[int]:
    return [*sizes, final] if final < sizes[-1] else sizes


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_STRING_BYTES:
        raise ValueError("the string does not fit a 32-bit memory")
    return data
