"""Answers: JSON documents, what a peer answered, and how calls and instances are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from aiohttp import web

from perdure.durable.calls import decode_halt
from perdure.durable.inspection import timestamp
from perdure.durable.records import InstanceInfo
from perdure.errors import ProviderUnavailable
from perdure.host.inbox import CallStatus, State
from perdure.host.peers import ForwardedReply


def json_reply(
    document: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=json.dumps(document).encode(), status=status, content_type="application/json", headers=headers
    )


def relayed(reply: ForwardedReply) -> web.Response:
    """What a peer answered, as it came."""
    return web.Response(body=reply.body, status=reply.status, content_type=reply.content_type, headers=reply.headers)


def once(reply: ForwardedReply) -> ForwardedReply:
    """The same for a request that must not be sent again where the store may have taken it."""
    if reply.status != 503:
        return reply
    try:
        document = json.loads(reply.body)
        doubtful = document["code"] == ProviderUnavailable.code and document["retryable"]
    except (ValueError, KeyError, TypeError):
        return reply
    if not doubtful:
        return reply
    words = f"{document['detail']}. This request has no key: it would be another if sent again"
    body = json.dumps({**document, "retryable": False, "detail": words}).encode()
    headers = {name: value for name, value in reply.headers.items() if name != "Retry-After"}
    return replace(reply, body=body, headers=headers)


def invocation_path(instance: str, key: str, function: str = "") -> str:
    """Where an asynchronous call is looked at. `function`: for who wants its result in CBOR."""
    path = f"/v1/instances/{quote(instance, safe='')}/invocations/{quote(key, safe='')}"
    return f"{path}?function={quote(function, safe=':/@.')}" if function else path


def call_document(status: CallStatus) -> dict[str, object]:
    """What is not known of a call is left out; `result` is there for every call that succeeded."""
    document: dict[str, object] = {"key": status.key, "state": status.state.value}
    known = {
        "function": status.function,
        "attempts": status.attempts,
        "due": _moment(status.due_ms),
        "accepted": _moment(status.accepted_ms),
        "blocked": status.blocked,
    }
    document |= {name: value for name, value in known.items() if value is not None}
    if status.failure is not None:
        failure = {"code": status.failure[0], "detail": status.failure[1]}
        if status.failed_ms is not None:
            failure["time"] = timestamp(status.failed_ms)
        document["failure"] = failure
    if status.state is State.SUCCEEDED and status.result is not None:
        document["result"] = json.loads(status.result)
    return document


def _moment(ms: int | None) -> str | None:
    return None if ms is None else timestamp(ms)


def instance_document(info: InstanceInfo, *, in_memory: bool) -> dict[str, object]:
    """`state`: Active, or why the instance does not run (with `reason`, `since` and, of a quarantine, `key`)."""
    document: dict[str, object] = {"name": info.name, "state": "Active"}
    if info.halt is not None:
        halt = decode_halt(info.halt)
        document |= {"state": halt.state.value, "reason": halt.reason, "since": timestamp(halt.at_ms)}
        if halt.key is not None:
            document["key"] = halt.key
    snapshot = None
    if info.snapshot_parts:
        snapshot = {
            "sequence": info.snapshot_sequence,
            "parts": info.snapshot_parts,
            "bytes": info.snapshot_bytes,
        }
    return {
        **document,
        "sequence": info.sequence,
        "component": info.component or None,
        "host": info.host or None,
        "epoch": info.token.epoch,
        "inMemory": in_memory,
        "pending": info.pending,
        "journal": {"entries": info.journal_entries, "bytes": info.journal_bytes},
        "snapshot": snapshot,
    }
