"""A host's own defect in an asynchronous call: an attempt like any other, and quarantine with its reason some day."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import CallPayload, decode_failure, encode
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.inbox import NewCall
from perdure.durable.journal import call_fingerprint
from perdure.durable.settings import RetryPolicy
from perdure.durable.store import Store
from perdure.errors import InternalError, ProviderUnavailable, Quarantined
from perdure.host.instances import InstanceTable
from support.engine import environment, library

NEAR = BucketAddress(Scope.WORKER, "near")
RUN = "perdure:ledger/program.run"
THRICE = RetryPolicy(max_attempts=3, initial_ms=1, max_ms=1)


class Broken:
    """A store one of whose operations raises, from its `number`-th time on."""

    def __init__(self, store: Store, operation: str, number: int, error: Exception) -> None:
        self._store = store
        self._operation = operation
        self._error = error
        self.left = number

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name != self._operation:
            return method

        async def call(*args: object, **named: object) -> object:
            self.left -= 1
            if self.left <= 0:
                raise self._error
            return await method(*args, **named)

        return call


async def accepted(home: Store, *steps: object) -> None:
    arguments = json.dumps([list(steps)]).encode()
    payload = encode(CallPayload(RUN, arguments, 0))
    await home.enqueue("alice", NewCall("k", call_fingerprint(RUN, arguments), payload), 10)


def table_of(code: ComponentLibrary, store: object) -> InstanceTable:
    settings = environment({"home": cast("Store", store)}, retry=THRICE)
    return InstanceTable(code, settings, max_in_memory=10, max_queued=10)


async def tries(table: InstanceTable, most: int = 10) -> tuple[int, str]:
    """How often it was tried before it was quarantined, and the reason; (`most`, ""): it was not."""
    for number in range(most):
        try:
            await table.run_pending("alice")
        except Quarantined as error:
            return number, error.detail
        except (InternalError, ValueError, ProviderUnavailable):
            pass
    return most, ""


@pytest.fixture
def code(ledger: BoundComponent) -> Any:
    made = library(ledger)
    yield made
    made.close()


@pytest.mark.parametrize("error", [ValueError("a secret"), InternalError("of ours")], ids=["unforeseen", "internal"])
@pytest.mark.parametrize(("operation", "number"), [("commit", 1), ("commit", 2), ("get_many", 1)])
async def test_it_counts_wherever_it_is_met(
    code: ComponentLibrary, home: Store, operation: str, number: int, error: Exception
) -> None:
    await accepted(home, {"add": ["near", "n", 1]}, {"get": ["near", "other"]}, {"add": ["near", "n", 1]})
    table = table_of(code, Broken(home, operation, number, error))
    count, reason = await tries(table)
    # Behind a gate it is gone on with, which is counted apart from how often it was begun.
    begun = operation == "commit" and number == 1
    assert count == (2 if begun else 3), reason
    assert "3 attempts" in reason and "last so: internal" in reason and "secret" not in reason
    assert ("of ours" if isinstance(error, InternalError) else "a defect of the host (ValueError)") in reason
    info = await home.instance("alice")
    assert info is not None and info.halt is not None
    table.close()
    # With the defect mended, an operator lets it go on, and nothing of it is doubled.
    table = table_of(code, home)
    await table.control("alice", Verb.RESUME)
    await table.run_pending("alice")
    assert await home.get_many(NEAR, ["n"]) == [b"2"]
    table.close()


@pytest.mark.parametrize("error", [ValueError("a secret"), InternalError("of ours")], ids=["unforeseen", "internal"])
async def test_an_instance_that_cannot_be_opened_is_not_tried_for_ever(
    code: ComponentLibrary, home: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(home, {"add": ["near", "n", 1]})

    async def no_code(*args: object) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("perdure.durable.instance.recover", no_code)
        table = table_of(code, home)
        with pytest.raises(type(error)):
            await table.run_pending("alice")
        waiting = await home.pending("alice", "k")
        failure = None if waiting is None else decode_failure(waiting.failure)
        assert waiting is not None and waiting.attempts == 1 and failure is not None and failure.code == "internal"
        count, reason = await tries(table)
        assert (count, "3 attempts" in reason, "secret" in reason) == (1, True, False)
        table.close()
    table = table_of(code, home)
    await table.control("alice", Verb.RESUME)
    await table.run_pending("alice")
    assert await home.get_many(NEAR, ["n"]) == [b"1"]
    table.close()


async def test_control_a_store_that_is_away_is_no_attempt(code: ComponentLibrary, home: Store) -> None:
    await accepted(home, {"add": ["near", "n", 1]}, {"get": ["near", "other"]})
    table = table_of(code, Broken(home, "get_many", 1, ProviderUnavailable("away")))
    assert await tries(table, 6) == (6, "")
    table.close()
