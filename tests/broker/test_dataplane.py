"""The broker's side of the data plane where no process is needed to see it."""

import asyncio
import gc
import socket
import tempfile
import weakref
from pathlib import Path
from typing import Any, cast

import pytest

from furiosa.broker.dataplane import DataPlane
from furiosa.broker.rpc.methods import Call
from furiosa.broker.sessions import Session
from furiosa.common.views import Notice
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from support.owners import FakeSession


class World:
    """Everything a data plane asks of the broker: one session, which holds every lease."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def by_token(self, _: str) -> Session:
        return self.session

    def session_of(self, _: str) -> Session:
        return self.session

    async def open_queue(self, _: object, __: Call) -> pb.OpenQueueResponse:
        return pb.OpenQueueResponse(queue_id=1)

    def notify(self, _: Notice) -> None:
        """As a Peer's."""


def data_plane(path: Path, world: Any) -> DataPlane:
    return DataPlane(path, 0o600, "nobody", lambda _: None, world, world, world)


async def test_the_broker_outlives_having_no_descriptors_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", exhausted)
    plane = data_plane(tmp_path / "d", None)
    running = asyncio.ensure_future(plane.run())
    await plane.wait_ready()
    await asyncio.sleep(0)
    assert not running.done()
    assert plane.target == ""
    running.cancel()


async def test_sessions_that_ended_are_not_kept(tmp_path: Path) -> None:
    world = World(FakeSession().session)
    plane = data_plane(tmp_path / "d", world)
    plane._peer = cast("Any", world)
    await plane._open_queue(
        pb.OpenQueueForRequest(lease_id="l"), Call("Session/OpenQueueFor", None)
    )
    assert world.session.followers == {world.notify}
    ended = weakref.ref(world.session)
    world.session = FakeSession().session
    gc.collect()
    assert ended() is None


async def test_it_is_named_while_it_listens_and_leaves_no_socket() -> None:
    shared: list[Path] = []
    folder = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    world: Any = None
    plane = DataPlane(folder / "d", 0o600, "nobody", shared.append, world, world, world)
    running = asyncio.ensure_future(plane.run())
    await plane.wait_ready()
    assert plane.target == f"unix:{folder}/d"
    assert shared == [folder / "d"]
    assert (folder / "d").is_socket()
    running.cancel()
    await asyncio.wait((running,))
    assert plane.target == ""
    assert list(folder.iterdir()) == []
    folder.rmdir()
