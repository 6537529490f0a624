"""Strings in the three encodings (component-model `CanonicalABI.md`, "Loading" and "Storing" of strings)."""

from __future__ import annotations

from perdure.component.plan import StringEncoding
from perdure.component.traps import AbiTrap

UTF16_TAG = 1 << 31
MAX_STRING_BYTES = (1 << 31) - 1


def layout_of(encoding: StringEncoding, units: int) -> tuple[int, int, str]:
    """(bytes, alignment, Python codec) of a guest string of `units` code units."""
    if encoding == "utf8":
        return units, 1, "utf-8"
    if encoding == "utf16":
        return units * 2, 2, "utf-16-le"
    if units & UTF16_TAG:
        return (units ^ UTF16_TAG) * 2, 2, "utf-16-le"
    return units, 2, "latin-1"


def encode(encoding: StringEncoding, text: str) -> tuple[bytes, int, int]:
    """(bytes, alignment, code units) for the guest. Raises `ValueError` for lone surrogates."""
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


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_STRING_BYTES:
        raise AbiTrap("a string longer than the ABI allows")
    return data
