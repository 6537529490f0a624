"""The paths of the OpenAPI document that every Worker has: instances, asynchronous calls, journals, updates. Pure."""

from __future__ import annotations

from perdure import errors
from perdure.component.wit_json import Json
from perdure.durable.control import Verb
from perdure.durable.settings import UpdatePolicy
from perdure.host.http.openapi_parts import BINARY, CBOR, answer, listed, problem_responses, query, reference, whole
from perdure.host.http.preferences import MAX_WAIT

Error = type[errors.PerdureError]
_STORE: tuple[Error, ...] = (errors.BadRequest, errors.InternalError, errors.ProviderUnavailable)
_RUNS: tuple[Error, ...] = (
    *_STORE,
    errors.NoSuchInstance,
    errors.Overloaded,
    errors.Quarantined,
    errors.Fenced,
    errors.LostWrites,
    errors.FeedFull,
    errors.InvocationTimeout,
)
_VERBS: dict[Verb, tuple[str, str, tuple[Error, ...]]] = {
    Verb.INTERRUPT: ("stop it, and take no more calls until it is resumed", "it stays interrupted", ()),
    Verb.RESUME: ("let an interrupted or quarantined instance run again", "calls that wait are tried again", ()),
    Verb.SKIP: ("give up the call that quarantined it", "the call's result is a failure; its key is used", ()),
    Verb.RESET: ("give it fresh memory", "buckets, results and calls that wait stay", ()),
    Verb.SNAPSHOT: (
        "take a snapshot now, and trim the journal",
        "the next recovery begins there",
        (errors.SnapshotRefused, errors.Interrupted),
    ),
}


def worker_paths() -> dict[str, Json]:
    """By path."""
    one = "/v1/instances/{instance}"
    call = f"{one}/invocations/{{key}}"
    return {
        "/v1/component": _path(get=_operation("component", "what runs here, and what it needs", {"type": "object"})),
        "/v1/instances": _path(get=_instances()),
        one: _path(
            "instance",
            get=_operation("showInstance", "an instance", reference("Instance"), errors.NoSuchInstance),
            delete=_delete_instance(),
        ),
        f"{one}/invocations": _path("instance", get=_invocations()),
        call: _path(
            "instance",
            "key",
            get=_invocation(),
            delete=_cancel(),
        ),
        f"{one}/journal": _path("instance", get=_journal()),
        f"{one}/check": _path(
            "instance",
            get=_operation("checkInstance", "what is wrong with it", reference("Checked"), errors.NoSuchInstance),
        ),
        "/v1/promises/{promise}": _path("promise", get=_promise(), post=_completion("completePromise")),
        "/v1/promises/{promise}/failure": _path("promise", post=_completion("failPromise")),
        "/v1/buckets/{bucket}/keys": _path("bucket", get=_keys()),
        "/v1/buckets/{bucket}/keys/{key}": _path(
            "bucket", "bucketKey", get=_value(), put=_set_value(), delete=_delete_key()
        ),
        "/v1/check": _path(get=_check()),
        "/v1/update": _path(get=_update()),
        **{f"{one}/{verb.value}": _path("instance", post=_control(verb)) for verb in Verb},
    }


def _path(*parameters: str, **methods: Json) -> Json:
    found: list[Json] = [{"$ref": f"#/components/parameters/{name}"} for name in parameters]
    return {"parameters": found, **methods} if found else dict(methods)


def _operation(name: str, summary: str, schema: Json, *more: Error, description: str = "") -> dict[str, Json]:
    return {
        "operationId": name,
        "tags": ["worker"],
        "summary": summary,
        "responses": {"200": answer(description or summary, schema), **_problems((*_STORE, *more))},
    }


def _problems(found: tuple[Error, ...]) -> dict[str, Json]:
    return {str(status): response for status, response in problem_responses(found).items()}


def _page(schema: dict[str, Json]) -> Json:
    cursor: Json = {"type": ["string", "null"], "description": "of the next page; null: this is the last one"}
    return {"type": "object", "properties": {**schema, "cursor": cursor}, "required": [*schema, "cursor"]}


_CURSOR = query("cursor", "where the former page ended", {"type": "string"})
_LIMIT = query("limit", "how many", whole(1, 1000, 100))


def _instances() -> Json:
    names = _page({"instances": listed({"type": "string"}, "names, in byte order")})
    return {**_operation("listInstances", "instances", names), "parameters": [_CURSOR, _LIMIT]}


def _delete_instance() -> Json:
    summary = "delete it: memory, journal, results, calls that wait, private buckets"
    return {
        "operationId": "deleteInstance",
        "tags": ["worker"],
        "summary": summary,
        "responses": {
            "204": {"description": "it is gone"},
            "202": {"description": "it is gone, and what it has at a provider that is away now is deleted later"},
            **_problems((*_STORE, errors.NoSuchInstance)),
        },
    }


def _invocations() -> Json:
    schema: Json = {"type": "object", "properties": {"invocations": listed(reference("Invocation"))}}
    summary = "asynchronous calls that wait, in the order in which they will be taken"
    return {**_operation("listInvocations", summary, schema), "parameters": [_LIMIT]}


def _invocation() -> Json:
    summary = "a call"
    more = (errors.NoSuchInvocation, errors.NoSuchFunction, errors.NotAcceptable, errors.Overloaded)
    content: Json = {"application/json": {"schema": reference("Invocation")}, **CBOR}
    return {
        "operationId": "showInvocation",
        "tags": ["worker"],
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("wait", "function")],
        "responses": {"200": {"description": summary, "content": content}, **_problems((*_STORE, *more))},
    }


def _cancel() -> Json:
    schema: Json = {
        "type": "object",
        "properties": {"key": {"type": "string"}, "state": {"const": "cancelled"}},
        "required": ["key", "state"],
    }
    summary = "take back a call of which nothing is durable yet"
    return _operation("cancelInvocation", summary, schema, errors.NoSuchInvocation, errors.NotCancellable)


def _journal() -> Json:
    schema: Json = {
        "type": "object",
        "properties": {
            "entries": listed(reference("JournalEntry")),
            "trimmed": {"type": "integer", "description": "entries up to this one are in the snapshot"},
            "sequence": {"type": "integer", "description": "of the last commit"},
            "next": {"type": "integer", "description": "`after` of the next page"},
        },
        "required": ["entries", "trimmed", "sequence", "next"],
    }
    found = _operation("readJournal", "its journal", schema, errors.NoSuchInstance, errors.Overloaded)
    after = query("after", "entries after this one", whole(0, 2**53, 0))
    wait = query("wait", "seconds to wait for an entry where there is none yet", whole(0, MAX_WAIT, 0))
    return {**found, "parameters": [after, _LIMIT, wait]}


def _promise() -> Json:
    return _operation("showPromise", "a promise of a guest", reference("Promise"), errors.NoSuchPromise)


def _completion(name: str) -> Json:
    """With what, is the body as it comes: bytes, or the text of a failure."""
    more = (
        errors.NoSuchPromise,
        errors.PromiseCompleted,
        errors.TooLarge,
        errors.UnsupportedMediaType,
        errors.Overloaded,
    )
    fails = name == "failPromise"
    summary = "let a promise fail; the body says why" if fails else "complete a promise with the body's bytes"
    plain: dict[str, Json] = {"text/plain": {"schema": {"type": "string"}}} if fails else {}
    body: Json = {"content": {**plain, **BINARY}}
    return {**_operation(name, summary, reference("Promise"), *more), "requestBody": body}


_ETAG: dict[str, Json] = {"ETag": {"description": "names the value", "schema": {"type": "string"}}}
_OWNER = query("instance", "whose bucket, of one that is private to instances", {"type": "string"})


def _keys() -> Json:
    page = _page({"keys": listed({"type": "string"}, "in byte order")})
    prefix = query("prefix", "only keys that begin so", {"type": "string"})
    found = _operation("listKeys", "keys of a bucket", page, errors.NoSuchBucket)
    return {**found, "parameters": [_OWNER, prefix, _CURSOR, _LIMIT]}


def _value() -> Json:
    return {
        "operationId": "readValue",
        "tags": ["worker"],
        "summary": "a value of a bucket, as its bytes",
        "parameters": [
            _OWNER,
            _condition("If-None-Match", "`*`, or ETags that are known already"),
            _condition("If-Match", "`*`, or ETags: only if it is one of those"),
        ],
        "responses": {
            "200": {"description": "the value", "headers": _ETAG, "content": BINARY},
            "304": {"description": "it is the one that `If-None-Match` names"},
            **_problems((*_STORE, errors.NoSuchBucket, errors.NoSuchKey, errors.PreconditionFailed)),
        },
    }


def _set_value() -> Json:
    more = (
        errors.NoSuchBucket,
        errors.WriteDenied,
        errors.BucketFull,
        errors.PreconditionFailed,
        errors.TooLarge,
        errors.UnsupportedMediaType,
        errors.Overloaded,
    )
    return {
        "operationId": "setValue",
        "tags": ["worker"],
        "summary": "set a key of a bucket to the body's bytes",
        "parameters": [
            _OWNER,
            _condition("If-None-Match", "`*`: only where the key is missing"),
            _condition("If-Match", "`*`, or ETags: only where the key holds that"),
        ],
        "requestBody": {"content": BINARY},
        "responses": {
            "201": {"description": "it was missing, as asked, and is there", "headers": _ETAG},
            "204": {"description": "it is there", "headers": _ETAG},
            **_problems((*_STORE, *more)),
        },
    }


def _delete_key() -> Json:
    return {
        "operationId": "deleteKey",
        "tags": ["worker"],
        "summary": "delete a key of a bucket; a missing one is fine",
        "parameters": [_OWNER],
        "responses": {
            "204": {"description": "it is gone"},
            **_problems((*_STORE, errors.NoSuchBucket, errors.WriteDenied, errors.TooLarge)),
        },
    }


def _condition(header: str, description: str) -> Json:
    return {
        "name": header,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


def _check() -> Json:
    schema = _page(
        {
            "checked": {"type": "integer", "description": "how many were looked at"},
            "unsound": listed(reference("Checked"), "those with findings"),
        }
    )
    return {**_operation("check", "what is wrong with instances", schema), "parameters": [_CURSOR, _LIMIT]}


def _update() -> Json:
    found = _operation("previewUpdate", "what an update would do; nothing is changed", reference("Update"))
    policies: list[Json] = [policy.value for policy in UpdatePolicy]
    return {
        **found,
        "parameters": [
            query("component", "the digest that would run (default: the present one)", {"type": "string"}),
            query("policy", "the update policy (default: the Worker's)", {"enum": policies}),
        ],
    }


def _control(verb: Verb) -> Json:
    summary, after, more = _VERBS[verb]
    return {
        "operationId": f"{verb.value}Instance",
        "tags": ["worker"],
        "summary": summary,
        "responses": {
            "200": answer(f"the instance afterwards: {after}", reference("Instance")),
            **_problems((*_RUNS, *more)),
        },
    }
