"""The runtime with real and with hostile guests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from perdure.component.component import BoundComponent, Component
from perdure.component.decode import decode_component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource, HostTrap
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.link import link
from perdure.component.types import FuncType
from perdure.errors import ComponentError, ComponentUnsupported, GuestTrapped, InvocationTimeout, TypeMismatch
from support.hosts import EXAMPLE


class Host:
    """A resolver over a dictionary."""

    def __init__(self, **functions: Callable[..., object]) -> None:
        self._functions = functions

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._functions.get(name.replace("-", "_"))

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource()


MEMORY = """
  (core module $m
    (import "h" "call" (func $call (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      REALLOC
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get 2))))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "echo") (param i32 i32) (result i32)
      BODY
      (i32.store (i32.const 512) (local.get 0))
      (i32.store (i32.const 516) (local.get 1))
      (i32.const 512))
    (func (export "relay") (param i32 i32) (result i32) (call $call (local.get 0) (local.get 1)))
    (func (export "spin") (loop $l (br $l)))
    (func $deep (export "deep") (call $deep))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "post") (param i32) POST))
"""
COMPONENT = """
(component
  (import "call" (func $call (param "text" string) (result u32)))
  (core module $libc (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
  MODULE
  (core module $shim
    (table (export "t") 1 funcref)
    (func (export "call") (param i32 i32) (result i32)
      (call_indirect (param i32 i32) (result i32) (local.get 0) (local.get 1) (i32.const 0))))
  (core module $fix
    (import "" "t" (table 1 funcref)) (import "" "f" (func $f (param i32 i32) (result i32)))
    (elem (i32.const 0) func $f))
  (core instance $s (instantiate $shim))
  (core instance $i (instantiate $m (with "h" (instance (export "call" (func $s "call"))))))
  (alias core export $i "memory" (core memory $mem))
  (core func $lowered (canon lower (func $call) (memory $mem) (realloc (core func $i "realloc"))))
  (core instance (instantiate $fix (with "" (instance (export "t" (table $s "t")) (export "f" (func $lowered))))))
  (func (export "echo") (param "text" string) (result string)
    (canon lift (core func $i "echo") (memory $mem) (realloc (core func $i "realloc")) (post-return (core func $i "post"))))
  (func (export "relay") (param "text" string) (result u32)
    (canon lift (core func $i "relay") (memory $mem) (realloc (core func $i "realloc"))))
  (func (export "spin") (canon lift (core func $i "spin")))
  (func (export "deep") (canon lift (core func $i "deep")))
  (func (export "grow") (param "pages" u32) (result u32) (canon lift (core func $i "grow"))))
"""


def wat(realloc: str = "", body: str = "", post: str = "") -> bytes:
    module = MEMORY.replace("REALLOC", realloc).replace("BODY", body).replace("POST", post)
    return bytes(wat2wasm(COMPONENT.replace("MODULE", module)))


class Call(Protocol):
    """Calls a function of one instance."""

    def __call__(self, name: str, *args: object, seconds: float = 10) -> Coroutine[object, None, object]: ...


async def instantiate(
    engine: Engine, data: bytes, limits: InstanceLimits | None = None, **functions: Callable[..., object]
) -> tuple[Instance, Call]:
    component = await Component.load(engine, data)
    bound: BoundComponent = component.bind(Host(**{"call": lambda ctx, text: len(text), **functions}))
    instance = await bound.instantiate(None, limits=limits)
    exports = {func.name: func for func in component.exports}

    async def call(name: str, *args: object, seconds: float = 10) -> object:
        deadline = asyncio.get_running_loop().time() + seconds
        return await instance.call(exports[name], args, deadline=deadline)

    return instance, call


async def test_strings_go_through(engine: Engine) -> None:
    _, call = await instantiate(engine, wat())
    for text in ("", "hello", "ключ 🔑", "x" * 10_000):
        assert await call("echo", text) == text
        assert await call("relay", text) == len(text)


async def test_a_host_function_may_wait_while_others_run(engine: Engine) -> None:
    running, all_wait = 0, asyncio.Event()

    async def wait(ctx: object, text: str) -> int:
        nonlocal running
        running += 1
        if running == 100:
            all_wait.set()
        await all_wait.wait()
        return len(text)

    component = await Component.load(engine, wat())
    bound = component.bind(Host(call=wait))
    relay = next(func for func in component.exports if func.name == "relay")
    instances = [await bound.instantiate(None) for _ in range(100)]
    results = await asyncio.gather(*(one.call(relay, ["x" * n]) for n, one in enumerate(instances)))
    assert results == list(range(100))


@pytest.mark.parametrize(
    ("guest", "name"),
    [
        ({"realloc": "(return (i32.const -8))"}, "echo"),
        ({"realloc": "(return (i32.const 65534))"}, "echo"),
        ({"realloc": "(unreachable)"}, "echo"),
        ({"realloc": '(drop (call $call (i32.const 0) (i32.const 0)))'}, "echo"),
        ({"body": "(return (i32.const -4))"}, "echo"),
        ({"body": "(return (i32.const 3))"}, "echo"),
        ({"body": "(local.set 0 (i32.const -1))"}, "echo"),
        ({"body": "(local.set 1 (i32.const -1))"}, "echo"),
        ({"body": "(i32.store8 (local.get 0) (i32.const 255))"}, "echo"),
        ({"post": "(unreachable)"}, "echo"),
        ({"post": "(drop (call $call (i32.const 0) (i32.const 0)))"}, "echo"),
        ({}, "deep"),
    ],
)  # fmt: skip
async def test_a_hostile_guest_traps_and_nothing_else_stops(engine: Engine, guest: dict[str, str], name: str) -> None:
    instance, call = await instantiate(engine, wat(**guest))
    with pytest.raises(GuestTrapped):
        await call(name, *(["text"] if name == "echo" else []))
    assert not instance.usable
    instance.close()
    _, healthy = await instantiate(engine, wat())
    assert await healthy("echo", "still here") == "still here"


async def test_a_spinning_guest_is_stopped_and_lets_others_run(engine: Engine) -> None:
    _, spin = await instantiate(engine, wat())
    _, echo = await instantiate(engine, wat())
    spinning = asyncio.create_task(spin("spin", seconds=60))
    await asyncio.sleep(0)  # into the guest
    for _ in range(3):
        assert await echo("echo", "x") == "x"
    assert not spinning.done()
    spinning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spinning
    _, spin = await instantiate(engine, wat())
    with pytest.raises(InvocationTimeout):
        await spin("spin", seconds=0.3)


async def test_memory_is_bounded(engine: Engine) -> None:
    _, call = await instantiate(engine, wat(), InstanceLimits(memory=4 << 16))
    assert await call("grow", 2) == 1
    assert await call("grow", 100) == 0xFFFFFFFF


async def test_host_exceptions_and_cancellation_arrive_unchanged(engine: Engine) -> None:
    class Odd(Exception):
        pass

    def fail(ctx: object, text: str) -> int:
        raise Odd

    hangs = asyncio.Event()

    async def hang(ctx: object, text: str) -> int:
        hangs.set()
        await asyncio.sleep(60)
        return 0

    _, call = await instantiate(engine, wat(), call=fail)
    with pytest.raises(Odd):
        await call("relay", "x")
    instance, call = await instantiate(engine, wat(), call=hang)
    task = asyncio.create_task(call("relay", "x"))
    await hangs.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not instance.usable


@pytest.mark.parametrize("waits", [False, True])
async def test_a_host_function_may_end_the_call_with_a_trap(engine: Engine, waits: bool) -> None:
    def refuse(ctx: object, text: str) -> int:
        raise HostTrap("not today")

    async def refuse_later(ctx: object, text: str) -> int:
        await asyncio.sleep(0)
        raise HostTrap("not today")

    instance, call = await instantiate(engine, wat(), call=refuse_later if waits else refuse)
    with pytest.raises(GuestTrapped, match="not today") as caught:
        await call("relay", "x")
    assert caught.value.trap == "host-refused" and not instance.usable


async def test_misfits_are_refused_before_the_guest_runs(engine: Engine) -> None:
    instance, call = await instantiate(engine, wat())
    with pytest.raises(TypeMismatch):
        await call("echo", 3)
    assert instance.usable
    assert await call("echo", "x") == "x"


async def test_what_is_not_a_component_is_named(engine: Engine) -> None:
    for data, said in ((b"", "not WebAssembly"), (b"garbage!", "not WebAssembly"), (b"\0asm\1\0\0\0", "core")):
        with pytest.raises(ComponentError, match=said):
            await Component.load(engine, data)
    with pytest.raises(ComponentUnsupported, match="call"):
        (await Component.load(engine, wat())).bind(Host())


BODY = """
(component
  (core module $m (func (export "f") (result i32) BODY))
  (core instance $i (instantiate $m))
  (func (export "f") (result u32) (canon lift (core func $i "f"))))
"""


@pytest.mark.parametrize(
    ("find", "put", "said"),
    [
        (b"\x41\x2a\x0b", b"\x42\x2a\x0b", "type mismatch"),
        (b"\x41\x2a\x0b", b"\x0b\x0b\x0b", "nothing on stack"),
    ],
)
async def test_code_that_is_not_valid_is_refused(engine: Engine, find: bytes, put: bytes, said: str) -> None:
    """Bodies are validated apart from the component around them."""
    good = bytes(wat2wasm(BODY.replace("BODY", "(i32.const 42)")))
    component = await Component.load(engine, good)
    assert await (await component.bind(Host()).instantiate(None)).call(component.exports[0], []) == 42
    assert good.count(find) == 1
    with pytest.raises(ComponentError, match=said):
        await Component.load(engine, good.replace(find, put))


async def test_compiled_code_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with Engine(EngineConfig(cache_dir=tmp_path)) as engine:
            _, call = await instantiate(engine, wat())
            assert await call("echo", "x") == "x"
    assert list(tmp_path.rglob("*.cwasm"))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_decoder_survives_mutated_components(data: st.DataObject) -> None:
    good = EXAMPLE.read_bytes() if data.draw(st.booleans()) else wat()
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(8, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)) | st.just(len(mutated)))
    try:
        link(decode_component(bytes(mutated[:cut])))
    except ComponentError:
        return
