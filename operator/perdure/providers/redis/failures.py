"""What Redis' errors mean: each is either temporary (`ProviderUnavailable`, with the next step) or a defect."""

from __future__ import annotations

from redis import exceptions

from perdure.errors import InternalError, PerdureError, ProviderUnavailable

_TEMPORARY = {
    "READONLY": "the server is a replica: a failover is under way, or the URL names a replica",
    "LOADING": "the server is loading its data",
    "MISCONF": "the server cannot write its files: see its log",
    "OOM": "the server is out of memory (maxmemory): give it more, or delete data",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "a slot is being moved",
    "MOVED": "the server is a member of a Redis Cluster, which this version does not follow",
    "ASK": "a slot is being moved",
    "BUSY": "the server is busy with a script",
    "MASTERDOWN": "the replica has lost its primary",
    "NOREPLICAS": "the server has too few replicas to take writes",
}
_CREDENTIALS = ("NOAUTH", "WRONGPASS", "NOPERM")


def translate(error: Exception, url: str) -> PerdureError:
    """`url` holds no credentials."""
    text = str(error)
    word = text.split(" ", 1)[0]
    if isinstance(error, exceptions.AuthenticationError) or word in _CREDENTIALS:
        return ProviderUnavailable(
            f"Redis at {url} refused the credentials ({word if word.isupper() else 'AUTH'}): see credentialsSecretRef",
            retry_after=5,
        )
    if word in _TEMPORARY:
        return ProviderUnavailable(f"Redis at {url}: {_TEMPORARY[word]} ({word})", retry_after=2)
    if isinstance(error, exceptions.BusyLoadingError):
        return ProviderUnavailable(f"Redis at {url}: {_TEMPORARY['LOADING']}", retry_after=2)
    if isinstance(error, exceptions.ReadOnlyError):
        return ProviderUnavailable(f"Redis at {url}: {_TEMPORARY['READONLY']}", retry_after=2)
    if isinstance(error, exceptions.OutOfMemoryError):
        return ProviderUnavailable(f"Redis at {url}: {_TEMPORARY['OOM']}", retry_after=2)
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError, TimeoutError)):
        return ProviderUnavailable(f"Redis at {url} does not answer ({type(error).__name__})")
    return InternalError(f"Redis at {url} answered unexpectedly: {text[:200]}")
