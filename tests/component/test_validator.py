"""wasmtime's validator comes before the decoder, and nothing that a component unfolds to comes before its bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime
from wasmtime import wat2wasm
from wasmtime.component import Component as StockComponent

from fuzz.binary import HEADER, component, core_module, leb, section, vec
from perdure.component import component as loading
from perdure.component.component import Component
from perdure.component.decode import decode_component
from perdure.component.decode.definitions import Definition
from perdure.component.engine import Engine, EngineConfig
from perdure.component.skeleton import skeleton
from perdure.component.validator import validate
from perdure.errors import ComponentError, ComponentUnsupported
from support.generated.ours import Host
from support.hosts import EXAMPLE

_INVALID = b"\1\2\3"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


def _doubling(times: int) -> bytes:
    inner = component(core_module(), section(2, vec([b"\0\0\0"])))
    for _ in range(times):
        inner = component(section(4, inner), section(5, vec([b"\0\0\0"] * 2)))
    return inner


async def test_the_decoder_sees_only_what_is_valid(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[bytes] = []

    def decode(data: bytes) -> tuple[Definition, ...]:
        seen.append(data)
        return decode_component(data)

    monkeypatch.setattr(loading, "decode_component", decode)
    wrong = bytes(wat2wasm('(component (import "f" (func)) (core instance (instantiate 0)))'))
    for data in (wrong, component(section(7, _INVALID)), EXAMPLE.read_bytes()[:-5]):
        with pytest.raises(ComponentError):
            await Component.load(engine, data)
    assert seen == []
    right = bytes(wat2wasm("(component (core module $m) (core instance (instantiate $m)))"))
    await Component.load(engine, right)
    assert seen == [right]


async def test_what_is_in_the_cache_was_validated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    validated: list[bytes] = []

    def noted(data: bytes) -> None:
        validated.append(data)
        validate(data)

    monkeypatch.setattr(loading, "validate", noted)
    data = bytes(wat2wasm('(component (core module $m (func (export "f"))) (core instance (instantiate $m)))'))
    unvalidated = data.replace(b"\x02\x00\x0b", b"\x02\x1a\x0b")  # its function drops what is not there
    with Engine(EngineConfig(cache_dir=tmp_path)) as engine:
        await Component.load(engine, data)
        await Component.load(engine, data)
        assert validated == [data]
        for _ in range(2):
            with pytest.raises(ComponentError, match="not a valid component"):
                await Component.load(engine, unvalidated)
        assert validated == [data, unvalidated, unvalidated]


async def test_code_that_is_never_compiled_is_validated(engine: Engine) -> None:
    with pytest.raises(ComponentError, match="type mismatch"):
        await Component.load(engine, bytes(wat2wasm("(component (component (core module (func (drop)))))")))
    await Component.load(engine, bytes(wat2wasm("(component (component (core module (func (nop)))))")))


async def test_a_component_that_doubles_is_valid_and_refused(engine: Engine) -> None:
    """wasmtime unfolds what a component instantiates, so that 31 doublings end its process (below, as a control)."""
    data = _doubling(31)
    validate(data)
    with pytest.raises(ComponentUnsupported, match="more than"):
        await Component.load(engine, data)
    (await (await Component.load(engine, _doubling(4))).bind(Host({})).instantiate(None)).close()


@pytest.mark.timeout(300)
def test_wasmtime_itself_does_not_survive_it() -> None:
    """If a newer wasmtime does, docs/adr/0006 may be thought over."""
    program = (
        "import resource, sys, wasmtime\n"
        "from wasmtime.component import Component\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "Component(wasmtime.Engine(), sys.stdin.buffer.read())\n"
        "print('compiled')\n"
    )
    for times, survives in ((4, True), (31, False)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=_doubling(times),
            env={**os.environ, "RUST_BACKTRACE": "0"},
            capture_output=True,
            check=False,
        )
        assert (done.stdout == b"compiled\n") is survives
        assert done.returncode == 0 if survives else done.returncode < 0, done.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_the_frame_around_a_component_is_not_there_for_it(count: int) -> None:
    """An alias that reaches beyond the component's own scope."""
    for sort in (b"\x03", b"\x04"):
        with pytest.raises(ComponentError, match="not a valid component"):
            validate(component(section(6, vec([sort + b"\x02" + leb(count) + b"\0"]))))


def test_a_skeleton_is_valid_where_the_component_is() -> None:
    data = EXAMPLE.read_bytes()
    bare = skeleton(data)
    assert len(bare) < len(data) / 2 and bare.startswith(HEADER)
    StockComponent(wasmtime.Engine(), bare)
    assert skeleton(bare) == bare


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not WebAssembly"),
        (b"\0asm\1\0\0\0", "a core module, not a component"),
        (b"\0asm\x0e\0\1\0", "unknown version"),
        (HEADER + b"\7", "unexpected end"),
        (HEADER + b"\7\5\0", "unexpected end"),
        (component(section(4, b"\0asm")), "unexpected end"),
        (component(section(4, b"\0asm\1\0\0\0")), "not a valid component"),
        (component(core_module(section(10, b"\2\1"))), "unexpected end"),
        (component(core_module(section(10, leb(2**32 - 1)))), "unexpected end"),
        (component(core_module(section(10, b"\0\0"))), "left over"),
    ],
)
def test_broken_framing_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ComponentError, match=said):
        validate(data)


@pytest.mark.parametrize(
    "section", [b"\x00\x03\x05ab", b"\x00\x03\x02\xff\xfe", b"\x00\x00"], ids=["cut-short", "not-utf-8", "no-name"]
)
async def test_a_custom_section_needs_a_name(engine: Engine, section: bytes) -> None:
    with pytest.raises(ComponentError):
        await Component.load(engine, b"\0asm\x0d\0\x01\0" + section)
    await Component.load(engine, b"\0asm\x0d\0\x01\0" + b"\x00\x05\x02abcd")
