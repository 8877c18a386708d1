import os
import socket
from collections.abc import Iterator

import pytest

from furiosa.common.channel import BrokenChannel, Decoder, Message, encode, receive, send


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def an_fd(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def content(fd: int) -> bytes:
    return os.pread(fd, 100, 0)


def test_messages_come_out_however_the_bytes_are_cut() -> None:
    stream = encode(b"first") + encode(b"") + encode(b"x" * 1000)
    for cut in (1, 3, 7, len(stream)):
        decoder, got = Decoder(1000), []
        for start in range(0, len(stream), cut):
            decoder.feed(stream[start : start + cut])
            got += [m.payload for m in decoder.messages()]
        assert got == [b"first", b"", b"x" * 1000]


def test_descriptors_stay_with_their_message(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    fds = [an_fd(b"one"), an_fd(b"two"), an_fd(b"three")]
    send(left, encode(b"a", fds[:2]), fds[:2])
    send(left, encode(b"b"))
    send(left, encode(b"c", fds[2:]), fds[2:])
    decoder, got = Decoder(100), list[Message]()
    while len(got) < 3:
        decoder.feed(*receive(right))
        got += decoder.messages()
    assert [[content(fd) for fd in m.descriptors] for m in got] == [
        [b"one", b"two"],
        [],
        [b"three"],
    ]
    for message in got:
        message.close()
    for fd in fds:
        os.close(fd)


def test_received_descriptors_do_not_survive_exec(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    left, right = pair
    fd = an_fd(b"")
    send(left, encode(b"", [fd]), [fd])
    _, (got,) = receive(right)
    assert not os.get_inheritable(got)
    os.close(fd)
    os.close(got)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\xff\xff\xff\xff\x00", "4294967295 bytes, at most 10"),
        (encode(b"", [1]), "1 descriptors announced, 0 came"),
        (b"\x00\x00\x00\x00\xff", "255 descriptors in one message"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_named(stream: bytes, reason: str) -> None:
    decoder = Decoder(10)
    decoder.feed(stream)
    with pytest.raises(BrokenChannel, match=reason):
        list(decoder.messages())


def test_descriptors_nobody_announced_are_refused_and_closed() -> None:
    decoder, fd = Decoder(10), an_fd(b"")
    decoder.feed(encode(b"x"), [fd])
    with pytest.raises(BrokenChannel, match="nobody announced"):
        list(decoder.messages())
    decoder.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
