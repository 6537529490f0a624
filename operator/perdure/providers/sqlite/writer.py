"""The single writer: one thread, one connection, one fsync for all commits that wait (group commit).

Each operation runs in its own savepoint, so that one that is refused takes nothing of the others with it. Nobody is
answered before the transaction that carries the answer is on disk. The queue is bounded: over it, callers get
`Overloaded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from perdure.errors import InternalError, Overloaded, PerdureError, ProviderUnavailable, TooLarge
from perdure.providers.sqlite.schema import connect

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], object]
_QUEUE = 4096
_BATCH = 256


class Writer:
    """`submit` runs an operation in the writer's next transaction."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path, writer=True)
        self._queue: queue.Queue[tuple[Operation, asyncio.AbstractEventLoop, asyncio.Future[object]] | None]
        self._queue = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()
        self._closed = False

    async def submit(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """The operation's result, once it is on disk. Raises what it raised, `Overloaded`, `ProviderUnavailable`.

        A cancelled caller leaves the operation in the queue: it may still be carried out.
        """
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        try:
            self._queue.put_nowait((operation, loop, future))
        except queue.Full:
            raise Overloaded(f"{_QUEUE} writes wait for the SQLite file") from None
        return cast("T", await future)

    def close(self) -> None:
        """Finish what is queued and stop; blocks. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            self._connection.close()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ended = False
            while len(batch) < _BATCH:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    ended = True
                    break
                batch.append(item)
            outcomes = self._transaction([operation for operation, _, _ in batch])
            for (_, loop, future), outcome in zip(batch, outcomes, strict=True):
                try:
                    loop.call_soon_threadsafe(_settle, future, outcome)
                except RuntimeError:
                    # The caller's event loop has ended; nobody waits for this answer any more.
                    continue
            if ended:
                return

    def _transaction(self, operations: list[Operation]) -> list[object]:
        committing = False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._guarded(operation) for operation in operations]
            committing = True
            self._connection.execute("COMMIT")
            return outcomes
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            failures = [ProviderUnavailable(f"the SQLite file refused a write: {error}") for _ in operations]
            for failure in failures:
                failure.untouched = not committing
            return list(failures)

    def _guarded(self, operation: Operation) -> object:
        """What it returns or raises, the latter undone. What concerns the file, and so all operations, is raised:
        `sqlite3.OperationalError`, and the plain `sqlite3.DatabaseError` of a damaged one."""
        self._connection.execute("SAVEPOINT operation")
        outcome: object
        try:
            outcome = operation(self._connection)
        except PerdureError as error:
            outcome = error
        except sqlite3.DataError as error:
            outcome = TooLarge(f"SQLite cannot hold a value of this size: {error}")
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                raise
            # The thread must go on; whoever asked for this gets the error.
            outcome = InternalError(f"an operation on the SQLite file failed: {error!r}")
        if isinstance(outcome, PerdureError):
            self._connection.execute("ROLLBACK TO operation")
        self._connection.execute("RELEASE operation")
        return outcome


def _settle(future: asyncio.Future[object], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, PerdureError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
