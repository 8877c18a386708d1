"""Against a target of our own, and with gRPC's real server behind it."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.broker import relay as relay_module
from furiosa.broker.relay import Relay, aside, drain_into, listen_over, move_over
from support.queues import open_descriptors
from support.waiting import until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@contextlib.asynccontextmanager
async def serving(path: Path, handler: Handler) -> AsyncIterator[None]:
    server = await asyncio.start_unix_server(handler, path)
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def relaying(folder: Path, most: int = 0) -> AsyncIterator[Path]:
    """The public path of a relay to `folder`/t."""
    path = folder / "p"
    relay = Relay(listen_over(path, 0o600), folder / "t", most)
    running = asyncio.create_task(relay.run())
    try:
        yield path
    finally:
        running.cancel()
        await asyncio.wait([running])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_bytes_pass_both_ways_and_the_end_of_one_way_leaves_the_other(folder: Path) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello ")
        data = await reader.read()  # until the client's way ends
        writer.write(b"%d" % len(data))
        await closed(writer)

    async with serving(folder / "t", count), relaying(folder) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.readexactly(6) == b"hello "
        writer.write(bytes(3_000_000))
        writer.write_eof()
        assert await reader.read() == b"3000000"
        await closed(writer)


async def test_megabytes_come_back_as_they_went(folder: Path) -> None:
    payload = os.urandom(4_000_000)
    async with serving(folder / "t", echo), relaying(folder) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(payload)
        writer.write_eof()
        assert await reader.read() == payload
        await closed(writer)


async def test_a_target_that_does_not_read_stops_the_reading_from_the_client(folder: Path) -> None:
    reads = asyncio.Event()

    async def reluctant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        writer.write(b"%d" % len(await reader.read()))
        await closed(writer)

    async with serving(folder / "t", reluctant), relaying(folder) as path:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, str(path))
            sent, refused = 0, 0
            while refused < 100:  # turns of the loop in which nothing was taken any more
                try:
                    sent += client.send(bytes(65536))
                    refused = 0
                except BlockingIOError:
                    refused += 1
                await asyncio.sleep(0)
            # the kernel's buffers, those of asyncio's reader, and the relay's one chunk
            assert sent < 2_000_000
            reads.set()
            client.shutdown(socket.SHUT_WR)
            answer = await asyncio.get_running_loop().sock_recv(client, 100)
            assert answer == b"%d" % sent


async def test_a_client_that_resets_takes_nobody_along(folder: Path) -> None:
    async with serving(folder / "t", echo), relaying(folder) as path:
        before = open_descriptors()
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(bytes(60_000))  # never read back
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        await closed(writer)
        await until(lambda: len(open_descriptors()) <= len(before))


async def test_without_a_target_the_client_is_hung_up_on_and_the_next_is_served(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with relaying(folder) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        await closed(writer)
        assert "relay.not_connected" in caplog.text
        async with serving(folder / "t", echo):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await closed(writer)


async def test_a_full_backlog_of_the_target_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    connect = relay_module._Link.connect

    def counted(link: relay_module._Link, name: str, left: int) -> None:
        attempts.append(left)
        connect(link, name, left)

    monkeypatch.setattr(relay_module._Link, "connect", counted)
    target = socket.socket(socket.AF_UNIX)
    target.bind(str(folder / "t"))
    target.listen(0)
    target.setblocking(False)
    with target, socket.socket(socket.AF_UNIX) as first:
        first.setblocking(False)
        first.connect(str(folder / "t"))  # the one for which there is room
        with socket.socket(socket.AF_UNIX) as second:
            second.setblocking(False)
            assert second.connect_ex(str(folder / "t")) == errno.EAGAIN
        async with relaying(folder) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"x")
            await until(lambda: len(attempts) == 2)
            loop = asyncio.get_running_loop()
            (await loop.sock_accept(target))[0].close()
            relayed, _ = await loop.sock_accept(target)
            with relayed:
                assert await loop.sock_recv(relayed, 1) == b"x"
            await closed(writer)


async def test_past_the_limit_a_connection_waits_for_one_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = iter([1, 2, 3])
    monkeypatch.setattr(relay_module, "_user_of", lambda client: next(users))
    async with serving(folder / "t", echo), relaying(folder, most=2) as path:
        opened = [await asyncio.open_unix_connection(path) for _ in range(3)]
        for _, writer in opened:
            writer.write(b"x")
        for reader, _ in opened[:2]:
            assert await reader.readexactly(1) == b"x"
        assert next(users) == 3  # the third was not looked at
        users = iter([3])
        await closed(opened[0][1])
        assert await opened[2][0].readexactly(1) == b"x"
        for _, writer in opened[1:]:
            await closed(writer)


async def test_one_user_gets_half_of_the_connections(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(folder / "t", echo), relaying(folder, most=4) as path:
        before = open_descriptors()
        opened = [await asyncio.open_unix_connection(path) for _ in range(3)]
        reader, _ = opened[2]
        assert await reader.read() == b""
        assert f"relay.refused uid={os.getuid()} connections=2" in caplog.text
        for _, writer in opened:
            await closed(writer)
        await until(lambda: len(open_descriptors()) <= len(before))
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await closed(writer)


async def test_running_out_of_descriptors_is_survived(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = socket.socket.accept
    failures = iter([True, True])

    def failing(self: socket.socket) -> Any:
        if next(failures, False):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(self)

    monkeypatch.setattr(relay_module, "RETRY_SECONDS", 0.001)
    async with serving(folder / "t", echo), relaying(folder) as path:
        monkeypatch.setattr(socket.socket, "accept", failing)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert caplog.text.count("relay.not_accepted") == 2
        await closed(writer)


async def test_cancelling_closes_all_connections(folder: Path) -> None:
    before = open_descriptors()
    async with serving(folder / "t", echo):
        async with relaying(folder) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"x")
            await reader.readexactly(1)
        assert await reader.read() == b""
        await closed(writer)
    await until(lambda: len(open_descriptors()) <= len(before))


def test_a_listener_takes_the_place_of_another_which_keeps_who_came_before(folder: Path) -> None:
    path = folder / "p"
    shared: list[Path] = []
    with (
        listen_over(path, 0o600) as old,
        socket.socket(socket.AF_UNIX) as early,
        socket.socket(socket.AF_UNIX) as late,
    ):
        early.connect(str(path))
        with listen_over(path, 0o640, shared.append) as new:
            late.connect(str(path))
            old.accept()[0].close()
            new.accept()[0].close()
            with pytest.raises(BlockingIOError):
                old.accept()
    assert shared == [aside(path)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(folder)) == ["p"]


def test_what_cannot_take_the_place_leaves_the_old_one_there(folder: Path) -> None:
    path = folder / "p"

    def fails(name: Path) -> None:
        raise PermissionError(name)

    with listen_over(path, 0o600) as old, socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(PermissionError):
            listen_over(path, 0o600, fails)
        client.connect(str(path))
        old.accept()[0].close()
    assert sorted(os.listdir(folder)) == ["p"]


async def test_who_queued_is_served_to_the_end_and_then_the_listener_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "LINGER_SECONDS", 0)
    keeper = listen_over(folder / "p", 0o600)
    queued = [await asyncio.open_unix_connection(folder / "p") for _ in range(3)]
    async with serving(folder / "t", echo):
        draining = asyncio.create_task(drain_into(keeper, folder / "t"))
        for reader, writer in queued:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        await until(lambda: keeper.fileno() == -1)
        for reader, writer in queued:
            assert not draining.done()
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
            await closed(writer)
        await draining


async def echoed(request: bytes, context: object) -> bytes:
    return request


def grpc_server(path: Path) -> grpc.aio.Server:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler: Any = grpc.unary_unary_rpc_method_handler(echoed)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test", {"Echo": handler}),)
    )
    assert server.add_insecure_port(f"unix:{path}") == 1
    return server


async def call(path: Path, payload: bytes) -> bytes:
    # a subchannel of its own for each: no connection of another test or call is reused
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
        echo: Any = channel.unary_unary("/test/Echo")
        return bytes(await echo(payload, timeout=20))


async def test_grpc_is_served_through_a_relay(folder: Path) -> None:
    server = grpc_server(folder / "t")
    await server.start()
    async with relaying(folder) as path:
        assert await call(path, bytes(1_000_000)) == bytes(1_000_000)
    await server.stop(None)


async def test_the_place_of_grpc_is_changed_twice_and_nobody_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The re-exec of a broker that bound its own path, with both brokers in one process."""
    path = folder / "p"
    monkeypatch.setattr(relay_module, "LINGER_SECONDS", 0.05)
    old = grpc_server(aside(path))
    move_over(aside(path), path, 0o600)
    await old.start()
    assert await call(path, b"before") == b"before"

    keeper = listen_over(path, 0o600)
    await old.stop(None)
    assert path.is_socket(), "gRPC took the name of its replacement away"
    meanwhile = [asyncio.create_task(call(path, b"meanwhile %d" % n)) for n in range(8)]
    await asyncio.sleep(0)

    new = grpc_server(aside(path))
    await new.start()
    move_over(aside(path), path, 0o600)
    draining = asyncio.create_task(drain_into(keeper, path))
    assert await call(path, b"after") == b"after"
    assert await asyncio.gather(*meanwhile) == [b"meanwhile %d" % n for n in range(8)]
    await draining
    assert keeper.fileno() == -1
    await new.stop(None)
    assert path.is_socket()


async def test_a_suspended_relay_leaves_who_comes_to_the_next_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_user_of", socket.socket.fileno)  # each is another one
    path = folder / "p"
    listener = listen_over(path, 0o600)
    async with serving(folder / "t", echo):
        first, second = Relay(listener, folder / "t", 2), Relay(listener, folder / "t")
        first.start()
        early = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for reader, writer in early:
            writer.write(b"early")
            assert await reader.readexactly(5) == b"early"
        first.suspend()
        late_reader, late_writer = await asyncio.open_unix_connection(path)
        late_writer.write(b"late")
        for _, writer in early:  # there would be room now
            await closed(writer)
        await first.ended()
        second.start()
        assert await late_reader.readexactly(4) == b"late"
        await closed(late_writer)
        await second.ended()
        second.close()
