"""What PostgreSQL's errors mean: each is temporary (`ProviderUnavailable`, with the next step), or a defect.

Classes and codes: PostgreSQL's documentation, appendix A. An error of the server says that nothing was done; where the
connection was lost, the outcome is unknown.
"""

from __future__ import annotations

import ssl

import asyncpg

from perdure.durable.feeds import feed_full
from perdure.errors import Cause, InternalError, PerdureError, ProviderUnavailable, TooLarge

# Rolled back for certain, and likely to work when repeated at once.
REPEATED = {"40001", "40P01"}
# Of our own functions: a watched bucket takes no changes; the message is its name in hexadecimal.
FULL = "PD001"
# The schema or the functions are not there (any more): they are made anew by the next connection.
MISSING = {"42P01", "42883", "3F000", "42704"}
_TEMPORARY = {
    "25006": "the server is read-only: a standby, or a failover is under way",
    "3D000": "there is no such database: create it, or correct the URL",
    "42501": "the role may not do this: let it create the schema, or let its owner own Perdure's schema",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has too many connections: raise max_connections, or lower the provider's connections",
    "55P03": "a lock was not to be had in time",
    "57014": "the operation took longer than the timeout",
    "57P01": "the server is shutting down",
    "57P02": "the server recovers from a crash",
    "57P03": "the server is starting or shutting down",
    "57P04": "the database was dropped",
}
_UNSUITABLE = {"25006", "3D000", "42501"}
"""Until somebody changes something."""
_TEMPORARY_CLASSES = {
    "08": "the connection failed",
    "40": "the transaction met another one",
    "53": "the server lacks resources",
    "57": "the server intervened",
    "58": "the server cannot use its files: see its log",
}


def translate(error: Exception, where: str) -> PerdureError:
    """`where` holds no credentials, and no text of the server's about values is passed on."""
    if isinstance(error, PerdureError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, where)
    if isinstance(error, ssl.SSLError):
        return ProviderUnavailable(
            f"PostgreSQL at {where}: TLS failed ({error.reason or error})", retry_after=5, cause="tls"
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ProviderUnavailable(f"PostgreSQL at {where}: the URL cannot be used ({error})", retry_after=30)
    # asyncpg's own refusal of an argument is a ValueError too: that is a defect.
    lost = (OSError, TimeoutError, asyncpg.InternalClientError, asyncpg.InterfaceError)
    if isinstance(error, lost) and not isinstance(error, ValueError):
        return ProviderUnavailable(f"PostgreSQL at {where} does not answer ({type(error).__name__})", cause="no-answer")
    return InternalError(f"PostgreSQL at {where} answered unexpectedly: {type(error).__name__}: {str(error)[:200]}")


def _of_server(error: asyncpg.PostgresError, where: str) -> PerdureError:
    code = error.sqlstate or ""
    if code.startswith("28"):
        return ProviderUnavailable(
            f"PostgreSQL at {where} refused the credentials or the host ({code}): see credentialsSecretRef and the "
            "server's pg_hba.conf",
            retry_after=5,
            cause="credentials",
        )
    if code == FULL:
        return feed_full(bytes.fromhex(str(error)).decode())
    if code in MISSING:
        return ProviderUnavailable(f"PostgreSQL at {where}: Perdure's tables are gone ({code})")
    if code.startswith("54"):
        return TooLarge(f"PostgreSQL at {where} cannot hold a name, key or value of this size ({code})")
    reason = _TEMPORARY.get(code) or _TEMPORARY_CLASSES.get(code[:2])
    if reason is not None:
        cause: Cause = "unsuitable" if code in _UNSUITABLE else "refused"
        return ProviderUnavailable(f"PostgreSQL at {where}: {reason} ({code})", retry_after=2, cause=cause)
    return InternalError(f"PostgreSQL at {where} answered unexpectedly ({code}): {str(error)[:200]}")
