"""Calls whose first commit was not answered: what a caller may do, with a key and without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.components import ComponentLibrary
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import Invocation
from perdure.durable.store import Store
from perdure.errors import Overloaded, PerdureError, ProviderUnavailable
from perdure.host.instances import InstanceTable
from support.engine import deadline, environment, invocation, library

NEAR = BucketAddress(Scope.WORKER, "near")
ADD = {"add": ["near", "n", 1]}


class Silent:
    """A store that applies commits and does not answer them, or that refuses them all; `errors` in their turn, the last
    one for ever."""

    def __init__(self, store: Store, *errors: PerdureError, applies: bool) -> None:
        self._store = store
        self._errors = list(errors)
        self._applies = applies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, *args: Any) -> Any:
        if self._applies:
            await self._store.commit(*args)
        raise self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]


def refused() -> ProviderUnavailable:
    error = ProviderUnavailable("it takes no writes")
    error.untouched = True
    return error


@pytest.fixture
def code(ledger: BoundComponent) -> Iterator[ComponentLibrary]:
    made = library(ledger)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.durable.writer.COMMIT_GRACE", 0.2)


async def failure(
    code: ComponentLibrary, ledger: BoundComponent, store: object, key: str | None, name: str = "alice"
) -> PerdureError:
    """Of a call that has little time."""
    settings = environment({"home": cast("Store", store)})
    table = InstanceTable(code, settings, max_in_memory=10, max_queued=10)
    made = invocation(ledger, "run", [ADD])
    try:
        with pytest.raises(PerdureError) as error:
            await table.invoke(name, Invocation(made.function, made.arguments, key, deadline(1.0)))
        return error.value
    finally:
        table.close()


@pytest.mark.parametrize("applies", [True, False])
async def test_what_may_have_been_applied_is_not_retryable_without_a_key(
    code: ComponentLibrary, ledger: BoundComponent, home: Store, applies: bool
) -> None:
    error = await failure(code, ledger, Silent(home, ProviderUnavailable("gone"), applies=applies), None)
    assert isinstance(error, ProviderUnavailable) and not error.retryable
    assert "is unknown" in error.detail and "without a key" in error.detail and "Idempotency-Key" not in error.detail
    # With one it is, and what the caller is told to do carries it out once.
    error = await failure(code, ledger, Silent(home, ProviderUnavailable("gone"), applies=applies), "k", "bob")
    assert error.retryable and "repeat it with the same Idempotency-Key" in error.detail
    table = InstanceTable(code, environment({"home": home}), max_in_memory=10, max_queued=10)
    made = invocation(ledger, "run", [ADD])
    await table.invoke("bob", Invocation(made.function, made.arguments, "k", deadline()))
    assert await home.get_many(NEAR, ["n"]) == [b"2" if applies else b"1"]
    table.close()


async def test_what_was_refused_stays_retryable(code: ComponentLibrary, ledger: BoundComponent, home: Store) -> None:
    for key in (None, "k"):
        error = await failure(code, ledger, Silent(home, refused(), applies=False), key)
        assert isinstance(error, ProviderUnavailable) and error.retryable
        assert error.detail == "it takes no writes"
    assert await home.get_many(NEAR, ["n"]) == [None]


@pytest.mark.parametrize("last", [refused(), Overloaded("full")], ids=["refused", "full"])
async def test_one_doubt_is_enough(
    code: ComponentLibrary, ledger: BoundComponent, home: Store, last: PerdureError
) -> None:
    """Applied, not answered, and refused when it was sent again."""
    error = await failure(code, ledger, Silent(home, ProviderUnavailable("gone"), last, applies=True), None)
    assert isinstance(error, ProviderUnavailable) and not error.retryable
    assert await home.get_many(NEAR, ["n"]) == [b"1"]


async def test_control_a_full_store_is_retryable(code: ComponentLibrary, ledger: BoundComponent, home: Store) -> None:
    error = await failure(code, ledger, Silent(home, Overloaded("full"), applies=False), None)
    assert isinstance(error, Overloaded) and error.retryable
