"""The comparisons of `tests/component/test_differential.py` as a command: seeded, so that many can be run.

A case is a drawn signature; values go through both runtimes and must come out the same, and a guest that is wrong here
and there must trap under both or give the same value under both.
"""

from __future__ import annotations

import asyncio
import sys

import wasmtime
from wasmtime import wat2wasm

from fuzz.command import main
from fuzz.harness import Fuzzer, Unexpected
from perdure.component.engine import Engine
from support.generated.compare import TRAPPED, echo_of_ours, echo_of_theirs, expected, wild_of_ours, wild_of_theirs
from support.generated.source import Seeded, pick
from support.generated.values import signature, value
from support.generated.wat import ENCODINGS, echo_component
from support.generated.wild import wild_component


class DifferentialFuzzer(Fuzzer):
    """Each case compiles two components under both runtimes."""

    name = "differential"
    unit = "comparisons"
    accepted = ("echo", "wild value")

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._engine = Engine()
        settings = wasmtime.Config()
        settings.cranelift_opt_level = "none"
        self._stock = wasmtime.Engine(settings)

    def close(self) -> None:
        self._engine.close()
        self._runner.close()

    def run(self, number: int, source: Seeded) -> tuple[str, ...]:
        params, encoding = signature(source), pick(source, ENCODINGS)
        calls = [tuple(value(source, kind) for kind in params) for _ in range(3)]
        binary = bytes(wat2wasm(echo_component(params, encoding)))
        suspends = source.integer(0, 1) == 1
        ours = self._runner.run(echo_of_ours(self._engine, binary, params, calls, suspends=suspends))
        theirs = echo_of_theirs(self._stock, binary, params, calls)
        if ours[:2] != (expected(params, calls),) * 2 or ours[:2] != theirs[:2]:
            raise Unexpected(f"{params}: {calls} became {ours[:2]}, under wasmtime {theirs[:2]}")
        if encoding == "utf8" and ours[2] != theirs[2]:
            raise Unexpected(f"{params}: {calls} left other bytes in guest memory than under wasmtime")
        binary = bytes(wat2wasm(wild_component(source, params, encoding, pick(source, (5, 12, 40)))))
        wild = self._runner.run(wild_of_ours(self._engine, binary, params))
        found = wild_of_theirs(self._stock, binary, params)
        if wild != found:
            raise Unexpected(f"{params}: {wild}, under wasmtime {found}")
        return ("echo", *("trap" if one == TRAPPED else "wild value" for one in wild))


if __name__ == "__main__":
    sys.exit(main(DifferentialFuzzer, "fuzz.differential", (__doc__ or "").partition("\n")[0]))
