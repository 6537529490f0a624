"""The parts of etcd's requests and answers as its JSON gateway has them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A key with its value (b"" where it was not asked for), and the revision of its last change."""

    key: bytes
    value: bytes
    revision: int


def text(data: bytes) -> str:
    """Bytes as JSON has them."""
    return b64encode(data).decode("ascii")


def put(key: bytes, value: bytes, lease: str | None = None) -> Json:
    return {"requestPut": {"key": text(key), "value": text(value), "lease": lease or "0"}}


def delete(key: bytes) -> Json:
    return {"requestDeleteRange": {"key": text(key)}}


def read(key: bytes) -> Json:
    return {"requestRange": {"key": text(key)}}


def revision_is(key: bytes, revision: int) -> Json:
    """0: there is no such key."""
    return {"key": text(key), "result": "EQUAL", "target": "MOD", "modRevision": str(revision)}


def version_is(key: bytes, version: int) -> Json:
    return {"key": text(key), "result": "EQUAL", "target": "VERSION", "version": str(version)}


def list_keys(start: bytes, end: bytes, limit: int) -> Json:
    """Without their values."""
    return {"requestRange": {"key": text(start), "rangeEnd": text(end), "limit": str(limit), "keysOnly": True}}


def count_keys(start: bytes, end: bytes) -> Json:
    return {"requestRange": {"key": text(start), "rangeEnd": text(end), "countOnly": True}}


def read_count(answer: Json) -> int:
    """Of a transaction's answer, whose first part is a `count_keys`."""
    return int((answer["responses"][0].get("response_range") or {}).get("count", 0))


def read_pages(answer: Json) -> list[list[Row]]:
    """Of a transaction's answer: for each range its keys."""
    return [_rows(response.get("response_range") or {}) for response in answer.get("responses") or []]


def read_rows(answer: Json) -> list[Row | None]:
    """Of a transaction's answer: one for each `read`, in their order."""
    return [page[0] if page else None for page in read_pages(answer)]


def _rows(found: Json) -> list[Row]:
    return [
        Row(b64decode(item["key"]), b64decode(item.get("value", "")), int(item.get("mod_revision", 0)))
        for item in found.get("kvs") or []
    ]
