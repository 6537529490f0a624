"""Log lines for people: one a record, whatever is in it."""

from __future__ import annotations

import logging

import pytest

from perdure.host.logs import JsonFormatter, TextFormatter


def line(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("perdure.guest", logging.INFO, "f", 1, "%s", (message,), None)
    record.fields = fields
    return record


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r12:00:00 error forged", "\x1b[2J", "\u202edlrow", "\x9b31m", "a\u2028b", "\udcff"]
)
def test_a_terminal_is_not_steered(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        for said in (formatter.format(line(text)), formatter.format(line("said", key=text))):
            assert said.isprintable() and len(said.splitlines()) == 1


def test_what_can_be_seen_stays() -> None:
    assert TextFormatter().format(line("grüße 🔑", key="ключ")).endswith(" info    grüße 🔑  key=ключ")


def test_traces_keep_their_lines() -> None:
    try:
        raise RuntimeError("a defect")
    except RuntimeError as error:
        record = line("x")
        record.exc_info = (RuntimeError, error, error.__traceback__)
    assert len(TextFormatter().format(record).splitlines()) > 2
