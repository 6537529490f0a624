"""wasi:io streams: standard output and error go to the log, standard input is empty."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.component.types import Err, Ok, Variant
from perdure.wasi.polling import Pollable
from perdure.wasi.state import WasiContext

_WRITABLE = 1 << 16
_MAX_ZEROES = 1 << 20


@dataclass(frozen=True, slots=True)
class OutputStream:
    """`name`: stdout or stderr."""

    name: str


@dataclass(frozen=True, slots=True)
class InputStream:
    """Always at its end."""


def check_write(ctx: WasiContext, stream: OutputStream) -> Ok:
    return Ok(_WRITABLE)


def write(ctx: WasiContext, stream: OutputStream, data: bytes) -> Ok:
    ctx.wasi.printed(stream.name, data)
    return Ok()


def flush(ctx: WasiContext, stream: OutputStream) -> Ok:
    return Ok()


def write_zeroes(ctx: WasiContext, stream: OutputStream, length: int) -> Ok:
    ctx.wasi.printed(stream.name, bytes(min(length, _MAX_ZEROES)))
    return Ok()


def splice(ctx: WasiContext, stream: OutputStream, source: InputStream, length: int) -> Err:
    return Err(Variant("closed"))


def read(ctx: WasiContext, stream: InputStream, length: int) -> Err:
    return Err(Variant("closed"))


def subscribe(ctx: WasiContext, stream: OutputStream | InputStream) -> Pollable:
    return Pollable()
