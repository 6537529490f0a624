"""Headers: what a request prefers, and when it wants to be carried out."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from perdure.errors import BadRequest
from perdure.host.http.preferences import Preferences, preferences, scheduled_ms


def prefers(*values: str) -> Preferences:
    headers = CIMultiDict([("Prefer", value) for value in values])
    return preferences(make_mocked_request("GET", "/", headers=headers))


@pytest.mark.parametrize(
    ("values", "respond_async", "wait"),
    [
        ((), False, 0),
        (("respond-async",), True, 0),
        (("Respond-Async , wait=10",), True, 10),
        (('wait="5"', "respond-async; foo=bar"), True, 5),
        (("return=minimal, wait=7",), False, 7),
        (("wait=7, wait=9",), False, 7),
        (("wait=100000",), False, 60),
        (("wait=-1", "wait"), False, 0),
        (("wait=1e9",), False, 0),
        (("wait=٣",), False, 0),
        (("wait=99999999999999999999",), False, 0),
        (("no-respond-async",), False, 0),
        (("=,;,\t",), False, 0),
    ],
)
def test_preferences(values: tuple[str, ...], respond_async: bool, wait: int) -> None:
    assert prefers(*values) == Preferences(respond_async, wait)


def at(text: str) -> int | None:
    return scheduled_ms(make_mocked_request("POST", "/", headers={"Perdure-Schedule-At": text}))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01t01:00:01.5+01:00", 1500),
        ("1970-01-01 00:00:00.123456789-00:30", 1_800_123),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert at(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "", "9999-12-31T23:59:59-14:00", "now", "30s", "in:30s", "1700000000", "2030-01-31", "2030-01-31T09:00:00", "2030-01-31T09:00Z",
        "2030-02-30T09:00:00Z", "2030-01-31T25:00:00Z", "2030-01-31T09:00:60Z", "2030-01-31T09:00:00+25:00",
        "0000-01-01T00:00:00Z", "2030-01-31T09:00:00Z ", "٢٠٣٠-01-31T09:00:00Z", "2030-W01-1T09:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest, match=r"Perdure-Schedule-At must .* 2030-01-31T09:00:00Z"):
        at(text)
    assert scheduled_ms(make_mocked_request("POST", "/")) is None
