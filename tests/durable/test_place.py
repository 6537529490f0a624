"""What a guest sees of its surroundings (wasi:config, wasi:logging) is the same on replay, whatever has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.component.component import BoundComponent
from perdure.component.types import FuncType, PrimType
from perdure.durable.environment import GuestLine
from perdure.durable.instance import DurableInstance
from perdure.durable.store import Store
from perdure.host.app import guest_interfaces
from perdure.wasi import settings as functions
from support.engine import call, deadline, environment, library


async def opened(bound: BoundComponent, home: Store, **settings: object) -> DurableInstance:
    made = environment({"home": home}, **settings)
    return await DurableInstance.open("alice", library(bound), made, deadline=deadline())


async def ask(
    instance: DurableInstance, bound: BoundComponent, name: str, *args: object, key: str | None = None
) -> Any:
    return json.loads((await call(instance, bound, name, *args, key=key)).body)


async def test_settings_of_then(place: BoundComponent, home: Store) -> None:
    instance = await opened(place, home, settings={"colour": "red", "size": "7"})
    assert await ask(instance, place, "setting", "colour") == "red"
    assert await ask(instance, place, "setting", "none") is None
    assert await ask(instance, place, "settings") == [["colour", "red"], ["size", "7"]]
    seen = await ask(instance, place, "seen")
    instance.close()
    again = await opened(place, home, settings={"colour": "blue"})
    assert await ask(again, place, "seen") == seen
    assert await ask(again, place, "setting", "colour") == "blue", "and of now"
    again.close()


async def test_lines_are_logged_once(place: BoundComponent, home: Store) -> None:
    lines: list[GuestLine] = []
    instance = await opened(place, home, lines=lines.append)
    await ask(instance, place, "log", 3, "part", "careful", key="k")
    await ask(instance, place, "log", 0, "", "fine")
    expected = [GuestLine("alice", "k", "warn", "part", "careful"), GuestLine("alice", "#2", "trace", "", "fine")]
    assert lines == expected
    instance.close()
    again = await opened(place, home, lines=lines.append)
    await ask(again, place, "seen")
    assert lines == expected, "not again on replay"
    again.close()


@pytest.mark.parametrize("interface", ["store", "runtime"])
@pytest.mark.parametrize("version", ["", "@0.2.0-draft", "@0.2.0-draft-2024-09-27", "@0.2.0-rc.1", "@0.2.0"])
def test_versions_of_config(interface: str, version: str) -> None:
    kind = FuncType((("key", PrimType("string")),), None)
    found = guest_interfaces().function(f"wasi:config/{interface}{version}", "get", kind)
    assert found is functions.get
    assert guest_interfaces().function(f"wasi:config/{interface}@1.0.0", "get", kind) is None


@pytest.mark.parametrize("version", ["", "@0.1.0-draft", "@0.1.0-draft2"])
def test_versions_of_logging(version: str) -> None:
    found = guest_interfaces().function(f"wasi:logging/logging{version}", "log", FuncType((), None))
    assert found is functions.log
