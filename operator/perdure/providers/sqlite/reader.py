"""Reads: a few threads with a connection each, so that they neither wait for the writer nor stop the event loop.

Each read is one transaction, so that it sees one state of the file: the present one. Bounded: `_WAITING` reads at
once, `Overloaded` beyond.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from perdure.errors import Overloaded, ProviderUnavailable
from perdure.providers.sqlite.schema import connect

T = TypeVar("T")
_THREADS = 2
_WAITING = 4096


class Reader:
    """`run` runs a query on one of its threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sqlite-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._waiting = 0
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Raises `ProviderUnavailable`, `Overloaded`."""
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        if self._waiting >= _WAITING:
            raise Overloaded(f"{_WAITING} reads wait for the SQLite file")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, query)
        future.add_done_callback(self._done)
        return await future

    def close(self) -> None:
        """Finish what is under way; blocks. Idempotent."""
        if not self._closed:
            self._closed = True
            self._threads.shutdown()
            for connection in self._connections:
                connection.close()

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def _transaction(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                return query(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise ProviderUnavailable(f"the SQLite file refused a read: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, writer=False)
            self._connections.append(connection)
        return connection
