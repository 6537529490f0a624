"""Journal entries: what replay cannot recompute of one finished invocation, and their bytes.

An entry is `b"PJ" version crc32 payload`, the payload MessagePack. Entries are never rewritten. Written values are
not in it; the results of reads, clocks and randomness are, each with a fingerprint of the call.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import msgspec

from perdure.errors import Quarantined
from perdure.wasi.recorder import Plain

_MAGIC = b"PJ"
_VERSION = 1
_HEADER = struct.Struct("<2sBI")


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One recorded host call: its name, the fingerprint of name and arguments, its result."""

    call: str
    fingerprint: bytes
    result: Any  # Plain; the decoder cannot take a union with both text and bytes


class ForeignPut(msgspec.Struct, frozen=True, array_like=True):
    """A write to a bucket of another store, carried in the entry until it is applied. `value` None: delete."""

    scope: str
    bucket: str
    instance: str | None
    key: str
    value: bytes | None
    ttl_ms: int | None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One finished invocation. `start` holds the events of instantiation, in the instance's first entry only.

    `arguments`: the canonical JSON array. `foreign`: effects by provider. `time_ms`: when it ended, for people.
    """

    sequence: int
    component: str
    function: str
    arguments: bytes
    key: str | None
    start: list[Event] | None
    events: list[Event]
    foreign: dict[str, list[ForeignPut]]
    time_ms: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    payload = _encoder.encode(entry)
    return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(payload)) + payload


def decode_entry(data: bytes, expected: int) -> Entry:
    """The entry with sequence `expected`. Raises `Quarantined` naming what is wrong with it."""
    if len(data) < _HEADER.size or data[:2] != _MAGIC:
        raise Quarantined(f"journal entry {expected} is not an entry of Perdure")
    _, version, checksum = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise Quarantined(f"journal entry {expected} has format {version}; this host reads format {_VERSION}")
    payload = memoryview(data)[_HEADER.size :]
    if zlib.crc32(payload) != checksum:
        raise Quarantined(f"journal entry {expected} is damaged: its checksum does not match")
    try:
        entry = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise Quarantined(f"journal entry {expected} cannot be decoded: {error}") from error
    if entry.sequence != expected:
        raise Quarantined(f"journal entry {expected} carries sequence {entry.sequence}")
    return entry


def fingerprint_of(call: str, args: tuple[Plain, ...]) -> bytes:
    """Eight bytes that tell one call from another."""
    return hashlib.blake2b(_encoder.encode((call, args)), digest_size=8).digest()


def call_fingerprint(function: str, arguments: bytes) -> bytes:
    """What an idempotency key is bound to: function and canonical arguments."""
    return hashlib.sha256(function.encode() + b"\0" + arguments).digest()
