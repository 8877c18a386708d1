"""HTTP/1.1 for strangers: GET and HEAD of a few pages, everything bounded.

A connection that waits for a request, or sends one slowly, is closed after a while, and at once when a
newcomer needs its place: the one that has waited longest goes. So idle and half-open clients, however many,
keep nobody out.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from http import HTTPStatus
from typing import Final

import h11

from furiosa.http.page import Answer, Page

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
MAX_HEAD_BYTES: Final = 8 * 1024  # request line and headers
FIRST_SECONDS: Final = 5.0  # for the whole head of a connection's first request
NEXT_SECONDS: Final = 90.0  # for that of a later one; more than the usual 60 s between two scrapes
WRITE_SECONDS: Final = 10.0  # for a client to take a page
LINGER_SECONDS: Final = 1.0  # for a client to see a page before its connection ends
METHODS: Final = ("GET", "HEAD")


class HttpServer:
    """`serve` it; everything ends with that."""

    def __init__(self, pages: Mapping[str, Answer]) -> None:
        self._pages = pages
        self._all: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], None] = {}  # for a client; longest first
        self._ending = False

    @contextlib.asynccontextmanager
    async def serve(self, listener: socket.socket) -> AsyncIterator[None]:
        """Takes the listening socket. On the way out, pages on their way still arrive."""
        server = await asyncio.start_server(self._accepted, sock=listener, limit=MAX_HEAD_BYTES)
        try:
            yield
        finally:
            server.close()
            self._ending = True
            for task in tuple(self._waiting):
                task.cancel()
            if self._all:
                _, late = await asyncio.wait(self._all, timeout=LINGER_SECONDS)
                for task in late:
                    task.cancel()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._all) >= MAX_CONNECTIONS and not self._make_room():
                return
            self._all.add(task)
            connection = _Connection(reader, writer)
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._serve(connection, task)
        except asyncio.CancelledError:
            pass  # its place was needed, or the server ends
        finally:
            self._all.discard(task)
            writer.transport.abort()

    def _make_room(self) -> bool:
        for task in self._waiting:
            task.cancel()
            del self._waiting[task]
            self._all.discard(task)
            return True
        return False

    async def _serve(self, connection: "_Connection", task: "asyncio.Task[None]") -> None:
        seconds = FIRST_SECONDS
        while True:
            try:
                with self._waits(task):
                    request = await connection.request(seconds)
            except h11.RemoteProtocolError as error:
                page = Page.of(HTTPStatus(error.error_status_hint), str(error))
                await connection.answer(page)
                break
            if request is None:
                return
            page = await self._page(request)
            if not await connection.answer(page) or self._ending:
                break
            seconds = NEXT_SECONDS
        with self._waits(task):
            await connection.linger()

    @contextlib.contextmanager
    def _waits(self, task: "asyncio.Task[None]") -> Iterator[None]:
        """While a client has the turn, its connection may be closed for another's."""
        self._waiting[task] = None
        try:
            yield
        finally:
            self._waiting.pop(task, None)

    async def _page(self, request: h11.Request) -> Page:
        path = request.target.decode("ascii", "replace").partition("?")[0]
        answer = self._pages.get(path)
        if answer is None:
            return Page.of(HTTPStatus.NOT_FOUND, f"one of {', '.join(self._pages)}")
        if request.method.decode() not in METHODS:
            return Page.of(HTTPStatus.METHOD_NOT_ALLOWED, " or ".join(METHODS))
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        try:
            return await answer(accept.decode("latin-1"))
        except Exception:  # the boundary: every error becomes a status
            _log.exception("no page for %s", path)
            return Page.of(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the log")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # drained: all of it is the kernel's
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._request: h11.Request | None = None  # the one to be answered

    async def request(self, seconds: float) -> h11.Request | None:
        """The next one; None: there will be none.

        Raises: TimeoutError; RemoteProtocolError for what is not HTTP, or too long.
        """
        async with asyncio.timeout(seconds):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(MAX_HEAD_BYTES))
        self._request = event if isinstance(event, h11.Request) else None
        return self._request

    async def answer(self, page: Page) -> bool:
        """False: the connection can carry no other request. Raises: ConnectionError, TimeoutError."""
        http = self._http
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.content))),
            ("Cache-Control", "no-store"),
        ]
        if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", ", ".join(METHODS)))
        if not self._is_complete():
            headers.append(("Connection", "close"))
        reason = page.status.phrase.encode()
        events: list[h11.Event] = [
            h11.Response(status_code=page.status, headers=headers, reason=reason)
        ]
        if self._request is None or self._request.method != b"HEAD":
            events.append(h11.Data(data=page.content))
        for event in (*events, h11.EndOfMessage()):
            self._writer.write(http.send(event) or b"")
        async with asyncio.timeout(WRITE_SECONDS):
            await self._writer.drain()
        if http.our_state is not h11.DONE:
            return False
        http.start_next_cycle()
        return True

    def _is_complete(self) -> bool:
        """Pages need no body: a request that has one is answered, but its body not read."""
        try:
            return isinstance(self._http.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return False

    async def linger(self) -> None:
        """Let the client read: closing while it still sends would take the page back."""
        self._writer.write_eof()
        async with asyncio.timeout(LINGER_SECONDS):
            while await self._reader.read(MAX_HEAD_BYTES):
                pass
