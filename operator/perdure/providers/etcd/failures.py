"""What etcd's errors mean: each is temporary (`ProviderUnavailable`, with the next step), or a defect.

An error of the server has a gRPC code; where there was no answer the outcome is unknown.
"""

from __future__ import annotations

import ssl

import aiohttp

from perdure.errors import InternalError, PerdureError, ProviderUnavailable

_WORDS = (
    ("database space exceeded", "its database is full (--quota-backend-bytes): compact and defragment it"),
    ("request is too large", "it takes smaller requests than maxRequestBytes says: see its --max-request-bytes"),
    ("too many operations", "it takes fewer operations than maxTxnOps says: see its --max-txn-ops"),
    ("no leader", "the cluster has no leader"),
    ("leader changed", "the cluster changes its leader"),
    ("request timed out", "the cluster did not agree in time"),
    ("too many requests", "it is overloaded"),
    ("corrupt", "its data is corrupt: see its log"),
)
_CREDENTIALS = ("authentication failed", "user name ", "permission denied", "invalid auth token", "not enabled")
_ELSEWHERE = {4, 14}
"""deadline exceeded, unavailable."""
_TEMPORARY = {*_ELSEWHERE, 1, 8, 10}


class Refusal(Exception):
    """The server's error: `code` is gRPC's, `text` the server's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def logged_out(self) -> bool:
        """The token was not accepted (any more)."""
        return "invalid auth token" in self.text or "old revision" in self.text

    @property
    def elsewhere(self) -> bool:
        """Another member may answer."""
        return self.code in _ELSEWHERE

    @property
    def no_lease(self) -> bool:
        return "requested lease not found" in self.text


def translate(error: Exception, where: str) -> PerdureError:
    """`where` holds no credentials."""
    if isinstance(error, PerdureError):
        return error
    if isinstance(error, Refusal):
        return _of_server(error, where)
    tls = error if isinstance(error, ssl.SSLError) else getattr(error, "os_error", None)
    if isinstance(tls, ssl.SSLError) or isinstance(error, aiohttp.ClientSSLError):
        reason = getattr(tls, "reason", None) or type(tls or error).__name__
        return ProviderUnavailable(f"etcd at {where}: TLS failed ({reason})", retry_after=5, cause="tls")
    if isinstance(error, (OSError, TimeoutError, aiohttp.ClientError)):
        return ProviderUnavailable(f"etcd at {where} does not answer ({type(error).__name__})", cause="no-answer")
    return InternalError(f"etcd at {where}: {type(error).__name__}: {str(error)[:200]}")


def _of_server(error: Refusal, where: str) -> PerdureError:
    if any(word in error.text for word in _CREDENTIALS):
        return ProviderUnavailable(
            f"etcd at {where} refused the credentials, or the user may not do this (code {error.code}): "
            "see credentialsSecretRef",
            retry_after=5,
            cause="credentials",
        )
    words = next((words for text, words in _WORDS if text in error.text), None)
    if words is not None:
        return ProviderUnavailable(f"etcd at {where}: {words} (code {error.code})", retry_after=2)
    if error.code in _TEMPORARY:
        return ProviderUnavailable(f"etcd at {where} cannot serve now (code {error.code})", retry_after=2)
    return InternalError(f"etcd at {where} answered unexpectedly (code {error.code}): {error.text[:200]}")
