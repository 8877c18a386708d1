"""What a socket does not take at once."""

import asyncio
import os
import socket

from furiosa.broker.rpc.outbox import Outbox
from furiosa.common.channel import close_all, receive
from support.queues import open_descriptors
from support.waiting import readable


async def test_a_message_that_leaves_in_pieces_brings_its_descriptor_once() -> None:
    before = open_descriptors()
    ours, theirs = socket.socketpair()
    broken: list[str] = []
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        outbox = Outbox(theirs, broken.append)
        messages = bytes(1_000_000), b"behind it"
        outbox.put(messages[0], [os.memfd_create("test")])
        outbox.put(messages[1], [])
        assert outbox.held[0] > 0
        assert outbox.held[1] == 0, "it left with the first piece"
        data, count = b"", 0
        while len(data) < sum(map(len, messages)):
            await readable(ours)
            piece, descriptors = receive(ours)
            data, count = data + piece, count + len(descriptors)
            close_all(descriptors)
        await asyncio.sleep(0)
        assert (data, count, outbox.held) == (b"".join(messages), 1, (0, 0))
        outbox.close()
    assert broken == []
    assert open_descriptors() == before


async def test_what_is_left_unsent_is_closed_with_it() -> None:
    before = open_descriptors()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        outbox = Outbox(theirs, lambda cause: None)
        outbox.put(bytes(1_000_000), [])
        outbox.put(b"with one", [os.memfd_create("test")])
        assert outbox.held[1] == 1
        outbox.close()
    assert open_descriptors() == before
