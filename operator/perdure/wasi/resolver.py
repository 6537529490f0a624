"""Resolving imports of WASI 0.2: one table, any 0.2.x version (component-model: compatible by semantic version).

What there was before 0.2.0 (wasi:io `0.2.0-rc-2023-11-10`, of the first generations of wasi:keyvalue) is the same where
the signatures are. Interfaces that Perdure refuses (sockets) resolve to functions that
trap by name when they are called: many toolchains import them without ever calling them.
"""

from __future__ import annotations

import inspect
import re

from perdure.component.host import HostFunction, HostResource, RefusedFunction
from perdure.component.types import FuncType
from perdure.wasi import clocks, polling, settings, streams
from perdure.wasi.exit import leave
from perdure.wasi.files import table as files
from perdure.wasi.http import table as http
from perdure.wasi.state import WasiContext

_INTERFACE = re.compile(r"(wasi:[a-z-]+/[a-z0-9-]+)@0\.2\.\d+(?:-.*)?")
_DRAFT = re.compile(r"(wasi:(?:config/(?:store|runtime)|logging/logging))(?:@0\.\d+\.\d+(?:-.*)?)?")
"""What never had a version 0.2.0, under whatever version a guest was built with."""
_REFUSED = ("wasi:sockets/", "wasi:http/", "wasi:filesystem/types")
_KNOWN = ("wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/")


def _nothing(ctx: WasiContext, *args: object) -> None:
    return None


_FUNCTIONS: dict[tuple[str, str], HostFunction] = {
    ("wasi:cli/environment", "get-environment"): settings.get_environment,
    ("wasi:cli/environment", "get-arguments"): lambda ctx: list(ctx.wasi.arguments),
    ("wasi:cli/environment", "initial-cwd"): _nothing,
    ("wasi:cli/exit", "exit"): leave,
    ("wasi:cli/exit", "exit-with-code"): leave,
    ("wasi:cli/stdin", "get-stdin"): lambda ctx: streams.InputStream(),
    ("wasi:cli/stdout", "get-stdout"): lambda ctx: streams.OutputStream(streams.Standard("stdout")),
    ("wasi:cli/stderr", "get-stderr"): lambda ctx: streams.OutputStream(streams.Standard("stderr")),
    ("wasi:cli/terminal-stdin", "get-terminal-stdin"): _nothing,
    ("wasi:cli/terminal-stdout", "get-terminal-stdout"): _nothing,
    ("wasi:cli/terminal-stderr", "get-terminal-stderr"): _nothing,
    ("wasi:clocks/monotonic-clock", "now"): clocks.monotonic_now,
    ("wasi:clocks/monotonic-clock", "resolution"): clocks.monotonic_resolution,
    ("wasi:clocks/monotonic-clock", "subscribe-instant"): clocks.subscribe_instant,
    ("wasi:clocks/monotonic-clock", "subscribe-duration"): clocks.subscribe_duration,
    ("wasi:clocks/wall-clock", "now"): clocks.wall_now,
    ("wasi:clocks/wall-clock", "resolution"): clocks.wall_resolution,
    ("wasi:random/random", "get-random-bytes"): clocks.random_bytes,
    ("wasi:random/random", "get-random-u64"): clocks.random_u64,
    ("wasi:random/insecure", "get-insecure-random-bytes"): clocks.random_bytes,
    ("wasi:random/insecure", "get-insecure-random-u64"): clocks.random_u64,
    ("wasi:random/insecure-seed", "insecure-seed"): clocks.insecure_seed,
    ("wasi:random/insecure-seed", "get-insecure-seed"): clocks.insecure_seed,
    ("wasi:io/error", "[method]error.to-debug-string"): streams.to_debug_string,
    ("wasi:io/poll", "[method]pollable.ready"): polling.ready,
    ("wasi:io/poll", "[method]pollable.block"): polling.block,
    ("wasi:io/poll", "poll"): polling.poll,
    ("wasi:io/streams", "[method]output-stream.check-write"): streams.check_write,
    ("wasi:io/streams", "[method]output-stream.write"): streams.write,
    ("wasi:io/streams", "[method]output-stream.blocking-write-and-flush"): streams.blocking_write,
    ("wasi:io/streams", "[method]output-stream.flush"): streams.flush,
    ("wasi:io/streams", "[method]output-stream.blocking-flush"): streams.flush,
    ("wasi:io/streams", "[method]output-stream.write-zeroes"): streams.write_zeroes,
    ("wasi:io/streams", "[method]output-stream.blocking-write-zeroes-and-flush"): streams.write_zeroes,
    ("wasi:io/streams", "[method]output-stream.splice"): streams.splice,
    ("wasi:io/streams", "[method]output-stream.blocking-splice"): streams.blocking_splice,
    ("wasi:io/streams", "[method]output-stream.subscribe"): streams.subscribe_output,
    ("wasi:io/streams", "[method]input-stream.read"): streams.read,
    ("wasi:io/streams", "[method]input-stream.blocking-read"): streams.blocking_read,
    ("wasi:io/streams", "[method]input-stream.skip"): streams.skip,
    ("wasi:io/streams", "[method]input-stream.blocking-skip"): streams.blocking_skip,
    ("wasi:io/streams", "[method]input-stream.subscribe"): streams.subscribe_input,
    ("wasi:config/store", "get"): settings.get,
    ("wasi:config/store", "get-all"): settings.get_all,
    ("wasi:config/runtime", "get"): settings.get,
    ("wasi:config/runtime", "get-all"): settings.get_all,
    ("wasi:logging/logging", "log"): settings.log,
    **http.FUNCTIONS,
    **files.FUNCTIONS,
}


_DROPS: dict[tuple[str, str], HostFunction] = {
    ("wasi:io/streams", "input-stream"): streams.drop,
    ("wasi:io/streams", "output-stream"): streams.drop,
    **http.DROPS,
    **files.DROPS,
}


class WasiResolver:
    """Implements `perdure.component.host.ImportResolver`."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        base = _base(interface)
        if base is None:
            return None
        found = _FUNCTIONS.get((base, name))
        early = "-" in interface.partition("@")[2]
        if early and _INTERFACE.fullmatch(interface):
            known = found is not None or base.startswith("wasi:io/")
            if known and (found is None or not _agrees(found, type)):
                return RefusedFunction(f"{interface}.{name}")
        if found is None and base.startswith(_REFUSED):
            return RefusedFunction(f"{interface}.{name}")
        return found

    def resource(self, interface: str, name: str) -> HostResource | None:
        base = _base(interface)
        return HostResource(_DROPS.get((base, name))) if base is not None and base.startswith(_KNOWN) else None


def _agrees(function: HostFunction, kind: FuncType) -> bool:
    """Whether an interface of before 0.2.0 has this function with as many parameters as it has now."""
    parameters = inspect.signature(function).parameters.values()
    any_number = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    return any_number or len(parameters) == 1 + len(kind.params)


def _base(interface: str) -> str | None:
    match = _INTERFACE.fullmatch(interface) or _DRAFT.fullmatch(interface)
    return match.group(1) if match else None
