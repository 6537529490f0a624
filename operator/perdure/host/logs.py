"""Log lines: one JSON object a line in a pod, readable text on a terminal.

Fields passed as `extra={"fields": {...}}` (instance, function, key …) become keys of the object. Values of
arguments, results and bucket entries are never logged.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Literal

from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

LogFormat = Literal["auto", "json", "text"]


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", …fields, "exception"?}`; time in UTC, RFC 3339."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`12:30:01 info    message  key=value …`, on one line, whatever guests and clients say."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.datetime.fromtimestamp(record.created, datetime.UTC).astimezone().strftime("%H:%M:%S")
        fields = "".join(f"  {name}={value}" for name, value in getattr(record, "fields", {}).items())
        line = _visible(f"{clock} {record.levelname.lower():<7} {record.getMessage()}{fields}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def about_client(record: logging.LogRecord) -> bool:
    """Of what the HTTP library says: a client that does not speak HTTP is no defect. What it sent is not told."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    # What it sent comes behind a colon; of a target that is none it is all that is said.
    reason = "its target is no URL" if isinstance(error, InvalidURLError) else error.message.partition(":")[0]
    record.msg, record.args = "a request could not be read: %s", (reason,)
    return logging.getLogger().isEnabledFor(logging.INFO)


def configure_logging(form: LogFormat = "auto", level: str = "info") -> None:
    """Send all log lines to standard error. `auto`: text on a terminal, else JSON."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(about_client)
