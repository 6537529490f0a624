"""What the engine tells about itself. The defaults do nothing, so the engine runs without metrics."""

from __future__ import annotations


class Hooks:
    """Override what you want to see. Called on the event loop; must not block or raise."""

    def invocation(self, function: str, outcome: str, seconds: float) -> None:
        """An invocation ended: ok, replayed (stored result), trapped, timeout, refused, error."""

    def host_call(self, call: str) -> None:
        """The guest made a recorded call, e.g. `keyvalue.get`."""

    def commit(self, outcome: str) -> None:
        """A commit was answered: applied, duplicate, key-used, cancelled, fenced, lost, failed."""

    def lost(self, commits: int) -> None:
        """The store has lost commits that it had acknowledged."""

    def replay(self, entries: int, seconds: float) -> None:
        """An instance was rebuilt from that many journal entries, and its snapshot if it has one."""

    def snapshot(self, outcome: str, size: int, seconds: float) -> None:
        """A snapshot of that many bytes was taken: kept, refused, failed. `seconds`: the loop was held up."""

    def attempt(self, outcome: str) -> None:
        """An attempt of an asynchronous call ended: succeeded, retried, quarantined, cancelled."""

    def updated(self, outcome: str) -> None:
        """An instance met another component: restarted, migrated, pinned, failed."""

    def provider_error(self, provider: str, code: str) -> None:
        """A provider answered with an error."""
