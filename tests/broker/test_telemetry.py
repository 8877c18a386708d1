"""The broker's side of telemetry, with the real process behind it."""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from furiosa.broker import helper_process
from furiosa.broker.telemetry import Telemetry, listen
from support.waiting import until


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


class World:
    """A broker that has one number, and its telemetry."""

    def __init__(self, listener: socket.socket) -> None:
        self.number = 0
        self.cause = ""
        self.answers = True
        self.telemetry = Telemetry(listener, "nobody", self._numbers, lambda: self.cause)

    async def _numbers(self) -> bytes:
        if not self.answers:
            await asyncio.Event().wait()
        return json.dumps([["x", "counter", "X", [], [[[], self.number]]]]).encode()

    async def get(self, path: str) -> tuple[int, str]:
        address = self.telemetry.address
        if address.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, content = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), content

    @property
    def pid(self) -> int:
        """Of its process."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        wanted = f"--listen-fd\0{self.telemetry._listener.fileno()}\0".encode()
        (pid,) = (n for n in children if wanted in Path(f"/proc/{n}/cmdline").read_bytes())
        return int(pid)


@contextlib.asynccontextmanager
async def a_world(address: str) -> AsyncIterator[World]:
    world = World(listen(address, 0o640))
    running = asyncio.create_task(world.telemetry.run())
    await world.telemetry._process.wait_ready()
    try:
        yield world
    finally:
        running.cancel()
        await asyncio.wait((running,))
        world.telemetry.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world("127.0.0.1:0") as world:
        yield world


async def test_strangers_read_the_brokers_numbers_and_state(world: World) -> None:
    world.number = 41
    world.cause = "it is shutting down"
    status, text = await world.get("/metrics")
    assert (status, text.splitlines()[-1]) == (200, "x_total 41.0")
    assert await world.get("/healthz") == (200, "ok\n")
    assert await world.get("/readyz") == (503, "it is shutting down\n")


async def test_the_process_has_no_privileges_to_lose(world: World) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{world.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"].strip() == ""
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0


async def test_it_holds_no_descriptor_but_its_own(world: World) -> None:
    links = Path(f"/proc/{world.pid}/fd")
    kinds = sorted(os.readlink(entry).split(":")[0] for entry in links.iterdir())
    assert kinds.count("socket") <= 2 + 2  # listener, broker; the loop's own pair


async def test_one_that_died_is_replaced_on_the_same_address(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_process, "RESTART_SECONDS", 0.01)
    world.telemetry._process._delay = 0.01
    first = world.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: not world.telemetry._process.is_ready)
    assert await world.get("/healthz") == (200, "ok\n")  # it waited for the next one
    assert world.pid != first


async def test_a_broker_that_hangs_is_no_longer_healthy() -> None:
    """The broker is a process of its own here, stopped as a whole."""
    code = """
import asyncio
from furiosa.broker.telemetry import Telemetry, listen
async def numbers():
    return b"[]"
async def main():
    telemetry = Telemetry(listen("127.0.0.1:0", 0), "nobody", numbers, str)
    running = asyncio.create_task(telemetry.run())
    await telemetry._process.wait_ready()
    print(telemetry.address, flush=True)
    await running
asyncio.run(main())
"""
    broker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert broker.stdout is not None
    try:
        host, port = (await broker.stdout.readline()).decode().strip().split(":")
        child = int(Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text())
        pidfd = os.pidfd_open(child)
        os.kill(broker.pid, signal.SIGSTOP)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        os.kill(broker.pid, signal.SIGKILL)
        await reader.read()  # its process ends with it, and so do its connections
        writer.close()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        await ended.wait()
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
    finally:
        if broker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                broker.kill()
        await broker.wait()


async def test_a_unix_socket_has_its_permissions_and_goes_with_the_broker(folder: Path) -> None:
    path = folder / "t"
    path.touch()  # left behind
    async with a_world(f"unix:{path}") as world:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert world.telemetry.address == f"unix:{path}"
        assert await world.get("/healthz") == (200, "ok\n")
    assert not path.exists()


@pytest.mark.parametrize(
    "address", ["", "9464", ":9464", "localhost", "localhost:", "localhost:x", "[::1]:70000"]
)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT") as caught:
        listen(address, 0o600)
    assert repr(address) in str(caught.value)


def test_an_address_in_use_cannot_be_had() -> None:
    with listen("127.0.0.1:0", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen(f"127.0.0.1:{port}", 0)
