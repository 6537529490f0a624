"""What generations 1 and 2 have in common: values and errors are resources."""

from __future__ import annotations

from types import TracebackType

from componentize_py_types import Err
from wit_world.imports.types import Bucket, IncomingValue, OutgoingValue


class Errors:
    """The error's own words. A class, because `contextlib` sets attributes of the exception that passes through it, and
    an `Err` allows none to be set."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Err) and not isinstance(error.value, str):
            with error.value as told:
                words = told.trace()
            raise Err(words) from error


def opened(name: str) -> Bucket:
    with Errors():
        return Bucket.open_bucket(name)


def body(value: IncomingValue) -> bytes:
    with value:
        return value.incoming_value_consume_sync()


class Outgoing:
    """Values to be written; freed at the end."""

    def __init__(self, *values: bytes) -> None:
        self.made = [OutgoingValue.new_outgoing_value() for _ in values]
        for one, value in zip(self.made, values, strict=True):
            one.outgoing_value_write_body_sync(value)

    def __enter__(self) -> list[OutgoingValue]:
        return self.made

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self.made:
            one.__exit__(None, None, None)
