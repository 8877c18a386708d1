"""The HTTP side against raw sockets: what a browser would not send, others will."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from furiosa.http import HttpServer, Page, server
from support.waiting import until

BIG = b"x" * 8_000_000


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def get(self, line: str, headers: str = "") -> tuple[int, dict[str, str], bytes]:
        self.send(f"{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        return await self.answer(head=line.startswith("HEAD"))

    async def answer(self, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        length = 0 if head else int(headers["Content-Length"])
        return int(lines[0].split()[1]), headers, await self._reader.readexactly(length)

    async def closed(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return not await self._reader.read()
        return True

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Site:
    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.clients: list[Client] = []
        self.server = HttpServer(
            {"/a": self.a, "/slow": self.slow, "/big": self.big, "/broken": self.broken}
        )

    async def a(self, accept: str) -> Page:
        return Page.of(HTTPStatus.OK, f"accept {accept}")

    async def slow(self, accept: str) -> Page:
        self.asked.set()
        await self.go.wait()
        return Page.of(HTTPStatus.OK, "at last")

    async def big(self, accept: str) -> Page:
        return Page(HTTPStatus.OK, BIG)

    async def broken(self, accept: str) -> Page:
        raise KeyError("secret")

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.listener.getsockname()))
        self.clients.append(client)
        return client


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with site.server.serve(site.listener):
        yield site
        for client in site.clients:
            await client.close()


async def test_a_connection_serves_one_request_after_another(site: Site) -> None:
    client = await site.client()
    for _ in range(3):
        status, headers, content = await client.get("GET /a?x=1", "Accept: b\r\naccept: c\r\n")
        assert (status, content) == (200, b"accept b,c\n")
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (await client.get("HEAD /a"))[1]["Content-Length"] == "8"
    assert (await client.get("GET /a"))[2] == b"accept \n"


async def test_requests_may_be_sent_ahead(site: Site) -> None:
    client = await site.client()
    client.send(
        b"GET /a HTTP/1.1\r\nHost: x\r\nAccept: 1\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nAccept: 2\r\n\r\n"
    )
    assert [(await client.answer())[2] for _ in range(2)] == [b"accept 1\n", b"accept 2\n"]


async def test_other_paths_and_methods_are_refused_by_name(site: Site) -> None:
    client = await site.client()
    status, _, content = await client.get("GET /b")
    assert (status, content) == (404, b"one of /a, /slow, /big, /broken\n")
    status, headers, _ = await client.get("DELETE /a")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, headers, _ = await client.get("POST /a", "Content-Length: 1000000\r\n")
    assert (status, headers["Connection"]) == (405, "close")  # the body is not waited for
    assert await client.closed()


async def test_a_defect_is_told_without_its_text(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, content = await (await site.client()).get("GET /broken")
    assert status == 500
    assert b"secret" not in content
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),  # TLS
        (b"GET /a HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000, 431),
        (b"GET /" + b"a" * 100_000, 431),
    ],
    ids=["tls", "no host", "two lengths", "long header", "long line"],
)  # fmt: skip
async def test_what_is_not_http_gets_one_answer_and_the_end(
    site: Site, sent: bytes, status: int
) -> None:
    client = await site.client()
    client.send(sent)
    found, headers, _ = await client.answer()
    assert (found, headers["Connection"]) == (status, "close")
    assert await client.closed()


async def test_a_slow_head_has_a_deadline(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_SECONDS", 0.05)
    client = await site.client()
    client.send(b"GET /a HTTP/1.1\r\nHos")
    assert await client.closed()


async def test_one_who_does_not_read_has_a_deadline(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WRITE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection(*site.listener.getsockname(), limit=1024)
    writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readexactly(1)
    await until(lambda: not site.server._all)
    received = 1
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 20):
            received += len(data)
    assert received < len(BIG)
    writer.close()


async def test_idle_clients_keep_nobody_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    idle = [await site.client() for _ in range(4)]
    for client in idle:
        client.send(b"GET ")
    newcomer = await site.client()
    assert (await newcomer.get("GET /a"))[0] == 200
    assert await idle[0].closed()  # it had waited longest
    idle[3].send(b"/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await idle[3].answer())[0] == 200


async def test_no_more_are_answered_at_once_than_the_bound(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    busy = await site.client()
    busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await site.asked.wait()
    assert await (await site.client()).closed()
    site.go.set()
    assert (await busy.answer())[2] == b"at last\n"


async def test_a_page_on_its_way_arrives_when_the_server_ends() -> None:
    site = Site()
    async with site.server.serve(site.listener):
        client = await site.client()
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await site.asked.wait()
        idle = await site.client()
        asyncio.get_running_loop().call_soon(site.go.set)
    assert (await client.answer())[2] == b"at last\n"
    assert await client.closed()
    assert await idle.closed()
    await client.close()
    await idle.close()
