"""The functions and resources of wasi:filesystem, by name."""

from __future__ import annotations

from perdure.component.host import HostFunction
from perdure.wasi.files import descriptors as d

_TYPES = "wasi:filesystem/types"
_METHODS: dict[str, HostFunction] = {
    "advise": d.accepted,
    "get-flags": d.get_flags,
    "get-type": d.get_type,
    "is-same-object": d.is_same_object,
    "metadata-hash": d.metadata_hash,
    "metadata-hash-at": d.metadata_hash_at,
    "open-at": d.open_at,
    "read": d.read,
    "read-directory": d.read_directory,
    "read-via-stream": d.read_via_stream,
    "readlink-at": d.readlink_at,
    "stat": d.stat,
    "stat-at": d.stat_at,
    "sync": d.accepted,
    "sync-data": d.accepted,
}
_CHANGES = (
    "append-via-stream", "create-directory-at", "link-at", "remove-directory-at", "rename-at", "set-size", "set-times",
    "set-times-at", "symlink-at", "unlink-file-at", "write", "write-via-stream",
)  # fmt: skip

FUNCTIONS: dict[tuple[str, str], HostFunction] = {
    ("wasi:filesystem/preopens", "get-directories"): d.get_directories,
    (_TYPES, "filesystem-error-code"): d.error_code,
    (_TYPES, "[method]directory-entry-stream.read-directory-entry"): d.read_directory_entry,
    **{(_TYPES, f"[method]descriptor.{name}"): function for name, function in _METHODS.items()},
    **{(_TYPES, f"[method]descriptor.{name}"): d.refused for name in _CHANGES},
}

DROPS: dict[tuple[str, str], HostFunction] = {(_TYPES, "descriptor"): d.drop}
