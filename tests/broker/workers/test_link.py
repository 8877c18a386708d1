"""The control socket on the event loop."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from furiosa.broker.workers import link, messages
from furiosa.broker.workers.link import Link
from furiosa.broker.workers.messages import (
    BadMessage,
    Done,
    Load,
    Message,
    QueueBroken,
    Started,
)
from furiosa.common import channel
from support.queues import open_descriptors


class Peer:
    """A link and, at the other end of it, a plain socket."""

    def __init__(self, kinds: tuple[type[Message], ...]) -> None:
        ours, self.sock = socket.socketpair()
        self.received: asyncio.Queue[tuple[Message, tuple[int, ...]]] = asyncio.Queue()
        self.ended: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.link = Link(ours, kinds, self._message, self.ended.set_result)

    def _message(self, message: Message, descriptors: tuple[int, ...]) -> None:
        if message == Done(666):
            raise BadMessage("666")
        self.received.put_nowait((message, descriptors))

    def send(self, payload: bytes, *descriptors: int) -> None:
        data = channel.encode(payload, descriptors)
        sent = channel.send(self.sock, data, descriptors)
        self.sock.sendall(data[sent:])


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    before = open_descriptors()
    peer = Peer((Done, QueueBroken, Started))
    yield peer
    peer.link.close()
    peer.sock.close()
    assert open_descriptors() == before


async def test_messages_arrive_whole_and_in_order_however_they_are_cut(peer: Peer) -> None:
    sent = [Done(n) for n in range(3)]
    for byte in b"".join(channel.encode(messages.encode(message)) for message in sent):
        peer.sock.send(bytes([byte]))
    assert [(await peer.received.get())[0] for _ in sent] == sent


async def test_descriptors_arrive_with_their_message(peer: Peer) -> None:
    peer.send(messages.encode(Done(1)))
    null = os.open(os.devnull, os.O_RDONLY)
    peer.send(messages.encode(Started()), null)
    os.close(null)
    assert await peer.received.get() == (Done(1), ())
    message, [fd] = await peer.received.get()
    assert message == Started()
    assert os.readlink(f"/proc/self/fd/{fd}") == os.devnull
    os.close(fd)


async def test_the_end_of_the_peer_is_told_once_and_without_blame(peer: Peer) -> None:
    peer.sock.close()
    assert await peer.ended is None
    peer.link.send(Done(1))


@pytest.mark.parametrize(
    "payload", [b"{}", messages.encode(Load(1, 1, traced=False)), messages.encode(Done(666))]
)
async def test_a_peer_that_breaks_the_protocol_is_cut_off(peer: Peer, payload: bytes) -> None:
    peer.send(payload)
    reason = await peer.ended
    assert reason is not None
    assert reason.startswith("it broke the protocol: ")
    assert peer.sock.recv(1) == b""


async def test_an_oversized_message_is_refused_by_its_header(peer: Peer) -> None:
    peer.sock.send(channel.HEADER.pack(messages.MAX_PAYLOAD + 1, 0))
    assert "bytes, at most" in str(await peer.ended)


async def test_descriptors_nobody_asked_for_are_closed(peer: Peer) -> None:
    peer.send(messages.encode(Done(1)), peer.sock.fileno())
    assert "Done with 1 descriptors" in str(await peer.ended)


async def test_a_slow_reader_gets_everything_in_order_with_its_descriptors(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    peer.link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent = [QueueBroken(n, "x" * 3000) for n in range(100)]
    descriptors = [os.eventfd(n) for n in range(len(sent))]
    for message, fd in zip(sent, descriptors, strict=True):
        peer.link.send(message, [fd])
        os.close(fd)
    decoder = channel.Decoder(messages.MAX_PAYLOAD)
    peer.sock.setblocking(False)
    received: list[channel.Message] = []
    loop = asyncio.get_running_loop()
    while len(received) < len(sent):
        readable = asyncio.Event()
        loop.add_reader(peer.sock, readable.set)
        await readable.wait()
        decoder.feed(*channel.receive(peer.sock))
        received.extend(decoder.messages())
    loop.remove_reader(peer.sock)
    assert [messages.parse(m.payload, [QueueBroken], 0) for m in received] == sent
    for number, item in enumerate(received[1:], start=1):
        assert os.eventfd_read(item.descriptors[0]) == number
    for item in received:
        item.close()


async def test_a_peer_that_never_reads_is_cut_off(peer: Peer) -> None:
    for n in range(link.MAX_QUEUED + 1000):
        peer.link.send(QueueBroken(n, "x" * 1000))
    assert await peer.ended == "it does not read its requests"
