"""The etcd provider (3.5 or newer): buckets only, by the server's JSON gateway. Exactly once; durability D2 on one
server, D4 on several."""

from perdure.providers.etcd.config import EtcdConfig
from perdure.providers.etcd.store import EtcdStore

__all__ = ["EtcdConfig", "EtcdStore"]
