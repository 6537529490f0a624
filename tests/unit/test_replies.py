"""What becomes of a peer's answer to a request that has no key of its own."""

from __future__ import annotations

import json

import pytest

from perdure.errors import PerdureError, ProviderUnavailable, Quarantined, Suspended
from perdure.host.http.problems import problem
from perdure.host.http.replies import once
from perdure.host.peers import ForwardedReply


def answered(error: PerdureError) -> ForwardedReply:
    made = problem(error)
    assert isinstance(made.body, bytes)
    return ForwardedReply(made.status, made.body, made.content_type, dict(made.headers))


def test_what_the_store_may_have_taken_is_not_to_be_sent_again() -> None:
    reply = answered(ProviderUnavailable("gone"))
    assert "Retry-After" in reply.headers, "negative control"
    found = once(reply)
    told = json.loads(found.body)
    assert (found.status, told["code"], told["retryable"]) == (503, "provider-unavailable", False)
    assert "Retry-After" not in found.headers and "no key" in told["detail"]


@pytest.mark.parametrize(
    "reply",
    [
        answered(Suspended("it waits", until="p")),
        answered(Quarantined("bad")),
        answered(ProviderUnavailable("gone").in_doubt(key=False)),
        ForwardedReply(202, b"{}", "application/json", {}),
        ForwardedReply(503, b"no JSON", "text/plain", {"Retry-After": "1"}),
        ForwardedReply(503, b"[]", "application/json", {}),
    ],
    ids=lambda reply: reply.body.decode()[:20],
)
def test_anything_else_is_as_it_came(reply: ForwardedReply) -> None:
    assert once(reply) == reply
