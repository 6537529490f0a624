"""Journal entries: what replay cannot recompute of one commit, and their bytes.

An entry is `b"PJ" version crc32 payload`, the payload MessagePack. Entries are never rewritten. Written values are
not in it; the results of reads, clocks and randomness are, each with a fingerprint of the call. Payloads over
`LARGE` bytes are kept once beside the journal and referred to by digest (version bit `_REFERS`). Version 1 had no
fields after `time_ms`.
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from perdure.errors import Quarantined
from perdure.wasi.http.serving import HANDLER, identity
from perdure.wasi.recorder import Plain

LARGE = 64 << 10
_MAGIC = b"PJ"
_VERSION = 2
_READS = (1, 2)
_REFERS = 0x80
_HEADER = struct.Struct("<2sBI")
_BLOB = 1


class Kind(enum.StrEnum):
    """CALL ends an invocation. PART is an earlier gate of one. ABANDONED ends one whose parts stay, while memory is as
    before it. FRESH: the instance begins anew. MIGRATED: it begins anew with the state its former component gave."""

    CALL = "call"
    PART = "part"
    ABANDONED = "abandoned"
    FRESH = "fresh"
    MIGRATED = "migrated"


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One recorded host call: its name, the fingerprint of name and arguments, its result."""

    call: str
    fingerprint: bytes
    result: Any  # Plain; the decoder cannot take a union with both text and bytes


class Gate(msgspec.Struct, frozen=True, array_like=True):
    """The call that a PART was made for and whose result its outcomes hold; the next entry has it as an event."""

    call: str
    fingerprint: bytes
    provider: str


class ForeignWrite(msgspec.Struct, frozen=True, array_like=True):
    """An effect on a bucket of another store, carried in the entry until it is applied.

    `value` None: delete. `delta`: an increment. `swaps`: a swap, of `expected` (None: missing) for `value`. `items`: a
    `Fill`, whose key is empty. `max_keys`: how many keys the bucket may have.
    """

    scope: str
    bucket: str
    instance: str | None
    key: str
    value: bytes | None
    ttl_ms: int | None
    delta: int | None = None
    swaps: bool = False
    expected: bytes | None = None
    items: list[tuple[str, bytes]] | None = None
    max_keys: int | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One commit of an instance.

    `arguments`: the canonical JSON array, in an invocation's first entry only. `start`: the events of instantiation,
    in the first entry after it. `foreign`: effects by provider. `time_ms`: when, for people. `part`: how many entries
    of the same invocation come before. `guest_us`: how long the guest ran for this entry. `reason`: in words, for
    ABANDONED and FRESH. `state`: what MIGRATED hands over. `callers`: digests of the instances that wait for the call,
    in an invocation's first entry only.
    """

    sequence: int
    component: str
    function: str
    arguments: bytes
    key: str | None
    start: list[Event] | None
    events: list[Event]
    foreign: dict[str, list[ForeignWrite]]
    time_ms: int
    kind: Kind = Kind.CALL
    part: int = 0
    guest_us: int = 0
    gate: Gate | None = None
    reason: str = ""
    state: bytes | None = None
    callers: tuple[str, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode_entry(entry: Entry) -> tuple[bytes, dict[bytes, bytes]]:
    """The entry's bytes, and the large payloads that it refers to by digest."""
    payload = _encoder.encode(entry)
    blobs: dict[bytes, bytes] = {}
    version = _VERSION
    if len(payload) > LARGE:
        payload = _encoder.encode(_outlined(msgspec.to_builtins(entry, builtin_types=(bytes,)), blobs))
        version |= _REFERS if blobs else 0
    return _HEADER.pack(_MAGIC, version, zlib.crc32(payload)) + payload, blobs


def decode_entry(data: bytes, expected: int, blobs: Mapping[bytes, bytes] | None = None) -> Entry:
    """The entry with sequence `expected`. Raises `Quarantined` naming what is wrong with it."""
    payload, refers = _payload(data, expected)
    try:
        if refers:
            entry = msgspec.convert(_Inliner(expected, blobs or {}).decode(payload), Entry, builtin_types=(bytes,))
        else:
            entry = _decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Quarantined(f"journal entry {expected} cannot be decoded: {error}") from error
    if entry.sequence != expected:
        raise Quarantined(f"journal entry {expected} carries sequence {entry.sequence}")
    return entry


def referred(data: bytes, expected: int) -> list[bytes]:
    """The digests of the payloads that an entry refers to. Raises `Quarantined` as `decode_entry`."""
    payload, refers = _payload(data, expected)
    found: list[bytes] = []

    def note(code: int, digest: memoryview) -> bytes:
        found.append(bytes(digest))
        return b""

    if refers:
        try:
            msgspec.msgpack.Decoder(ext_hook=note).decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Quarantined(f"journal entry {expected} cannot be decoded: {error}") from error
    return found


def carried_sequence(data: bytes) -> int | None:
    """Which sequence an entry says it has; None: it cannot be read."""
    try:
        payload, _ = _payload(data, 0)
        found = msgspec.msgpack.decode(payload, ext_hook=lambda code, digest: b"")
    except (Quarantined, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found[0] if isinstance(found, list) and found and isinstance(found[0], int) else None


def blob_digest(data: bytes) -> bytes:
    """What a large payload is kept under: 32 bytes of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=32).digest()


def fingerprint_of(call: str, args: tuple[Plain, ...]) -> bytes:
    """Eight bytes that tell one call from another."""
    return hashlib.blake2b(_encoder.encode((call, args)), digest_size=8).digest()


def call_fingerprint(function: str, arguments: bytes) -> bytes:
    """What an idempotency key is bound to: function and arguments; of an HTTP request what `identity` says."""
    if function.startswith(HANDLER):
        arguments = identity(arguments)
    return hashlib.sha256(function.encode() + b"\0" + arguments).digest()


def _payload(data: bytes, expected: int) -> tuple[memoryview, bool]:
    if len(data) < _HEADER.size or data[:2] != _MAGIC:
        raise Quarantined(f"journal entry {expected} is not an entry of Perdure")
    _, version, checksum = _HEADER.unpack_from(data)
    if version & ~_REFERS not in _READS:
        raise Quarantined(
            f"journal entry {expected} has format {version & ~_REFERS}; this host reads formats up to {_VERSION}",
            lasting=False,
        )
    payload = memoryview(data)[_HEADER.size :]
    if zlib.crc32(payload) != checksum:
        raise Quarantined(f"journal entry {expected} is damaged: its checksum does not match")
    return payload, bool(version & _REFERS)


def _outlined(value: Any, blobs: dict[bytes, bytes]) -> Any:
    """`value` with each large run of bytes replaced by a reference."""
    match value:
        case bytes() if len(value) > LARGE:
            digest = blob_digest(value)
            blobs[digest] = value
            return msgspec.msgpack.Ext(_BLOB, digest)
        case list() | tuple():
            return [_outlined(item, blobs) for item in value]
        case dict():
            return {name: _outlined(item, blobs) for name, item in value.items()}
        case _:
            return value


class _Inliner:
    """Decodes a payload with the large ones put back."""

    def __init__(self, sequence: int, blobs: Mapping[bytes, bytes]) -> None:
        self._sequence = sequence
        self._blobs = blobs
        self._decoder = msgspec.msgpack.Decoder(ext_hook=self._blob)

    def decode(self, payload: memoryview) -> object:
        return self._decoder.decode(payload)

    def _blob(self, code: int, digest: memoryview) -> bytes:
        found = self._blobs.get(bytes(digest))
        if found is None:
            self._damaged(f"refers to a payload that is missing ({bytes(digest).hex()[:16]}…)")
        if blob_digest(found) != bytes(digest):
            self._damaged(f"refers to a payload that is damaged ({bytes(digest).hex()[:16]}…)")
        return found

    def _damaged(self, what: str) -> NoReturn:
        raise Quarantined(f"journal entry {self._sequence} {what}")
