"""What NATS' errors mean: each is temporary (`ProviderUnavailable`, with the next step), or a defect."""

from __future__ import annotations

import ssl

import nats.errors

from perdure.errors import InternalError, PerdureError, ProviderUnavailable

NOT_FOUND = 10037
NO_STREAM = 10059
WRONG_LAST = {10071, 10164}
"""Somebody else has written the subject since, or is about to."""
AGAIN = {10176, 10210}
"""The batch was not taken: parts are missing, or too many are under way."""
_WORDS = {
    10023: "it lacks resources (storage, or the account's limits)",
    10047: "it lacks storage, or the account's limits are reached",
    10028: "it lacks memory",
    10077: "the stream is full (max_bytes)",
    10054: "it takes smaller messages than maxPayload says: see its max_payload, and the stream's max_msg_size",
    10199: "it takes smaller batches than maxBatch says: see its jetstream.limits.batch",
    10174: "atomic batches are off for the stream: let Perdure make it, or set allow_atomic",
    10166: "times to live are off for the stream: let Perdure make it, or set allow_msg_ttl",
    10008: "JetStream is not ready",
    10009: "JetStream has no leader for the stream",
    10039: "JetStream is not enabled for the account",
    10076: "JetStream is not enabled",
    10074: "the servers are too few for the stream's replicas",
    10005: "no server fits the stream's replicas",
}


class Refusal(Exception):
    """JetStream's error: `code` is its `err_code`, `status` its HTTP-like code."""

    def __init__(self, code: int, status: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text


def translate(error: Exception, where: str) -> PerdureError:
    """`where` holds no credentials."""
    if isinstance(error, PerdureError):
        return error
    if isinstance(error, Refusal):
        words = _WORDS.get(error.code)
        if words is None and error.status == 503:
            words = "JetStream cannot serve now"
        if words is not None:
            return ProviderUnavailable(f"NATS at {where}: {words} ({error.code})", retry_after=2)
        return InternalError(f"NATS at {where} answered unexpectedly ({error.code}): {error.text[:200]}")
    text = str(error).lower()
    if isinstance(error, nats.errors.AuthorizationError) or "authorization violation" in text:
        return ProviderUnavailable(
            f"NATS at {where} refused the credentials: see credentialsSecretRef", retry_after=5, cause="credentials"
        )
    if isinstance(error, nats.errors.MaxPayloadError):
        return ProviderUnavailable(f"NATS at {where}: {_WORDS[10054]}")
    if isinstance(error, nats.errors.NoRespondersError):
        return ProviderUnavailable(
            f"NATS at {where}: JetStream does not answer: is it enabled, and may the user use it?", cause="unsuitable"
        )
    if isinstance(error, ssl.SSLError) or "ssl" in text or "tls" in text:
        reason = getattr(error, "reason", None) or type(error).__name__
        return ProviderUnavailable(f"NATS at {where}: TLS failed ({reason})", retry_after=5, cause="tls")
    if isinstance(error, (OSError, TimeoutError, nats.errors.Error)):
        return ProviderUnavailable(f"NATS at {where} does not answer ({type(error).__name__})", cause="no-answer")
    return InternalError(f"NATS at {where}: {type(error).__name__}: {str(error)[:200]}")
