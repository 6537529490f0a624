"""What Redis' errors mean: each is either temporary (`ProviderUnavailable`, with the next step) or a defect."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import hiredis

from perdure.errors import Cause, InternalError, PerdureError, ProviderUnavailable

_TEMPORARY = {
    "READONLY": "the server is a replica: a failover is under way, or the URL names a replica",
    "LOADING": "the server is loading its data",
    "MISCONF": "the server cannot write its files: see its log",
    "OOM": "the server is out of memory (maxmemory): give it more, or delete data",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the Worker's slot is being moved",
    "MOVED": "the Worker's slot is served by another member of the cluster: set `cluster` for this provider",
    "ASK": "the Worker's slot is being moved",
    "BUSY": "the server is busy with a script",
    "MASTERDOWN": "the replica has lost its primary",
    "NOREPLICAS": "the server has too few replicas to take writes",
}
_CREDENTIALS = ("NOAUTH", "WRONGPASS", "NOPERM")


def word_of(error: Exception) -> str:
    """The first word of a server's error tells its kind."""
    return str(error).split(" ", 1)[0]


def none_left(what: str, failures: Sequence[PerdureError]) -> ProviderUnavailable:
    """All that could be asked have failed. Their cause is told where it is the same."""
    causes: set[Cause] = {error.cause if isinstance(error, ProviderUnavailable) else "refused" for error in failures}
    cause = causes.pop() if len(causes) == 1 else "refused"
    return ProviderUnavailable(f"{what}: " + "; ".join(error.detail for error in failures), cause=cause)


def translate(error: Exception, where: str) -> PerdureError:
    """`where` holds no credentials."""
    text, word = str(error), word_of(error)
    if isinstance(error, hiredis.ReplyError):
        if word in _CREDENTIALS or text.startswith("ERR AUTH"):
            return ProviderUnavailable(
                f"Redis at {where} refused the credentials ({word if word != 'ERR' else 'AUTH'}): "
                "see credentialsSecretRef",
                retry_after=5,
                cause="credentials",
            )
        if word in _TEMPORARY:
            return ProviderUnavailable(f"Redis at {where}: {_TEMPORARY[word]} ({word})", retry_after=2)
        return InternalError(f"Redis at {where} answered unexpectedly: {text[:200]}")
    if isinstance(error, ssl.SSLError):
        return ProviderUnavailable(
            f"Redis at {where}: TLS failed ({error.reason or type(error).__name__})", cause="tls"
        )
    if isinstance(error, (OSError, TimeoutError)):
        return ProviderUnavailable(f"Redis at {where} does not answer ({type(error).__name__})", cause="no-answer")
    return InternalError(f"Redis at {where}: {type(error).__name__}: {text[:200]}")
