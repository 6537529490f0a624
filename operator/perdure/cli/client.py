"""The command's side of the host's HTTP API: small, synchronous, with bounded retries."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

DEFAULT_URL = "http://127.0.0.1:8080"
_RETRIED = (429, 502, 503, 504)


class ApiError(Exception):
    """The host refused, or was not reached. `code` is the problem document's, `status` 0 when not reached."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Client:
    """`retries` repeats only what is safe: reads, and calls that carry an idempotency key."""

    url: str
    timeout: float = 35.0
    retries: int = 5

    def request(self, method: str, path: str, body: bytes | None = None, *, key: str | None = None) -> bytes:
        """The reply's body. Raises `ApiError`."""
        delay = 0.2
        for attempt in range(self.retries + 1):
            try:
                return self._once(method, path, body, key)
            except ApiError as error:
                safe = key is not None or method == "GET"
                if not safe or attempt == self.retries or error.status not in (0, *_RETRIED):
                    raise
            time.sleep(delay)
            delay = min(delay * 2, 3.0)
        raise AssertionError("the loop above returns or raises")

    def get(self, path: str) -> dict[str, object]:
        """A JSON document. Raises `ApiError`."""
        document = json.loads(self.request("GET", path))
        if not isinstance(document, dict):
            raise ApiError(0, "bad-reply", f"{self.url}{path} did not answer with a JSON object")
        return document

    def _once(self, method: str, path: str, body: bytes | None, key: str | None) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
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


def quote(segment: str) -> str:
    """One path segment, whatever characters it has."""
    return urllib.parse.quote(segment, safe="")


def _refusal(error: urllib.error.HTTPError) -> ApiError:
    text = error.read(65536)
    try:
        document = json.loads(text)
        detail = str(document["detail"])
        if document.get("frames"):
            detail += "\n  in " + "\n  in ".join(str(frame) for frame in document["frames"])
        return ApiError(error.code, str(document["code"]), detail)
    except (ValueError, KeyError, TypeError):
        return ApiError(error.code, "http-error", f"the host answered {error.code}")
