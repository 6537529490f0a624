"""`Content-Type` and `Accept`: what a body is, and what its reply should be."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from perdure.errors import NotAcceptable, UnsupportedMediaType
from perdure.host.http.media import Media, Wanted, body_media, wanted_media


def wants(*values: str) -> Wanted:
    headers = CIMultiDict([("Accept", value) for value in values])
    return wanted_media(make_mocked_request("POST", "/", headers=headers))


@pytest.mark.parametrize(
    ("values", "best", "json"),
    [
        ((), Media.JSON, True),
        (("",), Media.JSON, True),
        (("*/*",), Media.JSON, True),
        (("application/*",), Media.JSON, True),
        (("application/cbor",), Media.CBOR, False),
        (("Application/CBOR ; q=0.1",), Media.CBOR, False),
        (("application/cbor, */*",), Media.CBOR, True),
        (("application/cbor, application/json",), Media.JSON, True),
        (("application/cbor", "application/json;q=0.9"), Media.CBOR, True),
        (("application/cbor;q=0.5, application/json;q=0.8",), Media.JSON, True),
        (("application/cbor;q=0.2, */*;q=0.1",), Media.CBOR, True),
        (("application/json;q=0, */*",), Media.CBOR, False),
        (("application/cbor;q=0, */*",), Media.JSON, True),
        (("text/html, application/xhtml+xml, */*;q=0.8",), Media.JSON, True),
        (("application/problem+json, application/json",), Media.JSON, True),
        (("application/cbor;q=2, application/json;q=0.1",), Media.JSON, True),
        (("nonsense, application/cbor;version=1",), Media.CBOR, False),
    ],
)
def test_what_is_accepted(values: tuple[str, ...], best: Media, json: bool) -> None:
    assert wants(*values) == Wanted(best, json)


@pytest.mark.parametrize(
    "value", ["text/html", "application/json;q=0", "*/*;q=0", "application/cbor;q=0.000", ";,=", "*"]
)
def test_what_cannot_be_had_is_said(value: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json nor application/cbor"):
        wants(value)


@pytest.mark.parametrize(
    ("said", "media"),
    [
        (None, Media.JSON),
        ("application/json; charset=utf-8", Media.JSON),
        ("application/vnd.api+json", Media.JSON),
        ("application/x-www-form-urlencoded", Media.JSON),
        ("Application/Cbor", Media.CBOR),
        ("application/cbor; x=y", Media.CBOR),
        ("application/xml", None),
        ("multipart/form-data; boundary=x", None),
        ("application/cbor-seq", None),
    ],
)
def test_what_a_body_is(said: str | None, media: Media | None) -> None:
    request = make_mocked_request("POST", "/", headers={} if said is None else {"Content-Type": said})
    if media is not None:
        assert body_media(request) is media
        return
    with pytest.raises(UnsupportedMediaType, match="send application/json or application/cbor"):
        body_media(request)
