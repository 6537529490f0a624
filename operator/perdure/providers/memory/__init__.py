"""The memory provider: durability D0. For tests and for Workers that need no more than one process' life."""

from perdure.providers.memory.store import MemoryStore
from perdure.providers.memory.world import MemoryWorld

__all__ = ["MemoryStore", "MemoryWorld"]
