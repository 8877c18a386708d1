"""Brokers and drivers that do not answer, and which of them are asked."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from furiosa import sysfs
from furiosa.client import address
from furiosa.common.errors import BadArgument
from furiosa.common.views import CardPart
from furiosa.exporter import sources
from furiosa.exporter.sources import BrokerSource, Sources, TreeSource, Unreadable

PARTS = (CardPart.CARD,)


async def test_a_broker_that_hangs_is_given_up(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LOOK_SECONDS", 0.05)
    silent = address.UnixAddress(str(short_path / "b.sock"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(silent.handoff)
        listener.listen()
        broker = BrokerSource(silent)
        for _ in range(2):
            with pytest.raises(Unreadable, match=r"b\.sock: no answer within 0\.05 s"):
                await broker.look(PARTS)


async def test_a_driver_that_hangs_is_given_up_and_costs_one_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    real, threads = sysfs.collect, threading.active_count()

    def collect(*arguments: object) -> object:
        go.wait()
        return real(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(sources, "collect", collect)
    monkeypatch.setattr(sources, "LOOK_SECONDS", 0.05)
    tree = TreeSource(root)
    for _ in range(3):
        with pytest.raises(Unreadable, match="a driver hangs"):
            await tree.look(PARTS)
    assert threading.active_count() == threads + 1
    go.set()
    monkeypatch.setattr(sources, "LOOK_SECONDS", 60.0)
    async with asyncio.timeout(60):
        while True:
            try:
                found = await tree.look((CardPart.SENSORS,))
            except Unreadable:
                await asyncio.sleep(0)
            else:
                break
    # what was asked for while it hung is not what is told now
    assert [(seen.card.index, set(seen.texts)) for seen in found] == [
        (0, {CardPart.SENSORS}),
        (10, {CardPart.SENSORS}),
    ]


async def test_cards_come_and_go(root: Path) -> None:
    tree = TreeSource(root)
    assert [seen.card.index for seen in await tree.look(PARTS)] == [0, 10]
    (root / "sys/class/npu_mgmt/npu10_mgmt").unlink()
    assert [seen.card.index for seen in await tree.look(PARTS)] == [0]


async def test_a_tree_that_cannot_be_listed_is_a_machine_without_cards(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text("no folder")
    found = await Sources(None, TreeSource(tmp_path)).look(PARTS)
    assert (found.has_broker, found.seen) == (False, ())


async def test_the_environment_says_who_is_asked(
    root: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SYSTEM", address.UnixAddress(f"{short_path}/none.sock"))
    of_root = await Sources.of({"FURIOSA_DEVICE_ROOT": str(root)}).look(PARTS)
    assert [seen.card.index for seen in of_root.seen] == [0, 10]
    away = await Sources.of({}).look(PARTS)
    assert not away.has_broker
    # cards of this machine are not those of a broker elsewhere
    assert Sources.of({"FURIOSA_BROKER": "127.0.0.1:1"})._tree is None
    with pytest.raises(BadArgument, match="FURIOSA_BROKER"):
        Sources.of({"FURIOSA_BROKER": "nowhere"})
