"""What all parts of the memory store stand on: the Worker's data, and the check of the token."""

from __future__ import annotations

from perdure.durable.records import OwnerToken, WorkerId
from perdure.errors import Fenced
from perdure.providers.memory.world import Instance, MemoryWorld, WorkerData


class Base:
    """The parts are mixed into `MemoryStore`. None of their methods awaits anything, so each is atomic."""

    def __init__(self, world: MemoryWorld, worker: WorkerId) -> None:
        self._world = world
        self._worker = worker

    @property
    def _data(self) -> WorkerData:
        return self._world.workers.setdefault(self._worker, WorkerData())

    def _owned(self, instance: str, token: OwnerToken) -> Instance:
        held = self._data.instances.get(instance)
        if held is None or held.token.epoch == 0 or held.token != token:
            raise Fenced(f"instance {instance!r} is owned by another host now")
        return held

    def _finished(self, held: Instance, key: str) -> bool:
        found = held.results.get(key)
        return found is not None and found[1] > self._world.now()

    def _forget_if_empty(self, instance: str) -> None:
        """An instance that was never claimed exists for its inbox only."""
        held = self._data.instances.get(instance)
        if held is not None and held.token.epoch == 0 and not held.inbox:
            del self._data.instances[instance]
