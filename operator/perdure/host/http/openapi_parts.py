"""Parts of the OpenAPI document that do not depend on the component: schemas, parameters, problems. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from perdure import errors
from perdure.component.wit_json import Json
from perdure.component.wit_schema import Schema
from perdure.host.http.preferences import MAX_WAIT, SCHEDULE_AT
from perdure.host.http.problems import CONTENT_TYPE
from perdure.host.http.requests import MAX_KEY, MAX_NAME


def problem_responses(found: Sequence[type[errors.PerdureError]]) -> dict[int, Json]:
    """By HTTP status, with the codes that come under it and what each means."""
    by_status: dict[int, list[type[errors.PerdureError]]] = {}
    for error in found:
        by_status.setdefault(error.http_status, []).append(error)
    return {status: _problem(below) for status, below in sorted(by_status.items())}


def _problem(found: list[type[errors.PerdureError]]) -> Json:
    meanings = [f"`{error.code}`: {(error.__doc__ or '').strip().splitlines()[0]}" for error in found]
    retries: dict[str, Json] = {
        "Retry-After": {"description": "seconds to wait before the same request", "schema": {"type": "integer"}}
    }
    waits: Schema = {"headers": dict(retries)} if any(error.retryable for error in found) else {}
    schema: Json = {"$ref": "#/components/schemas/Problem"}
    return {"description": "\n\n".join(meanings), **waits, "content": {CONTENT_TYPE: {"schema": schema}}}


def answer(description: str, schema: Json) -> Json:
    """A response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def listed(schema: Json, description: str = "") -> Json:
    words: Schema = {"description": description} if description else {}
    return {"type": "array", "items": schema, **words}


BINARY: dict[str, Json] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
"""Bytes as they are."""


def text(description: str) -> Json:
    return {"type": "string", "description": description}


def count(description: str) -> Json:
    return {"type": "integer", "minimum": 0, "description": description}


def moment(description: str) -> Json:
    return {"type": "string", "format": "date-time", "description": description}


def query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def whole(least: int, most: int, default: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


CBOR: dict[str, Json] = {"application/cbor": {"schema": reference("Cbor")}}
"""Beside application/json."""

PARAMETERS: dict[str, Json] = {
    "instance": {
        "name": "instance",
        "in": "path",
        "required": True,
        "description": "the instance's name; its first call creates it",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    },
    "key": {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "the idempotency key of the call",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    },
    "bucket": {
        "name": "bucket",
        "in": "path",
        "required": True,
        "description": "its name, as guests open it",
        "schema": {"type": "string", "minLength": 1},
    },
    "bucketKey": {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "a key of the bucket",
        "schema": {"type": "string"},
    },
    "promise": {
        "name": "promise",
        "in": "path",
        "required": True,
        "description": "what `perdure:durable/promises.create` gave to a guest",
        "schema": {"type": "string", "minLength": 1},
    },
    "idempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "a call under the same key is carried out once, however often it is sent",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    },
    "prefer": {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": "`respond-async`: answer as soon as the call is accepted; it runs even if every host dies",
        "schema": {"type": "string"},
    },
    "scheduleAt": {
        "name": SCHEDULE_AT,
        "in": "header",
        "required": False,
        "description": "accept the call as with `respond-async`, and run it at this time (RFC 3339, with an offset)",
        "schema": {"type": "string"},
    },
    "wait": {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": f"`wait=N`: answer when the call has ended, or after N seconds (at most {MAX_WAIT})",
        "schema": {"type": "string"},
    },
    "function": {
        "name": "function",
        "in": "query",
        "required": False,
        "description": "what the call was of: its result in CBOR needs that",
        "schema": {"type": "string"},
    },
}

PROBLEM: dict[str, Json] = {
    "title": "Problem",
    "description": "RFC 9457. Match on `code`, which is stable; `detail` is for people.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "retryable": {"type": "boolean"},
        "parameter": text("type-mismatch: the path of the value, e.g. `items[3].name`"),
        "trap": text("guest-trapped: a stable kind"),
        "frames": listed({"type": "string"}, "guest-trapped: innermost first"),
        "stderr": text("guest-trapped: the end of what the guest printed"),
        "parts": count("guest-trapped: parts of the call that earlier gates made durable; they stay"),
        "cause": text("call-failed: the code of the error that the asynchronous call ended with"),
    },
    "required": ["type", "title", "status", "code", "detail", "retryable"],
}

_FAILURE: Json = {
    "type": "object",
    "description": "why the call, or its last attempt, failed",
    "properties": {"code": {"type": "string"}, "detail": {"type": "string"}, "time": moment("of the attempt")},
    "required": ["code", "detail"],
}
_EVENTS: Json = {
    "type": "object",
    "description": "recorded host calls: how many, and the first ones by name and size of their results",
    "properties": {
        "count": {"type": "integer"},
        "first": listed({"type": "object", "properties": {"call": {"type": "string"}, "bytes": {"type": "integer"}}}),
    },
}

SCHEMAS: dict[str, Json] = {
    "Cbor": {
        "title": "Cbor",
        "description": "The same in CBOR (RFC 8949): list<u8> as byte strings, floats as floats, else as in JSON.",
    },
    "Invocation": {
        "title": "Invocation",
        "description": "An asynchronous call. Of one that has ended only key, state and result or failure are kept.",
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "state": {"enum": ["pending", "running", "succeeded", "failed"]},
            "function": text("its full path"),
            "attempts": count("how often it was begun"),
            "due": moment("when it, or its next attempt, may begin"),
            "accepted": moment("when it was accepted"),
            "blocked": text("why it will not run now: its instance is quarantined or interrupted"),
            "failure": _FAILURE,
            "result": {"description": "what the function gave, of a call that succeeded"},
        },
        "required": ["key", "state"],
    },
    "Promise": {
        "title": "Promise",
        "description": "Something that a guest waits for until somebody completes it.",
        "type": "object",
        "properties": {
            "promise": text("its id"),
            "instance": text("whose guest made it"),
            "state": {"enum": ["pending", "completed", "failed"]},
            "bytes": count("of what it was completed with"),
            "failure": text("why it failed"),
        },
        "required": ["promise", "instance", "state"],
    },
    "Instance": {
        "title": "Instance",
        "description": "What is stored of an instance, and who had it last.",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "state": {"enum": ["Active", "Quarantined", "Interrupted"]},
            "reason": text("why it is not active"),
            "since": moment("since when it is not active"),
            "key": text("the asynchronous call that quarantined it"),
            "sequence": count("commits so far"),
            "component": {"type": ["string", "null"], "description": "the digest it runs on"},
            "host": {"type": ["string", "null"], "description": "who claimed it last"},
            "epoch": count("claims so far"),
            "inMemory": {"type": "boolean", "description": "whether the host that answers holds it"},
            "pending": count("asynchronous calls that wait"),
            "journal": {
                "type": "object",
                "properties": {"entries": count("after the snapshot"), "bytes": count("of them")},
            },
            "snapshot": {
                "type": ["object", "null"],
                "properties": {
                    "sequence": count("the commit it follows"),
                    "parts": count("one whole snapshot and the differences after it"),
                    "bytes": count("of all parts"),
                },
            },
        },
        "required": ["name", "state", "sequence", "epoch", "inMemory", "pending", "journal", "snapshot"],
    },
    "JournalEntry": {
        "title": "JournalEntry",
        "description": "One commit. An entry that cannot be read has a `problem` instead of its contents.",
        "type": "object",
        "properties": {
            "sequence": {"type": "integer"},
            "bytes": count("stored, without large payloads"),
            "payloadBytes": count("of large payloads it refers to"),
            "kind": {"enum": ["call", "part", "abandoned", "fresh", "migrated"]},
            "time": moment("when it was committed, by the host's clock"),
            "component": {"type": "string"},
            "function": {"type": "string"},
            "key": {"type": ["string", "null"]},
            "part": count("entries of the same call before this one"),
            "arguments": {"description": "as text, or size and digest where they are large"},
            "result": {"description": "as text, or size and digest; of a call with a key whose result is still kept"},
            "failure": _FAILURE,
            "events": _EVENTS,
            "start": _EVENTS,
            "gate": {
                "type": "object",
                "description": "the call at which this part was committed, and whose outcome it holds",
                "properties": {"call": {"type": "string"}, "provider": {"type": "string"}},
            },
            "outcomes": listed({"type": "string"}, "of atomic effects"),
            "foreign": listed({"type": "object"}, "effects on buckets of other providers"),
            "reason": {"type": "string"},
            "stateBytes": count("of the state that a former component handed over"),
            "guestMicroseconds": count("how long the guest ran"),
            "problem": text("why the entry, or a part of it, cannot be read"),
        },
        "required": ["sequence", "bytes"],
    },
    "Checked": {
        "title": "Checked",
        "description": "What is wrong with what is stored of an instance; the first finding is the first bad entry.",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "sequence": {"type": "integer"},
            "sound": {"type": "boolean"},
            "findings": listed(
                {
                    "type": "object",
                    "properties": {
                        "sequence": {"type": ["integer", "null"], "description": "of the entry it concerns"},
                        "code": text("a stable kind"),
                        "detail": {"type": "string"},
                    },
                    "required": ["sequence", "code", "detail"],
                }
            ),
        },
        "required": ["name", "sequence", "sound", "findings"],
    },
    "Update": {
        "title": "Update",
        "description": "What would become of existing instances under an update policy.",
        "type": "object",
        "properties": {
            "policy": {"enum": ["Restart", "Pin", "Migrate"]},
            "component": text("the digest that would run"),
            "components": listed(
                {
                    "type": "object",
                    "properties": {
                        "component": {"type": ["string", "null"], "description": "what they run on now"},
                        "instances": count("how many"),
                        "kept": {"type": "boolean", "description": "whether it can still be loaded"},
                        "action": {"enum": ["none", "restart", "stay", "migrate", "quarantine"]},
                        "description": {"type": "string"},
                    },
                }
            ),
        },
        "required": ["policy", "component", "components"],
    },
}

ACCEPTED: dict[str, Json] = {
    "description": "accepted: it will be carried out",
    "headers": {
        "Location": {"description": "where the call is looked at", "schema": {"type": "string"}},
        "Preference-Applied": {
            "description": "`respond-async`, where that was asked for",
            "schema": {"type": "string", "const": "respond-async"},
        },
        "Idempotency-Replayed": {
            "description": "`true`: the same call had been accepted, or carried out, before",
            "schema": {"type": "string", "const": "true"},
        },
    },
    "content": {"application/json": {"schema": reference("Invocation")}, **CBOR},
}
