"""The connections to PostgreSQL: a bounded number of lanes, each with one connection and one operation at a time.

An operation is one statement, so one round trip and one transaction. Transactions of several connections share the
server's write to its log. Bounded: `_WAITING` operations wait, none longer than the timeout (`Overloaded` beyond).

A cancelled caller leaves its operation in its lane, and nobody else gets its answer. Nothing is ever cancelled at the
server from here: a commit that waits for a synchronous standby would then be acknowledged without it. A server that
does not answer in time has its connection cut; its own timeouts end what it was doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

from perdure.errors import Overloaded, PerdureError, ProviderUnavailable
from perdure.providers.postgres.config import PostgresConfig
from perdure.providers.postgres.failures import MISSING, REPEATED, translate
from perdure.providers.postgres.install import Scripts, prepare

_WAITING = 4096
_REPEATS = 5
# So much later than the server's own timeout, the connection is given up.
_GRACE = 1.0
_HEAVY = 60.0
# Not sent at the start of the session, where poolers refuse them. Every statement has its index, and a plan that was
# made while a table was small must not outlive that.
_SETTINGS = """
SET statement_timeout = TIMEOUT; SET lock_timeout = TIMEOUT; SET idle_in_transaction_session_timeout = TIMEOUT;
SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET jit = off
"""

Row: TypeAlias = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Request:
    statement: str
    args: tuple[object, ...]
    heavy: bool
    future: asyncio.Future[list[Row]]
    expiry: asyncio.TimerHandle | None = None


class PostgresClient:
    """`fetch` runs a statement; `SCHEMA.` and `_VERSION` in it are put in (`Scripts.sql`)."""

    def __init__(self, config: PostgresConfig) -> None:
        self.where = config.where
        self._config = config
        self._scripts = Scripts(config.schema)
        self._statements: dict[str, str] = {}
        self._queue: deque[_Request] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._connections: set[asyncpg.Connection] = set()
        self._closed = False

    async def fetch(self, statement: str, *args: object, heavy: bool = False) -> list[Row]:
        """The rows. `heavy`: it may take a minute. Raises `ProviderUnavailable` (outcome unknown), `Overloaded`,
        `TooLarge`."""
        if self._closed:
            raise ProviderUnavailable("the store is closed")
        if len(self._queue) >= _WAITING:
            raise Overloaded(f"{_WAITING} operations wait for PostgreSQL at {self.where}")
        loop = asyncio.get_running_loop()
        request = _Request(self._sql(statement), args, heavy, loop.create_future())
        self._queue.append(request)
        if self._wake():
            pass
        elif len(self._lanes) < self._config.connections:
            lane = loop.create_task(self._lane(), name="postgres-lane")
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        else:
            request.expiry = loop.call_later(self._config.timeout, self._expire, request)
        return await request.future

    async def row(self, statement: str, *args: object, heavy: bool = False) -> Row | None:
        """The first row, or None. Raises as `fetch`."""
        rows = await self.fetch(statement, *args, heavy=heavy)
        return rows[0] if rows else None

    async def one(self, statement: str, *args: object, heavy: bool = False) -> Row:
        """The row of a statement that always gives one. Raises as `fetch`."""
        rows = await self.fetch(statement, *args, heavy=heavy)
        return rows[0]

    async def value(self, statement: str, *args: object, heavy: bool = False) -> Any:
        """The only value of the only row. Raises as `fetch`."""
        row = await self.one(statement, *args, heavy=heavy)
        return next(iter(row.values()))

    async def close(self) -> None:
        """Let what is under way finish, then disconnect. Idempotent."""
        if self._closed:
            return
        self._closed = True
        while self._wake():
            pass
        await self._lanes_end(self._config.timeout + _GRACE)
        while self._queue:
            _settle(self._queue.popleft(), ProviderUnavailable("the store is closed"))
        # To cancel a lane would cancel its statement at the server.
        for connection in list(self._connections):
            connection.terminate()
        await self._lanes_end(_GRACE)
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lanes_end(self, timeout: float) -> None:
        if self._lanes:
            await asyncio.wait(self._lanes, timeout=timeout)

    def _sql(self, statement: str) -> str:
        found = self._statements.get(statement)
        if found is None:
            found = self._statements[statement] = self._scripts.sql(statement)
        return found

    def _wake(self) -> bool:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def _expire(self, request: _Request) -> None:
        with contextlib.suppress(ValueError):
            self._queue.remove(request)
            _settle(
                request,
                Overloaded(
                    f"none of the {self._config.connections} connections to PostgreSQL at {self.where} was free "
                    f"within {self._config.timeout:g} s"
                ),
            )

    async def _lane(self) -> None:
        connection: asyncpg.Connection | None = None
        request: _Request | None = None
        try:
            while True:
                if not self._queue:
                    if self._closed:
                        return
                    waiter = asyncio.get_running_loop().create_future()
                    self._idle.append(waiter)
                    await waiter
                    continue
                request = self._queue.popleft()
                if request.expiry is not None:
                    request.expiry.cancel()
                if request.future.done():
                    continue
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._connect()
                    _settle(request, await self._run(connection, request))
                except Exception as caught:  # noqa: BLE001 - the lane must go on; whoever asked gets the error
                    error = _told(caught, connection)
                    if connection is not None and not _usable(error, request):
                        connection.terminate()
                        connection = None
                    _settle(request, translate(error, self.where))
        finally:
            if request is not None:
                _settle(request, ProviderUnavailable("the store was closed while an operation was under way"))
            if connection is not None:
                await _disconnect(connection)

    async def _connect(self) -> asyncpg.Connection:
        config = self._config
        user, password = config.credentials()
        options: dict[str, Any] = {}
        if user is not None:
            options["user"] = user
        if password is not None:
            options["password"] = password
        connection: asyncpg.Connection = await asyncpg.connect(
            config.url,
            timeout=config.timeout,
            ssl=self._tls(),
            target_session_attrs="primary" if "," in config.where else "any",
            server_settings={"application_name": "perdure"},
            **options,
        )
        try:
            with self._watched(connection, config.timeout):
                await connection.execute(_SETTINGS.replace("TIMEOUT", str(int(config.timeout * 1000))))
                await prepare(connection, self._scripts, self.where)
        except BaseException:
            connection.terminate()
            raise
        self._connections.add(connection)
        connection.add_termination_listener(self._connections.discard)
        return connection

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._config.tls:
            return False
        try:
            return ssl.create_default_context(cafile=self._config.ca)
        except OSError as error:
            raise ProviderUnavailable(
                f"PostgreSQL at {self.where}: the CA certificate {self._config.ca} cannot be read ({error})",
                cause="tls",
            ) from error

    async def _run(self, connection: asyncpg.Connection, request: _Request) -> list[Row]:
        for attempt in range(_REPEATS):
            try:
                with self._watched(connection, _HEAVY if request.heavy else self._config.timeout):
                    if request.heavy:
                        return await self._run_heavy(connection, request)
                    rows: list[Row] = await connection.fetch(request.statement, *request.args)
                    return rows
            except asyncpg.PostgresError as error:
                if error.sqlstate not in REPEATED or attempt == _REPEATS - 1:
                    raise
        raise AssertionError("the loop above returns or raises")

    async def _run_heavy(self, connection: asyncpg.Connection, request: _Request) -> list[Row]:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {int(_HEAVY * 1000)}")
            rows: list[Row] = await connection.fetch(request.statement, *request.args)
            return rows

    @contextlib.contextmanager
    def _watched(self, connection: asyncpg.Connection, seconds: float) -> Iterator[None]:
        """Cut the connection when it takes longer. Raises `ProviderUnavailable` then."""
        cut = False

        def give_up() -> None:
            nonlocal cut
            cut = True
            connection.terminate()

        watchdog = asyncio.get_running_loop().call_later(seconds + _GRACE, give_up)
        try:
            yield
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not cut:
                raise
            raise ProviderUnavailable(
                f"PostgreSQL at {self.where} did not answer within {seconds + _GRACE:g} s", cause="no-answer"
            ) from error
        finally:
            watchdog.cancel()


def _told(error: Exception, connection: asyncpg.Connection | None) -> Exception:
    """A connection that is lost between the steps of one operation has no protocol any more, over which asyncpg
    stumbles: that is no defect of the operation's."""
    if isinstance(error, AttributeError) and connection is not None and connection.is_closed():
        return ConnectionResetError("the connection was lost")
    return error


def _usable(error: Exception, request: _Request) -> bool:
    """Whether the connection may be used on: after an error of the server's about the statement only."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    code = error.sqlstate or ""
    return code not in MISSING and code != "25006" and code[:2] not in ("08", "57", "58") and not request.heavy


def _settle(request: _Request, outcome: list[Row] | PerdureError) -> None:
    if request.future.done():
        return
    if isinstance(outcome, PerdureError):
        request.future.set_exception(outcome)
    else:
        request.future.set_result(outcome)


async def _disconnect(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=_GRACE)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        connection.terminate()
