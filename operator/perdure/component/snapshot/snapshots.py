"""Snapshots of one component's instances.

A snapshot holds linear memories, mutable globals and handle tables between two calls. It is restored into a blank
instance: no guest code runs, so no start function asks the host for anything, and what it asked for when the first
instance was made is part of the state that is restored. What the host keeps for an instance (its context, open
resources) is the host's own: resources pass through its `ResourceCodec`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.component.instance import Instance, InstanceLimits
from perdure.component.snapshot.capture import read_state
from perdure.component.snapshot.codec import NoHostResources, ResourceCodec
from perdure.component.snapshot.content import State, apply, difference
from perdure.component.snapshot.format import Envelope, Header, open_envelope, read_header, seal
from perdure.component.snapshot.image import InitialImage, initial_image
from perdure.component.snapshot.pages import PAGE
from perdure.component.snapshot.restore import write_state
from perdure.errors import GuestTrapped, SnapshotError, SnapshotRefused

if TYPE_CHECKING:
    from perdure.component.component import BoundComponent

_HANDLES = 64 << 20
"""Bytes that handle tables may take, saved."""
_NO_LIMITS = InstanceLimits(memory=1 << 40, memories=1 << 20, tables=1 << 20, table_elements=1 << 32)
"""Of the blank instance, since the limits of those to come are not known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`checksum` is its identity, 32 bytes. `state` makes it the possible parent of a delta."""

    data: bytes
    checksum: bytes
    state: State


class Snapshots:
    """Made by `prepare`, once for a bound component; of use as long as its engine."""

    def __init__(self, bound: BoundComponent, initial: InitialImage) -> None:
        self._bound = bound
        self._initial = initial
        self._closed = False
        self._component = bytes.fromhex(bound.component.digest.removeprefix("sha256:"))
        resources = bound.component.plan.resources
        self._guests = [[one.component_instance is not None for one in resources] for _ in initial.instance.tables]

    @classmethod
    async def prepare(cls, bound: BoundComponent) -> Snapshots:
        """Raises `SnapshotRefused` when no instance of the component can be captured."""
        refusal = bound.component.layout.refusal
        if refusal is not None:
            reason, words = refusal
            raise SnapshotRefused(f"instances of this component cannot be captured: {words}", reason=reason)
        try:
            blank = await bound.blank(None, limits=_NO_LIMITS)
        except GuestTrapped as error:
            raise SnapshotRefused(
                "instances of this component cannot be captured: its segments need what start functions do first "
                f"({error.detail})",
                reason="start-dependent",
            ) from error
        return cls(bound, await asyncio.to_thread(initial_image, blank))

    def capture(
        self,
        instance: Instance,
        *,
        codec: ResourceCodec | None = None,
        parent: Snapshot | None = None,
        prefilter: bool = True,
    ) -> Snapshot:
        """The instance's state, in full or as a delta to `parent`. Takes milliseconds and changes nothing.

        `prefilter` False: compare every page, whatever the kernel says. Raises `SnapshotRefused`, and `ValueError` for
        an instance or a parent of another component.
        """
        self._require_open()
        if instance.bound.component.digest != self._bound.component.digest:
            raise ValueError(f"instance: it is of component {instance.bound.component.digest}, not of this one")
        if parent is not None and not self._is_own(parent):
            raise ValueError("parent: a snapshot of another component, or one with another initial image")
        state = read_state(instance, self._initial, codec or NoHostResources(), prefilter=prefilter)
        return self._sealed(state, parent)

    def merge(self, chain: Sequence[bytes]) -> Snapshot:
        """A full snapshot that is worth a full one and the deltas after it. Raises `SnapshotError`."""
        return self._sealed(self.read(chain).state, None)

    def read(self, chain: Sequence[bytes], *, limits: InstanceLimits | None = None) -> Snapshot:
        """Check a full snapshot and the deltas that follow it, in order, and join them. The result is the last one,
        and may be the parent of the next. Raises `SnapshotError`."""
        self._require_open()
        if not chain:
            raise SnapshotError("there is no snapshot", reason="truncated")
        most = self._most(limits or InstanceLimits())
        state: State | None = None
        before: bytes | None = None
        for data in chain:
            envelope = open_envelope(data)
            self._check(envelope, before)
            state = apply(envelope.content(most), self._initial, state, self._guests)
            before = envelope.checksum
        assert state is not None and before is not None
        return Snapshot(chain[-1], before, state)

    async def restore(
        self,
        chain: Sequence[bytes],
        context: object,
        *,
        codec: ResourceCodec | None = None,
        limits: InstanceLimits | None = None,
    ) -> tuple[Instance, Snapshot]:
        """An instance that goes on where the captured one was, with `context` as its host context, and the snapshot
        its next delta may follow. Raises `SnapshotError`."""
        snapshot = self.read(chain, limits=limits)
        try:
            instance = await self._bound.blank(context, limits=limits)
        except GuestTrapped as error:
            # Blank instances of the component can be made (`prepare`), but for its limits.
            raise SnapshotError(
                f"the limits do not allow an instance of the component: {error.detail}", reason="limit"
            ) from error
        try:
            write_state(instance, snapshot.state, self._initial, codec or NoHostResources())
        except BaseException:
            instance.close()
            raise
        return instance, snapshot

    def close(self) -> None:
        """Free the initial image; idempotent. Nothing can be captured or restored any more (`RuntimeError`)."""
        self._closed = True
        self._initial.instance.close()

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("these snapshots were closed: their initial image is gone")

    def _is_own(self, snapshot: Snapshot) -> bool:
        header = read_header(snapshot.data)
        mine = (self._component, self._bound.component.layout.digest, self._initial.digest)
        return (header.component, header.layout, header.initial) == mine

    def _sealed(self, state: State, parent: Snapshot | None) -> Snapshot:
        content = difference(state, self._initial, None if parent is None else parent.state)
        above = None if parent is None else parent.checksum
        layout = self._bound.component.layout.digest
        data, checksum = seal(self._component, layout, self._initial.digest, above, content)
        return Snapshot(data, checksum, state)

    def _check(self, envelope: Envelope, before: bytes | None) -> None:
        header: Header = envelope.header
        if header.component != self._component:
            raise SnapshotError(
                f"the snapshot is of component sha256:{header.component.hex()}, not {self._bound.component.digest}",
                reason="component",
            )
        if header.layout != self._bound.component.layout.digest:
            raise SnapshotError("the snapshot numbers the component's state in another way", reason="layout")
        if header.initial != self._initial.digest:
            raise SnapshotError("the snapshot is a difference to another initial image", reason="initial-image")
        if header.parent != before:
            raise SnapshotError(
                f"the snapshot is {_place(header.parent)} where {_place(before)} is wanted", reason="parent"
            )

    def _most(self, limits: InstanceLimits) -> int:
        """Bytes of content that an instance of these limits can have."""
        memories = sum(max(limits.memory, size) for size in self._initial.sizes)
        return memories + memories // PAGE * 4 + len(self._initial.globals) + _HANDLES


def _place(parent: bytes | None) -> str:
    return "a full one" if parent is None else f"a delta to {parent.hex()}"
