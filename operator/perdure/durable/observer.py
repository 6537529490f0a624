"""What the engine tells about itself. The defaults do nothing, so the engine runs without metrics."""

from __future__ import annotations


class Hooks:
    """Override what you want to see. Called on the event loop; must not block or raise."""

    def invocation(self, function: str, outcome: str, seconds: float) -> None:
        """An invocation ended: ok, replayed (stored result), trapped, timeout, refused, error."""

    def host_call(self, call: str) -> None:
        """The guest made a recorded call, e.g. `keyvalue.get`."""

    def commit(self, outcome: str) -> None:
        """A commit was answered: applied, duplicate, fenced, failed."""

    def replay(self, entries: int, seconds: float) -> None:
        """An instance was rebuilt from that many journal entries."""

    def provider_error(self, provider: str, code: str) -> None:
        """A provider answered with an error."""
