"""What the engine keeps in a Store's opaque fields: a pending call, an attempt's failure, a halt, a result.

A result's body is JSON, or a zero byte and JSON of a failure, and then its checksum (CRC-32). That is written in white
space, which may follow any JSON: hosts of versions that know no checksum read it, and what they wrote has none.
"""

from __future__ import annotations

import enum
import zlib
from typing import TypeVar

import msgspec

from perdure.errors import InternalError

_FAILED = b"\x00"
_DIGITS = b" \t\n\r"
"""What a checksum is written in, two bits each, the highest first."""
T = TypeVar("T", bound=msgspec.Struct)


class CallPayload(msgspec.Struct, frozen=True, array_like=True):
    """A pending call. `function`: its full path; `arguments`: the canonical JSON array; `accepted_ms`: when."""

    function: str
    arguments: bytes
    accepted_ms: int


class FailedAttempt(msgspec.Struct, frozen=True, array_like=True):
    """Why an attempt failed: a stable error code, words, and when (wall-clock ms)."""

    code: str
    detail: str
    at_ms: int


class HaltState(enum.StrEnum):
    """QUARANTINED: the engine stopped it. INTERRUPTED: somebody asked for that."""

    QUARANTINED = "Quarantined"
    INTERRUPTED = "Interrupted"


class Halt(msgspec.Struct, frozen=True, array_like=True):
    """Why an instance must not run. `key`: the pending call that is out of attempts, if that is why."""

    state: HaltState
    reason: str
    at_ms: int
    key: str | None = None


def encode(value: CallPayload | FailedAttempt | Halt) -> bytes:
    return msgspec.msgpack.encode(value)


def decode_call(data: bytes) -> CallPayload:
    """Raises `InternalError`."""
    return _decode(data, CallPayload)


def decode_failure(data: bytes) -> FailedAttempt | None:
    """None for b"": no attempt has failed yet."""
    return _decode(data, FailedAttempt) if data else None


def decode_halt(data: bytes) -> Halt:
    return _decode(data, Halt)


def sealed(body: bytes) -> bytes:
    """A result's body as it is stored. It ends with no white space."""
    return body + _checksum(body)


def unsealed(stored: bytes) -> bytes:
    """The body of a stored result. Raises `InternalError` where it is damaged."""
    body = stored.rstrip(_DIGITS)
    if len(body) < len(stored) and stored[len(body) :] != _checksum(body):
        raise InternalError("the store holds a result that is damaged: its checksum does not fit")
    return body


def _checksum(body: bytes) -> bytes:
    number = zlib.crc32(body)
    return bytes(_DIGITS[number >> place & 3] for place in range(30, -2, -2))


def failed_result(code: str, detail: str) -> bytes:
    """The body of the result of a call that was given up. Bodies of others are JSON, which begins with no zero byte."""
    return _FAILED + msgspec.json.encode({"code": code, "detail": detail})


def failure_of(body: bytes) -> tuple[str, str] | None:
    """(code, detail) of a result's body that is a failure, None of a result. Raises `InternalError` for neither."""
    try:
        if not body.startswith(_FAILED):
            msgspec.json.decode(body)
            return None
        found = msgspec.json.decode(body[1:], type=dict[str, str])
        return found["code"], found["detail"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise InternalError(f"the store holds a result that cannot be read: {error}") from error


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InternalError(f"the store holds a {kind.__name__} that cannot be read: {error}") from error
