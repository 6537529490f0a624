"""Snapshots of instances: capture between two calls, restore in any process.

`pages` (what changed) and `image` (since when) → `capture` → `content` (difference, bytes) → `format` (envelope), and
back through `restore`; `snapshots` joins them and is what hosts use.
"""

from perdure.component.snapshot.codec import ResourceCodec
from perdure.component.snapshot.format import open_envelope
from perdure.component.snapshot.snapshots import Snapshot, Snapshots

__all__ = ["ResourceCodec", "Snapshot", "Snapshots", "open_envelope"]
