"""Perdure's schema in the database: made by whichever host comes first, checked at each connection.

Every step is one transaction under an advisory lock, so that hosts which start together do not meet. The functions of
several versions live side by side; a change of the tables raises VERSION, and its upgrade drops the functions that do
not fit any more, so that hosts of a former version stop instead of writing what is wrong.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import asyncpg

from perdure.errors import ProviderUnavailable

VERSION = 2
_OLDEST_SERVER = 130000


class Scripts:
    """The SQL of this version for one schema. `sql` puts the schema and the functions' suffix into a statement."""

    def __init__(self, schema: str) -> None:
        source = files("perdure.providers.postgres")
        self.schema = schema
        self._tables = source.joinpath("tables.sql").read_text(encoding="utf-8")
        self._upgrades = {
            version: source.joinpath("upgrades", f"{version}.sql").read_text(encoding="utf-8")
            for version in range(2, VERSION + 1)
        }
        scripts = sorted(source.joinpath("functions").iterdir(), key=lambda script: script.name)
        self._functions = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
        everything = "".join((self._tables, *self._upgrades.values(), self._functions))
        self._suffix = hashlib.sha256(everything.encode()).hexdigest()[:8]
        self.lock = int.from_bytes(hashlib.sha256(b"perdure " + schema.encode()).digest()[:8], "big", signed=True)

    def sql(self, statement: str) -> str:
        return statement.replace("SCHEMA.", f'"{self.schema}".').replace("_VERSION", f"_{self._suffix}")

    @property
    def tables(self) -> str:
        return self.sql(self._tables)

    def upgrades(self, found: int) -> list[str]:
        """From the tables of version `found` to those of VERSION."""
        return [self.sql(script) for version, script in self._upgrades.items() if version > found]

    @property
    def functions(self) -> str:
        return self.sql(self._functions)


async def prepare(connection: asyncpg.Connection, scripts: Scripts, where: str) -> None:
    """Make a new connection ready. Raises `ProviderUnavailable` for a server that cannot be used."""
    version, standby, installed = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), to_regproc($1) IS NOT NULL",
        scripts.sql("SCHEMA.purge_VERSION"),
    )
    if version < _OLDEST_SERVER:
        raise ProviderUnavailable(
            f"PostgreSQL at {where} is version {version // 10000}; {_OLDEST_SERVER // 10000} or newer is needed",
            retry_after=30,
            cause="unsuitable",
        )
    if standby:
        raise ProviderUnavailable(
            f"PostgreSQL at {where} is a standby: a failover is under way, or the URL names one", cause="unsuitable"
        )
    if not installed:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", scripts.lock)
            await _install(connection, scripts, where)


async def _install(connection: asyncpg.Connection, scripts: Scripts, where: str) -> None:
    schema, meta, functions = await connection.fetchrow(
        "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL, to_regproc($3) IS NOT NULL",
        f'"{scripts.schema}"',
        scripts.sql("SCHEMA.meta"),
        scripts.sql("SCHEMA.purge_VERSION"),
    )
    if not schema:
        await connection.execute(f'CREATE SCHEMA "{scripts.schema}"')
    if not meta:
        await connection.execute(scripts.tables)
    found = await connection.fetchval(scripts.sql("SELECT version FROM SCHEMA.meta"))
    if found > VERSION:
        raise ProviderUnavailable(
            f"the schema {scripts.schema} of PostgreSQL at {where} was written by a newer Perdure (version {found}, "
            f"this is {VERSION})",
            retry_after=30,
            cause="unsuitable",
        )
    for upgrade in scripts.upgrades(found):
        await connection.execute(upgrade)
    if not functions:
        await connection.execute(scripts.functions)
