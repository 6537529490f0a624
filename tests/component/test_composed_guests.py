"""Two Rust guests composed into one component: `till` holds, lends and gives away the carts of `shop`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.component.component import Component
from perdure.component.engine import Engine
from perdure.component.types import Err, Ok
from perdure.errors import GuestTrapped
from support.components import Host, Running
from support.compose import composed
from support.guests import guest


async def till(engine: Engine, stock: Callable[..., object]) -> Running:
    data = composed(
        guest("shop").read_bytes(),
        guest("till").read_bytes(),
        function="stock",
        given="perdure:compose/store",
        exported="perdure:till/sales",
    )
    component = await Component.load(engine, data)
    instance = await component.bind(Host({"stock": stock}, {})).instantiate(None)
    return Running(instance, {func.name: func for func in component.exports})


async def test_carts_go_between_the_guests(engine: Engine) -> None:
    asked: list[str] = []

    async def stock(cx: object, name: str) -> int:
        await asyncio.sleep(0)
        asked.append(name)
        return 5

    shop = await till(engine, stock)
    things = [("Äpfel", 30, 2), ("Brot", 400, 1)]
    assert await shop.call("sell", "Ada", things) == Ok((460, ["2 Äpfel", "1 Brot"]))
    assert await shop.call("sell", "Ada", []) == Err("Ada: empty")
    assert await shop.call("sell", "Ada", [("Öl", 1, 6)]) == Err("Öl: sold-out")
    assert asked == ["Äpfel", "Brot", "Öl"]
    assert await shop.call("alive") == 0
    for owner, price in (("one", 1), ("two", 20), ("three", 300)):
        await shop.call("put-away", owner, "x", price)
    assert await shop.call("alive") == 3
    assert await shop.call("sum-up") == ("one", 321)
    assert await shop.call("alive") == 0


async def test_a_guest_that_panics_takes_only_its_own_instance_with_it(engine: Engine) -> None:
    broken, healthy = await till(engine, lambda cx, name: 1), await till(engine, lambda cx, name: 1)
    with pytest.raises(GuestTrapped) as caught:
        await broken.call("sum-up")
    assert caught.value.trap == "unreachable"
    assert not broken.instance.usable
    assert await healthy.call("sell", "Ada", [("x", 2, 1)]) == Ok((2, ["1 x"]))
