"""Reading requests: names, keys and bodies are hostile until they have been through here."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import unquote

from aiohttp import web

from perdure.component.plan import ExportedFunc
from perdure.component.wit_cbor import args_from_cbor
from perdure.component.wit_json import args_from_json, to_json
from perdure.durable.calling import MAX_CHAIN
from perdure.durable.watching import PREFIX
from perdure.errors import BadRequest, Overloaded, TooLarge, TypeMismatch, UnsupportedMediaType
from perdure.host.http.cbor import decode
from perdure.host.http.media import Media
from perdure.host.peers import CALLERS
from perdure.wasi.http.serving import canonical_request, is_handler, parse_request

MAX_NAME = 256
MAX_KEY = 256
PATIENCE = 30.0
"""Seconds that a client may be silent within a body."""
MAX_COMING = 256 << 20
"""Bytes of bodies that have come in part: those of slow clients. Two of the largest always fit."""
INSTANCE, KEY = "{instance:[^/]+}", "{key:[^/]+}"
"""Parts of routes. Without the pattern, names with braces would not be found."""
_NO_CODE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def check_encoding(target: str) -> None:
    """Of a path and query, or a part of them, as they were sent. What is not well formed would be taken as it stands,
    and `%ff` be the same as `%25ff`. Raises `BadRequest`."""
    if "%" not in target:
        return
    try:
        unquote(target, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("what the path or the query encodes with percent signs is not UTF-8") from None
    if _NO_CODE.search(target) is not None:
        raise BadRequest("a percent sign of the path or the query stands for nothing; write it as %25")


def instance_name(request: web.Request) -> str:
    """The `{instance}` of the path. Raises `BadRequest`."""
    return checked_name(request.match_info["instance"])


def checked_name(name: str) -> str:
    """An instance's name. Raises `BadRequest`."""
    if not 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME or not name.isprintable():
        raise BadRequest(f"the instance's name must have 1 to {MAX_NAME} bytes of printable characters")
    return name


def idempotency_key(request: web.Request) -> str | None:
    """The `Idempotency-Key` header, if any. Raises `BadRequest`."""
    given = request.headers.getall("Idempotency-Key", [])
    if len(given) > 1:
        raise BadRequest("a request must have one Idempotency-Key")
    key = given[0] if given else None
    if key is not None and key.startswith(PREFIX):
        raise BadRequest(
            f"Idempotency-Key must not begin with {PREFIX}: such keys are those of watched buckets' changes"
        )
    return None if key is None else _checked_key(key, "Idempotency-Key")


def callers(request: web.Request) -> tuple[str, ...]:
    """Of a call that another instance makes. Raises `BadRequest`."""
    found = tuple(filter(None, request.headers.get(CALLERS, "").split(",")))
    if len(found) > MAX_CHAIN or not all(len(one) == 16 and one.isascii() and one.isalnum() for one in found):
        raise BadRequest(f"{CALLERS} must be at most {MAX_CHAIN} digests of 16 hexadecimal digits")
    return found


def invocation_key(request: web.Request) -> str:
    """The `{key}` of the path. Raises `BadRequest`."""
    return _checked_key(request.match_info["key"], "the invocation's key")


def _checked_key(key: str, what: str) -> str:
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise BadRequest(f"{what} must have 1 to {MAX_KEY} printable characters")
    return key


class Coming:
    """Of the bodies of one host that have not come whole: `held` bytes."""

    def __init__(self) -> None:
        self.held = 0

    def hold(self, size: int, limit: int) -> None:
        """Raises `Overloaded`."""
        if self.held + size > max(MAX_COMING, 2 * limit):
            raise Overloaded("too many requests are under way whose bodies have not come whole")
        self.held += size


COMING: web.AppKey[Coming] = web.AppKey("coming", Coming)


async def read_body(request: web.Request, limit: int, *, coded: bool = False) -> bytes:
    """The body as it was sent, of at most `limit` bytes. `coded`: it may be compressed, which is its reader's business.

    Raises `UnsupportedMediaType`, `TooLarge` without reading more than that, `Overloaded`, and `BadRequest` where it
    does not come whole.
    """
    coding = ",".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    if not coded and coding not in ("", "identity"):
        raise UnsupportedMediaType(f"the body's Content-Encoding is {coding}; send it as it is")
    refusal = f"the request body is over {limit:,} bytes (limits.maxBodyBytes)"
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(refusal)
    body, coming = bytearray(), request.app[COMING]
    try:
        while chunk := await _some(request):
            if len(body) + len(chunk) > limit:
                raise TooLarge(refusal)
            coming.hold(len(chunk), limit)
            body += chunk
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequest("the request's body did not come whole") from None
    except TimeoutError:
        raise BadRequest(f"the request's body did not come whole: nothing of it for {PATIENCE:g} s") from None
    finally:
        coming.held -= len(body)
    return bytes(body)


async def _some(request: web.Request) -> bytes:
    """What has come of the body, or comes next; nothing at its end. A client that falls silent is not waited for."""
    if request.content.is_eof():
        return await request.content.readany()
    async with asyncio.timeout(PATIENCE):
        return await request.content.readany()


def canonical_arguments(func: ExportedFunc, body: bytes, media: Media = Media.JSON) -> bytes:
    """The arguments as a positional JSON array in one spelling, checked against the function's type. The same call in
    JSON and in CBOR has the same.

    Raises `BadRequest` for what is not well formed and `TypeMismatch` naming the parameter.
    """
    parsed = _parsed(body, media)
    if is_handler(func):
        return canonical_request(parse_request(parsed))
    values = (args_from_cbor if media is Media.CBOR else args_from_json)(func.type, parsed)
    types = [kind for _, kind in func.type.params]
    plain = [to_json(kind, value) for kind, value in zip(types, values, strict=True)]
    return _ENCODER.encode(plain).encode("utf-8", "surrogatepass")


def _parsed(body: bytes, media: Media) -> object:
    """An empty body is a call without arguments. Raises `BadRequest`."""
    if media is Media.CBOR:
        try:
            return decode(body) if body else []
        except ValueError as error:
            raise BadRequest(
                f"the body is not CBOR as it is read here: {error}; send an array of arguments or a map by name"
            ) from None
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass")) if body.strip() else []
    except (json.JSONDecodeError, _Twice) as error:
        reason = str(error)
    except UnicodeDecodeError:
        reason = "its text is not UTF-8"
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError:
        reason = "a number has too many digits"
    raise BadRequest(f"the body is not JSON: {reason}; send an array of arguments or an object by name")


def page(request: web.Request, *, most: int = 1000, default: int = 100) -> tuple[str | None, int]:
    """`?cursor=…&limit=…` of a listing. Raises `BadRequest`."""
    return request.query.get("cursor") or None, number(request, "limit", default, least=1, most=most)


def number(request: web.Request, name: str, default: int, *, least: int, most: int) -> int:
    """`?name=…` as a whole number. Raises `BadRequest`."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        raise BadRequest(f"{name} must be a number from {least} to {most}")
    return int(text)


def _refuse_constant(name: str) -> float:
    raise TypeMismatch(f'{name} is not JSON; write it as the string "{name}"', parameter="")


class _Twice(ValueError):
    """Of two values one would be lost unseen."""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"{next(name for name in names if names.count(name) > 1)!r} comes twice in one object")
    return found


# Made once: json.loads and json.dumps would make them anew for each request.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_distinct)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
