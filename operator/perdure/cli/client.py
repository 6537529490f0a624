"""The command's side of the host's HTTP API: small, synchronous, with bounded retries."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_URL = "http://127.0.0.1:8080"
_RETRIED = (429, 502, 503, 504)
_LONGEST_WAIT = 10.0


class ApiError(Exception):
    """The host refused, or was not reached. `code` is the problem document's, `status` 0 when not reached.

    `retryable`: the same request may succeed later. `retry_after`: seconds that the host asks to wait.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, retryable: bool | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retryable = status in (0, *_RETRIED) if retryable is None else retryable
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Client:
    """`retries` repeats only what is safe: reads, and calls that carry an idempotency key."""

    url: str
    timeout: float = 35.0
    retries: int = 5

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> bytes:
        """The reply's body. `again`: it may be repeated though it has no key. Raises `ApiError`."""
        named = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            named["Idempotency-Key"] = key
        sent = {name: _header(name, value) for name, value in named.items()}
        safe = again or key is not None or method == "GET"
        delay = 0.2
        for attempt in range(self.retries + 1):
            try:
                return self._once(method, path, body, sent)
            except ApiError as error:
                if not safe or attempt == self.retries or not error.retryable:
                    raise
                wait = max(delay, min(error.retry_after, _LONGEST_WAIT))
            time.sleep(wait)
            delay = min(delay * 2, 3.0)
        raise AssertionError("the loop above returns or raises")

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> dict[str, object]:
        """A JSON document. Raises `ApiError`."""
        return self.document("GET", path, headers=headers)

    def document(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> dict[str, object]:
        """As `request`, for what is answered with a JSON object."""
        document = json.loads(self.request(method, path, body, key=key, headers=headers, again=again))
        if not isinstance(document, dict):
            raise ApiError(0, "bad-reply", f"{self.url}{path} did not answer with a JSON object")
        return document

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:  # noqa: S310
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(
                0,
                "unreachable",
                f"no host answers at {self.url} ({reason}); start one with `perdure run`, or give --url",
            ) from None


def client(url: str | None) -> Client:
    """A client for `url`, `$PERDURE_URL` or the local default. Raises `ApiError` for what is no HTTP URL."""
    chosen = (url or os.environ.get("PERDURE_URL") or DEFAULT_URL).rstrip("/")
    if urllib.parse.urlsplit(chosen).scheme not in ("http", "https"):
        raise ApiError(0, "bad-url", f"{chosen!r} is not an http:// or https:// URL")
    return Client(chosen)


def add_url(parser: argparse.ArgumentParser) -> None:
    """The option that every command has which asks a host."""
    parser.add_argument("--url", help=f"the Worker's address (default: $PERDURE_URL, then {DEFAULT_URL})")


def add_output(parser: argparse.ArgumentParser) -> None:
    """For people or for scripts."""
    parser.add_argument("--output", choices=("text", "json"), default="text", help="json: for scripts")


def misused(words: str) -> int:
    """Say what is wrong with the command line; the exit code."""
    print(f"perdure {words}", file=sys.stderr)
    return 2


def show(document: Mapping[str, object]) -> None:
    """A document for people: a field a line."""
    for name, value in document.items():
        print(f"{name:>10}  {value if isinstance(value, str) else json.dumps(value)}")


def quote(segment: str) -> str:
    """One path segment, whatever characters it has. Raises `ApiError` for what is no text."""
    try:
        return urllib.parse.quote(segment, safe="")
    except UnicodeEncodeError:
        raise ApiError(400, "bad-request", f"{segment!r} is not UTF-8") from None


def _header(name: str, value: str) -> str:
    """As UTF-8, where the library says Latin-1. Raises `ApiError`."""
    if not value.isprintable():
        raise ApiError(400, "bad-request", f"{name} must have printable characters only, not {value!r}")
    return value.encode().decode("latin-1")


def _refusal(error: urllib.error.HTTPError) -> ApiError:
    text = error.read(65536)
    try:
        document = json.loads(text)
        detail = str(document["detail"])
        if document.get("frames"):
            detail += "\n  in " + "\n  in ".join(str(frame) for frame in document["frames"])
        retryable = document.get("retryable")
        return ApiError(
            error.code,
            str(document["code"]),
            detail,
            retryable=retryable if isinstance(retryable, bool) else None,
            retry_after=_seconds(error.headers.get("Retry-After")),
        )
    except (ValueError, KeyError, TypeError):
        return ApiError(error.code, "http-error", f"the host answered {error.code}")


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() else 0.0
