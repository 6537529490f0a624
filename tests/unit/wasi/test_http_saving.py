"""What snapshots keep of wasi:http: what is spent, and nothing that still has bytes to give."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest

from perdure.component.types import Err, Ok, ResourceType, Variant
from perdure.durable.observer import Hooks
from perdure.durable.recorder import JournalRecorder
from perdure.errors import SnapshotError
from perdure.wasi import streams
from perdure.wasi.http import bodies, exchanges, fields, incoming, outgoing
from perdure.wasi.http.bodies import FutureTrailers, IncomingBody
from perdure.wasi.http.exchanges import Exchange, Exchanges
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.incoming import IncomingRequest, IncomingResponse
from perdure.wasi.http.outgoing import OutgoingRequest, OutgoingResponse, RequestOptions
from perdure.wasi.polling import Pollable
from perdure.wasi.saving import WasiResources
from perdure.wasi.state import WasiState

RESOURCE = ResourceType("wasi:http/types@0.2.0", "fields")


@dataclass(frozen=True)
class Context:
    wasi: WasiState
    http: Exchanges


@pytest.fixture
def ctx() -> Context:
    recorder = JournalRecorder(Hooks())
    recorder.live()
    return Context(WasiState(recorder, time.time_ns, time.monotonic_ns, os.urandom), Exchanges(None))


def again(ctx: Context, resource: object) -> object:
    codec = WasiResources()
    saved = codec.encode(RESOURCE, resource)
    assert saved is not None, resource
    found = codec.decode(ctx, RESOURCE, saved)
    assert codec.encode(RESOURCE, found) == saved
    return found


def read_whole(ctx: Context, body: IncomingBody) -> None:
    stream = bodies.stream(ctx, body).value
    assert isinstance(stream, bodies.BodyStream)
    while isinstance(streams.read(ctx, stream, 3), Ok):
        pass


def test_fields_and_options(ctx: Context) -> None:
    found = again(ctx, Fields([("a", b"1"), ("A", b"\xff")], immutable=True))
    assert isinstance(found, Fields)
    assert fields.entries_of(ctx, found) == [("a", b"1"), ("A", b"\xff")]
    assert fields.append(ctx, found, "b", b"2") == Err(Variant("immutable"))
    options = RequestOptions()
    options.first_byte = 7
    found = again(ctx, options)
    assert isinstance(found, RequestOptions)
    assert outgoing.first_byte_timeout(ctx, found) == 7 and outgoing.connect_timeout(ctx, found) is None
    trailers = FutureTrailers()
    bodies.get_trailers(ctx, trailers)
    found = again(ctx, trailers)
    assert isinstance(found, FutureTrailers) and bodies.get_trailers(ctx, found) == Err()


def test_what_is_spent(ctx: Context) -> None:
    held = ctx.http.held
    body = IncomingBody(b"abcdef", held)
    held.take(6)
    response = IncomingResponse(418, Fields([("a", b"1")]), body)
    assert WasiResources().encode(RESOURCE, response) is None
    assert incoming.consume(ctx, response) == Ok(body)
    assert WasiResources().encode(RESOURCE, body) is None
    read_whole(ctx, body)
    assert held.bytes == 0
    found = again(ctx, response)
    assert isinstance(found, IncomingResponse)
    assert incoming.status(ctx, found) == 418 and incoming.consume(ctx, found) == Err()
    assert fields.get(ctx, incoming.headers_of(ctx, found), "A") == [b"1"]
    found = again(ctx, body)
    assert isinstance(found, IncomingBody) and bodies.stream(ctx, found) == Err()
    bodies.drop_incoming(ctx, found)
    found = again(ctx, body.stream)
    assert isinstance(found, bodies.BodyStream) and streams.read(ctx, found, 1) == Err(Variant("closed"))
    streams.drop(ctx, found)
    assert body.stream is not None
    streams.drop(ctx, body.stream)
    bodies.drop_incoming(ctx, body)
    assert held.bytes == 0, "nothing is let go twice"


def test_a_request_whose_body_is_taken(ctx: Context) -> None:
    request = IncomingRequest("PUT", "https", "a.test", "/x?y", Fields([("a", b"1")]), IncomingBody(b"", ctx.http.held))
    assert WasiResources().encode(RESOURCE, request) is None
    incoming.consume(ctx, request)
    found = again(ctx, request)
    assert isinstance(found, IncomingRequest)
    assert incoming.method(ctx, found) == Variant("put") and incoming.path(ctx, found) == "/x?y"
    assert incoming.authority(ctx, found) == "a.test" and incoming.scheme(ctx, found) == Variant("HTTPS")


def test_futures(ctx: Context) -> None:
    waiting = Exchange(ctx.http, 1, OutgoingRequest(Fields()), RequestOptions())
    assert WasiResources().encode(RESOURCE, waiting) is None
    assert WasiResources().encode(RESOURCE, Pollable(source=waiting)) is None
    waiting.settle({"status": 200, "headers": [], "body": b"abc"})
    assert WasiResources().encode(RESOURCE, waiting) is None, "its answer was not fetched"
    assert again(ctx, Pollable(source=waiting)) == Pollable()
    assert isinstance(exchanges.get(ctx, waiting), Ok)
    found = again(ctx, waiting)
    assert isinstance(found, Exchange) and exchanges.get(ctx, found) == Err()
    exchanges.drop(ctx, found)


def test_what_is_under_way(ctx: Context) -> None:
    request, response = OutgoingRequest(Fields()), OutgoingResponse(Fields())
    body = outgoing.body(ctx, request).value
    assert isinstance(body, bodies.OutgoingBody)
    stream = bodies.write(ctx, body).value
    for resource in (request, response, body, stream):
        assert WasiResources().encode(RESOURCE, resource) is None


def test_another_kind(ctx: Context) -> None:
    with pytest.raises(SnapshotError, match="not known here"):
        WasiResources().decode(ctx, RESOURCE, b"http \x92\xa5other\x01")


@pytest.mark.parametrize(
    "saved",
    [
        b"", b"pollable", b"pollable -1", b"pollable x", b"output else", b"error \xff", b"file", b"file \xc1",
        b"file \x93\x01\x02\x03", b"http", b"http \xc1", b"http \x01", b"http \x91\xa6fields",
        b"http \x93\xa6fields\x05\xc3", b"http \x93\xa6fields\x91\x05\xc3", b"http \x91\xa4else",
    ],
)  # fmt: skip
def test_what_was_never_saved_is_a_snapshot_error(ctx: Context, saved: bytes) -> None:
    with pytest.raises(SnapshotError, match="a saved ") as refused:
        WasiResources().decode(ctx, RESOURCE, saved)
    assert refused.value.reason == "host-resource"
