"""What goes over the wire, as plain values; who carries it there; and the bounds of both. Pure.

An *answer* is what a request came to, as the journal keeps it: `{"status", "headers": [[name, value]], "body"}`, or
`{"error": [case, payload]}` with a case of wasi:http's `error-code`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from perdure.component.types import Variant
from perdure.wasi.recorder import Plain

MAX_BODY = 16 << 20
MAX_HELD = 64 << 20
"""Bytes of bodies that one instance may hold at once."""
MAX_FIELDS = 128 << 10
"""Bytes of one `fields`, names and values."""
MAX_REQUESTS = 256
"""Requests of one instance that are not answered."""

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,1024}", re.ASCII)
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
PATH = re.compile(r"[/?][\x21\x22\x24-\x7e]{0,65535}", re.ASCII)
METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
FORBIDDEN = frozenset(
    (
        "connection", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
"""Fields that a guest may neither set nor see: they are the connection's."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`scheme`: http or https. Timeouts in nanoseconds, None: the host's own."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: tuple[tuple[str, bytes], ...]
    body: bytes
    connect_ns: int | None = None
    first_byte_ns: int | None = None
    between_bytes_ns: int | None = None


class HttpClient(Protocol):
    """Carries requests out, for all instances of a Worker."""

    @property
    def max_body(self) -> int:
        """Bytes of a request's or a response's body."""

    def refusal(self, scheme: str, authority: str) -> str | None:
        """Why such a request is not allowed, in words for its author."""

    async def send(self, request: HttpRequest) -> Plain:
        """The answer. Raises nothing of its own; may be cancelled."""


def method_name(method: Variant) -> str:
    """`GET`, or the name of an `other` as it is."""
    return str(method.value) if method.case == "other" else method.case.upper()


def method_variant(name: str) -> Variant:
    return Variant(name.lower()) if name.lower() in METHODS and name.isupper() else Variant("other", name)


def error_plain(case: str, payload: Plain = None) -> Plain:
    """An answer that is an error."""
    return {"error": [case, payload]}


def error_code(found: Plain) -> Variant:
    """The `error-code` of such an answer."""
    assert isinstance(found, list)
    case, payload = found
    return Variant(str(case), payload)


def visible(headers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Without what belongs to the connection, and what its own `Connection` field names."""
    named = {
        word.strip().lower()
        for name, value in headers
        if name.lower() == "connection"
        for word in value.decode("latin-1").split(",")
    }
    return [(name, value) for name, value in headers if name.lower() not in FORBIDDEN | named]
