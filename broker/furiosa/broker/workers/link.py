"""A control socket on the event loop: messages out without waiting, messages in by callback."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from furiosa.broker.workers import messages
from furiosa.broker.workers.messages import BadMessage, Message
from furiosa.common import channel

MAX_QUEUED: Final = 1024  # messages a peer has not taken yet


class Link:
    """One end of a control socket. Takes the socket.

    `on_message` gets each valid message and owns its descriptors; it may raise BadMessage. `on_end` is
    called once: with None when the peer closed its end, else with what it did wrong; not after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        kinds: Sequence[type[Message]],
        on_message: Callable[[Message, tuple[int, ...]], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._kinds = kinds
        self._on_message = on_message
        self._on_end = on_end
        self._decoder = channel.Decoder(messages.MAX_PAYLOAD)
        self._queued: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._loop.add_reader(sock, self._readable)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Hand over one message; `descriptors` stay yours and may be closed at once."""
        if self._closed:
            return
        data = memoryview(channel.encode(messages.encode(message), descriptors))
        if self._queued:
            if len(self._queued) >= MAX_QUEUED:
                self._end("it does not read its requests")
            else:
                self._queued.append((data, tuple(map(os.dup, descriptors))))
            return
        rest = self._transmit(data, descriptors)
        if rest and not self._closed:
            unsent = tuple(map(os.dup, descriptors)) if len(rest) == len(data) else ()
            self._queued.append((rest, unsent))
            self._loop.add_writer(self._sock, self._writable)

    def drain(self) -> None:
        """Take what has arrived already."""
        while not self._closed and self._receive():
            pass

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._decoder.close()
        for _, descriptors in self._queued:
            _close_all(descriptors)
        self._queued.clear()

    def _end(self, reason: str | None) -> None:
        if not self._closed:
            self.close()
            self._on_end(reason)

    def _transmit(self, data: memoryview, descriptors: Sequence[int]) -> memoryview:
        """What is left of `data`; descriptors left with the first byte if any byte did."""
        try:
            return data[channel.send(self._sock, data, descriptors) :]
        except BlockingIOError:
            return data
        except OSError:  # broken pipe, reset
            self._end(None)
            return data[len(data) :]

    def _writable(self) -> None:
        while self._queued:
            data, descriptors = self._queued[0]
            rest = self._transmit(data, descriptors)
            if self._closed or len(rest) == len(data):
                return
            _close_all(descriptors)
            self._queued.popleft()
            if rest:
                self._queued.appendleft((rest, ()))
                return
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        self._receive()

    def _receive(self) -> bool:
        """False when there was nothing."""
        try:
            data, descriptors = channel.receive(self._sock)
            self._decoder.feed(data, descriptors)
            if not data:
                self._end(None)
                return False
            for item in self._decoder.messages():
                self._take(item)
                if self._closed:
                    return False
        except BlockingIOError:
            return False
        except (channel.BrokenChannel, BadMessage) as error:
            self._end(f"it broke the protocol: {error}")
        except OSError:
            self._end(None)
        return True

    def _take(self, item: channel.Message) -> None:
        try:
            message = messages.parse(item.payload, self._kinds, len(item.descriptors))
        except BadMessage:
            item.close()
            raise
        self._on_message(message, item.descriptors)


def _close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)
