"""Which pages of a memory differ from another's, and the difference itself.

Pages are compared with `memcmp`. On Linux, /proc/self/pagemap first rules out those that were never written: a page
that still is the file's (wasmtime maps a memory's initial content copy-on-write) or that was never touched. What it
leaves is a superset; where it is absent, or does not say what it should, every page is compared.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import re
from collections.abc import Iterable

from perdure.component.capi import RAW

PAGE = 4096
"""Bytes. A divisor of WebAssembly's page size, whatever the host's is."""

ZEROS = bytes(PAGE)

_PAGEMAP = "/proc/self/pagemap"
_ENTRY = 8
# Linux, Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62 swapped, 61 file page or shared anonymous.
_OWN = bytes(1 if top & 0xC0 and not top & 0x20 else 0 for top in range(256))
_RUN = re.compile(rb"\x01+")
_zeros = ctypes.create_string_buffer(ZEROS, PAGE)
_ZEROS_AT = ctypes.addressof(_zeros)
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_memcmp.restype = ctypes.c_int


def changed_pages(address: int, size: int, initial: int, initial_size: int, *, prefilter: bool = True) -> list[int]:
    """The numbers of the pages in `address[:size]` that differ from `initial`, which is zero beyond its own size.

    Both sizes are multiples of `PAGE`, and the memory at `address` is not smaller.
    """
    pages: Iterable[int] | None = written_pages(address, size) if prefilter and pagemap_is_right() else None
    if pages is None:
        pages = range(size // PAGE)
    end = initial_size // PAGE
    return [
        page
        for page in pages
        if _memcmp(address + page * PAGE, initial + page * PAGE if page < end else _ZEROS_AT, PAGE)
    ]


def written_pages(address: int, size: int) -> list[int] | None:
    """The pages that pagemap does not rule out. None: it cannot be read."""
    length = size // PAGE * _ENTRY
    try:
        with open(_PAGEMAP, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor for pread
            entries = os.pread(file.fileno(), length, address // PAGE * _ENTRY)
    except OSError:
        return None
    if len(entries) != length:
        return None
    own = entries[_ENTRY - 1 :: _ENTRY].translate(_OWN)
    return [page for run in _RUN.finditer(own) for page in range(*run.span())]


@functools.cache
def pagemap_is_right() -> bool:
    """Whether this kernel tells written pages of a private mapping from others."""
    if mmap.PAGESIZE != PAGE or not hasattr(os, "memfd_create"):
        return False
    try:
        file = os.memfd_create("pagemap")
    except OSError:
        return False
    try:
        os.truncate(file, 3 * PAGE)
        with mmap.mmap(file, 3 * PAGE, flags=mmap.MAP_PRIVATE) as view:
            _ = view[PAGE]
            view[2 * PAGE] = 1
            pinned = ctypes.c_ubyte.from_buffer(view)
            seen = written_pages(ctypes.addressof(pinned), 3 * PAGE)
            del pinned
            return seen == [2]
    except OSError:
        return False
    finally:
        os.close(file)


def read_pages(address: int, pages: Iterable[int]) -> dict[int, bytes]:
    return {page: bytes(RAW[address + page * PAGE : address + (page + 1) * PAGE]) for page in pages}


def write_pages(address: int, pages: dict[int, bytes]) -> None:
    for page, content in pages.items():
        RAW[address + page * PAGE : address + (page + 1) * PAGE] = content


def xor(one: bytes, other: bytes) -> bytes:
    """Of equal lengths."""
    if other is ZEROS:
        return one
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return mixed.to_bytes(len(one), "little")
