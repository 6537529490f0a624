"""Sending to a peer that stands still: for how long its answer is waited for. The sockets are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from perdure.durable.records import HostRecord
from perdure.errors import InvocationTimeout, ProviderUnavailable
from perdure.host.peers import ForwardedReply, PeerRequest, Peers, PeerUnreachable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class Peer:
    """Answers calls after `takes` seconds, and other requests at once; None: never anything. `breaks`: it takes a call, and
    is gone."""

    def __init__(self) -> None:
        self.takes: float | None = 0.0
        self.record = HostRecord("other", "")
        self.lost = asyncio.Event()
        self.breaks = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        calls = head.startswith(b"POST")
        if self.breaks and calls:
            pass
        elif self.takes is None:
            await reader.read()
            if calls:
                self.lost.set()
        else:
            await asyncio.sleep(self.takes if calls else 0.0)
            writer.write(ANSWER)
        writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.record = HostRecord("other", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield made
    server.close()


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = Peers("me", connect_timeout=0.5, look=0.02)
    yield made
    await made.close()


async def forwarded(
    peers: Peers, peer: Peer, *, listed: bool, repeatable: bool = True, patience: float = 20.0
) -> ForwardedReply:
    request = PeerRequest("/x", b"[]", {}, repeatable=repeatable)
    deadline = asyncio.get_running_loop().time() + patience
    return await peers.forward(peer.record, request, deadline=deadline, listed=lambda: listed)


async def test_a_peer_that_is_gone_and_stands_still_is_given_up(peers: Peers, peer: Peer) -> None:
    peer.takes = None
    with pytest.raises(PeerUnreachable):
        await forwarded(peers, peer, listed=False)
    await asyncio.wait_for(peer.lost.wait(), 60)


async def test_a_peer_that_is_ending_is_waited_for(peers: Peers, peer: Peer) -> None:
    peer.takes = 0.5
    assert (await forwarded(peers, peer, listed=False)).body == b"{}"


async def test_members_are_waited_for_and_so_is_what_must_not_be_repeated(peers: Peers, peer: Peer) -> None:
    peer.takes = None
    for listed, repeatable in ((True, True), (False, False)):
        with pytest.raises(InvocationTimeout) as late:
            await forwarded(peers, peer, listed=listed, repeatable=repeatable, patience=0.2)
        assert late.value.retryable == repeatable


async def test_what_may_have_been_carried_out_must_not_be_sent_again(peers: Peers, peer: Peer) -> None:
    peer.breaks = True
    with pytest.raises(ProviderUnavailable, match="is unknown") as lost:
        await forwarded(peers, peer, listed=True, repeatable=False)
    assert not lost.value.retryable
    # The control: of what may be repeated nobody need know.
    with pytest.raises(PeerUnreachable):
        await forwarded(peers, peer, listed=True)


async def test_nothing_is_left_of_a_call_that_is_cancelled(peers: Peers, peer: Peer) -> None:
    peer.takes = None
    task = asyncio.create_task(forwarded(peers, peer, listed=True))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(peer.lost.wait(), 60)
