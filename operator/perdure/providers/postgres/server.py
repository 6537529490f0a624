"""What the server is, and what its acknowledgement of a commit is worth."""

from __future__ import annotations

from perdure.durable.records import ProviderInfo
from perdure.providers.postgres.client import PostgresClient

# Locking a row is written to the log and waited for like a commit: this proves that the server takes writes. Of hosts
# that ask at the same moment one does so.
_LOOK = """
WITH touched AS MATERIALIZED (SELECT one FROM SCHEMA.meta FOR UPDATE SKIP LOCKED)
SELECT (SELECT count(*) FROM touched), current_setting('server_version') AS version, current_setting('fsync') AS fsync,
  current_setting('synchronous_commit') AS commit, current_setting('synchronous_standby_names') AS standbys,
  current_setting('full_page_writes') AS pages
"""


async def look(client: PostgresClient) -> ProviderInfo:
    """One round trip. Raises `ProviderUnavailable`."""
    found = await client.one(_LOOK)
    level, warnings = _durability(found["fsync"], found["commit"], found["standbys"].strip())
    if found["pages"] != "on":
        warnings = (*warnings, "full_page_writes is off: a crash of the machine may damage tables")
    settings = (
        ("fsync", found["fsync"]),
        ("synchronous_commit", found["commit"]),
        ("synchronous_standby_names", found["standbys"].strip()),
        ("full_page_writes", found["pages"]),
    )
    return ProviderInfo("postgres", found["version"].split()[0], level, warnings, settings=settings)


def _durability(fsync: str, commit: str, standbys: str) -> tuple[str, tuple[str, ...]]:
    """As PostgreSQL's documentation describes `synchronous_commit` (section 20.5.1)."""
    if fsync != "on":
        return "D0", ("fsync is off: a crash of the server's machine may lose or damage everything",)
    if commit == "off":
        return "D1", ("synchronous_commit is off: a crash of the server loses its last commits",)
    if not standbys:
        return "D2", ()
    if commit == "local":
        return "D2", ("synchronous_commit is local: commits do not wait for the standbys",)
    if commit == "remote_write":
        return "D3", ("synchronous_commit is remote_write: standbys acknowledge before the data is on their disks",)
    return "D4", ()
