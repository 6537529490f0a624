"""In what format typed values come and go: `Content-Type` and `Accept` (RFC 9110, section 12.5.1). JSON where a request
does not say.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from perdure.component.plan import ExportedFunc
from perdure.component.wit_cbor import to_cbor
from perdure.component.wit_json import Json, from_json
from perdure.component.wit_plain import Plain
from perdure.errors import NotAcceptable, TypeMismatch, UnsupportedMediaType
from perdure.host.http.cbor import encode
from perdure.host.http.replies import json_reply
from perdure.wasi.http.serving import is_handler


class Media(enum.StrEnum):
    JSON = "application/json"
    CBOR = "application/cbor"


# What clients say that were not told what they send: curl, and those that take bytes for bytes.
_UNTOLD = ("application/octet-stream", "application/x-www-form-urlencoded", "text/plain", "text/json")
_RANGE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)/([!#$%&'*+.^_`|~0-9A-Za-z-]+)", re.ASCII)
_WEIGHT = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII)


def body_media(request: web.Request) -> Media:
    """Of the request's body. Raises `UnsupportedMediaType`."""
    said = request.content_type
    if said == Media.CBOR:
        return Media.CBOR
    if said == Media.JSON or said in _UNTOLD or said.endswith("+json"):
        return Media.JSON
    raise UnsupportedMediaType(f"the body is {said}; send {Media.JSON} or {Media.CBOR}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reply may be. `best`: what it should be."""

    best: Media
    json: bool


def wanted_media(request: web.Request) -> Wanted:
    """By `Accept`; the heavier format, then the one that is named, then JSON. Raises `NotAcceptable`."""
    headers = request.headers.getall("Accept", ())
    if not any(header.strip() for header in headers):
        return Wanted(Media.JSON, json=True)
    said = ",".join(headers)
    ranges = list(_ranges(said))
    found = {media: _weight(media, ranges) for media in Media}
    best = max(Media, key=found.__getitem__)
    if found[best][0] == 0:
        raise NotAcceptable(f"Accept takes neither {Media.JSON} nor {Media.CBOR}")
    return Wanted(best, json=found[Media.JSON][0] > 0)


def _ranges(header: str) -> list[tuple[str, str, float]]:
    """(type, subtype, weight) of each range; what is not well formed is none."""
    found = []
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        match = _RANGE.fullmatch(name.lower())
        weight = next((text[2:].strip() for text in parameters if text[:2].lower() == "q="), "1")
        if match is not None and _WEIGHT.fullmatch(weight):
            found.append((match[1], match[2], float(weight)))
    return found


def _weight(media: Media, ranges: list[tuple[str, str, float]]) -> tuple[float, int]:
    """(weight, how closely it is named): the closest range counts."""
    kind, _, subtype = media.value.partition("/")
    closest = (-1, 0.0)
    for one, other, weight in ranges:
        level = 2 if (one, other) == (kind, subtype) else 1 if (one, other) == (kind, "*") else 0
        if level > 0 or (one, other) == ("*", "*"):
            closest = max(closest, (level, weight))
    return closest[1], closest[0]


def result_reply(func: ExportedFunc, body: bytes, wanted: Wanted, headers: Mapping[str, str]) -> web.Response:
    """A call's result, which is stored as JSON. JSON also where CBOR cannot be had: the call is carried out."""
    if wanted.best is Media.CBOR:
        plain = result_plain(func, json.loads(body))
        if plain is not None:
            return web.Response(body=encode(plain.value), content_type=Media.CBOR, headers=headers)
    return web.Response(body=body, content_type=Media.JSON, headers=headers)


def call_reply(
    document: Mapping[str, object],
    func: ExportedFunc | None,
    wanted: Wanted,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """What is known of a call. `func`: what it called, which the CBOR of its result needs; else it is JSON."""
    if wanted.best is Media.CBOR:
        plain = cast("dict[str, Plain]", dict(document))
        if "result" in plain:
            found = None if func is None else result_plain(func, cast(Json, plain["result"]))
            if found is None:
                return json_reply(document, status=status, headers=headers)
            plain["result"] = found.value
        return web.Response(body=encode(plain), status=status, content_type=Media.CBOR, headers=headers)
    return json_reply(document, status=status, headers=headers)


@dataclass(frozen=True, slots=True)
class Typed:
    """A result as CBOR has it."""

    value: Plain


def result_plain(func: ExportedFunc, value: Json) -> Typed | None:
    """None: it is of another type, since the instance runs on another component."""
    if is_handler(func):
        return Typed(cast(Plain, value))
    if func.type.result is None:
        return Typed(None)
    try:
        return Typed(to_cbor(func.type.result, from_json(func.type.result, value, "result")))
    except TypeMismatch:
        return None
