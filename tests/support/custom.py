"""Custom sections for tests: made, and laid on to a component."""

from __future__ import annotations

import json


def leb(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def named(text: str) -> bytes:
    data = text.encode()
    return leb(len(data)) + data


def with_section(component: bytes, name: str, data: bytes) -> bytes:
    body = named(name) + data
    return component + b"\0" + leb(len(body)) + body


def producers_section(fields: dict[str, dict[str, str]]) -> bytes:
    out = leb(len(fields))
    for field, values in fields.items():
        out += named(field) + leb(len(values)) + b"".join(named(name) + named(text) for name, text in values.items())
    return out


def docs_section(document: object, version: int = 1) -> bytes:
    return bytes([version]) + json.dumps(document).encode()
