"""What a request prefers (RFC 7240) and when it wants to be carried out."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from aiohttp import web

from perdure.errors import BadRequest

MAX_WAIT = 60
SCHEDULE_AT = "Perdure-Schedule-At"
_LAST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_WAIT = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """`respond_async`: answer when the request is accepted. `wait`: seconds to wait for what is asked for."""

    respond_async: bool = False
    wait: int = 0


def preferences(request: web.Request) -> Preferences:
    """Of all `Prefer` headers. What is unknown or not well formed is no preference (RFC 7240, section 2)."""
    found: dict[str, str] = {}
    for header in request.headers.getall("Prefer", ()):
        for part in header.split(","):
            name, _, value = part.partition(";")[0].partition("=")
            # The first one of a name counts.
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = found.get("wait", "")
    return Preferences("respond-async" in found, min(int(wait), MAX_WAIT) if _WAIT.fullmatch(wait) else 0)


def scheduled_ms(request: web.Request) -> int | None:
    """The time of `Perdure-Schedule-At` in wall-clock milliseconds, or None without it. Raises `BadRequest`."""
    text = request.headers.get(SCHEDULE_AT)
    if text is None:
        return None
    try:
        if _RFC3339.fullmatch(text) is None:
            raise ValueError(text)
        moment = datetime.datetime.fromisoformat(text.upper())
        if moment > _LAST:
            raise ValueError(text)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{SCHEDULE_AT} must be a time with its offset (RFC 3339), such as 2030-01-31T09:00:00Z or "
            "2030-01-31T10:00:00+01:00"
        ) from None
