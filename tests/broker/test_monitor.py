import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from furiosa.broker.devices import Holder
from furiosa.broker.devices.look import Looker, Progress, Sight
from furiosa.broker.health import CardHealth
from furiosa.broker.inventory import Inventory
from furiosa.broker.monitor import MOST_STUCK, Looks, Monitor, Told
from furiosa.broker.platform import VirtualPlatform
from furiosa.common.clock import ManualClock
from furiosa.common.names import DeviceFile
from furiosa.common.views import Availability, Health
from furiosa.sysfs import discover
from support.holding import holding
from support.virtual_cards import overheat, pull_out, put_back, set_alive
from support.waiting import until

PE0 = DeviceFile.parse("npu0pe0")


@dataclass
class Watched:
    """A monitor of virtual cards, and what it told."""

    root: Path
    cards: int = 2
    wrap: Callable[[Looks], Looks] = lambda looks: looks
    patience: float = 30.0
    said: list[tuple[object, ...]] = field(default_factory=list)
    owners: dict[DeviceFile, Collection[int]] = field(default_factory=dict)
    crashing: set[int] = field(default_factory=set)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        VirtualPlatform(self.root, self.cards, machine="m").write()
        self.inventory = Inventory(
            self.root, discover(self.root), lambda npu: (Availability.AVAILABLE, "")
        )
        self.monitor = Monitor(
            self.wrap(Looker(self.root)),
            self.inventory,
            CardHealth(),
            Told(
                lambda cards: self.said.append(("cards", *(card.index for card in cards))),
                lambda npu, reason: self.said.append(("unavailable", npu, reason)),
                lambda held: self.said.append(("foreign", *map(str, held))),
            ),
            owners=lambda: dict(self.owners),
            looping=self.crashing.__contains__,
            clock=self.clock,
            patience=self.patience,
            interval=0.001,
        )

    async def look(self, times: int = 1) -> list[tuple[object, ...]]:
        """What was told, one look a second."""
        self.said.clear()
        for _ in range(times):
            self.clock.advance(1.0)
            await self.monitor.look()
        return list(self.said)


async def test_the_first_look_tells_the_cards_and_then_only_changes(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert await watched.look() == [("cards", 0, 1)]
    assert await watched.look(5) == []
    (first, _) = await watched.inventory.devices(())
    assert first.temperature_millicelsius == 40_000


async def test_a_card_that_does_not_answer_is_taken_away_and_comes_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    set_alive(tmp_path, 1, "0")
    assert await watched.look() == []
    assert await watched.look() == [("unavailable", 1, "the card does not answer (alive is 0)")]
    assert (await watched.inventory.devices(()))[1].health is Health.DEAD
    set_alive(tmp_path, 1, "1")
    assert await watched.look(10) == []
    assert await watched.look() == [("unavailable", 1, None)]


async def test_a_card_that_cannot_be_read_is_taken_away(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    set_alive(tmp_path, 1, "?")
    assert await watched.look(2) == [("unavailable", 1, "the card cannot be read")]


async def test_heat_and_crashing_workers_take_a_card_away(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    overheat(tmp_path, 0, 99_000)
    watched.crashing.add(1)
    assert await watched.look(2) == [
        ("unavailable", 1, "its workers crash one after another"),
        ("unavailable", 0, "the card is too hot: 99 C; it comes back below 85 C"),
    ]


async def test_a_card_that_is_pulled_out_and_put_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    pull_out(tmp_path, 0)
    assert await watched.look() == [("cards", 1), ("unavailable", 0, "the card has vanished")]
    assert [device.index for device in await watched.inventory.devices(())] == [1]
    put_back(tmp_path, 0)
    assert await watched.look() == [("cards", 0, 1)]
    assert await watched.look(9) == []
    assert await watched.look() == [("unavailable", 0, None)]


async def test_another_card_in_the_same_place_is_not_the_old_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    folder = tmp_path / "sys/class/npu_mgmt/npu0_mgmt"
    target = folder.readlink()
    folder.rename(tmp_path / "old")
    folder.symlink_to(target)
    assert await watched.look() == [("cards", 0, 1), ("unavailable", 0, "the card has vanished")]
    assert await watched.look(11) == [("unavailable", 0, None)]


async def test_a_file_opened_without_a_lease_is_told_until_it_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(tmp_path)
    await watched.look()
    with holding(tmp_path / "dev/npu0pe0") as pid:
        watched.owners[DeviceFile.parse("npu0pe0-1")] = [pid]
        assert await watched.look(2) == []
        watched.owners.clear()
        assert await watched.look(2) == [("foreign", "npu0pe0")]
        assert [holder.pid for holder in watched.inventory.foreign[PE0]] == [pid]
    assert await watched.look(2) == [("foreign",)]
    lines = [line for line in caplog.messages if line.startswith("device.held_without_lease ")]
    assert len(lines) == 1
    assert f"device=npu0pe0 pid={pid} " in lines[0]


@dataclass
class Held:
    """Says that `holder` has a file open, and lets the test act while it looks."""

    looks: Looks
    holder: Holder
    meanwhile: Callable[[], None] = lambda: None

    def look(self, before: Sight, progress: Progress) -> Sight:
        sight = self.looks.look(before, progress)
        self.meanwhile()
        return replace(sight, holders=(self.holder,))


async def test_whose_lease_ended_or_began_during_a_look_is_not_foreign_in_it(
    tmp_path: Path,
) -> None:
    held = Held(Looker(tmp_path), Holder(7, 0, "cat", PE0))
    watched = Watched(tmp_path, wrap=lambda _: held)
    held.meanwhile = lambda: watched.owners.update({PE0: [7]})
    assert await watched.look() == [("cards", 0, 1)]
    held.meanwhile = watched.owners.clear
    assert await watched.look() == []
    assert await watched.look() == [("foreign", "npu0pe0")]


class Short:
    """Fails as a broker without descriptors does."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self.failing = False

    def look(self, before: Sight, progress: Progress) -> Sight:
        if self.failing:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.looks.look(before, progress)


async def test_a_broker_short_of_something_takes_no_card_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = Short(Looker(tmp_path))
    watched = Watched(tmp_path, wrap=lambda _: short)
    await watched.look()
    short.failing = True
    assert await watched.look(5) == []
    assert [line for line in caplog.messages if line.startswith("monitor.")] == [
        'monitor.failed cause="[Errno 24] Too many open files"'
    ]
    short.failing = False
    set_alive(tmp_path, 0, "0")
    assert await watched.look(2) == [("unavailable", 0, "the card does not answer (alive is 0)")]


async def test_a_broker_that_has_no_thread_to_look_with_takes_no_card_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    watched = Watched(tmp_path)
    await watched.look()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert await watched.look(3) == []
    assert len([line for line in caplog.messages if line.startswith("monitor.failed")]) == 1
    assert "can't start new thread" in caplog.text
    set_alive(tmp_path, 0, "0")
    assert await watched.look(2) == [("unavailable", 0, "the card does not answer (alive is 0)")]


class Hanging:
    """Hangs in what is in `stuck`, until it is let go."""

    def __init__(self, looks: Looks) -> None:
        self.looks = looks
        self.stuck: set[str] = set()
        self.go_on = threading.Event()
        self.threads = 0

    def look(self, before: Sight, progress: Progress) -> Sight:
        self.threads += 1
        for subject in sorted(self.stuck):
            if progress.enter(subject):
                self.go_on.wait()
        return self.looks.look(before, progress)


@pytest.fixture
def hanging(tmp_path: Path) -> Hanging:
    return Hanging(Looker(tmp_path))


async def came_back(caplog: pytest.LogCaptureFixture, times: int) -> None:
    await until(
        lambda: sum(line.startswith("monitor.came_back") for line in caplog.messages) >= times
    )


async def test_a_read_that_hangs_makes_its_card_unreadable_and_no_other(
    tmp_path: Path, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watched = Watched(tmp_path, wrap=lambda _: hanging, patience=0.05)
    await watched.look()
    hanging.stuck = {"npu1"}
    assert await watched.look(2) == [("unavailable", 1, "the card cannot be read")]
    assert hanging.threads == 4  # one of them is lost, and no further one
    assert await watched.look(3) == []
    assert hanging.threads == 4 + 3
    set_alive(tmp_path, 0, "0")
    assert await watched.look(2) == [("unavailable", 0, "the card does not answer (alive is 0)")]
    hanging.stuck = set()
    hanging.go_on.set()
    await came_back(caplog, 1)
    assert await watched.look(11) == [("unavailable", 1, None)]
    assert [line for line in caplog.messages if line.startswith("monitor.")] == [
        "monitor.stuck at=npu1",
        "monitor.came_back at=npu1",
    ]


async def test_a_holder_that_nobody_can_look_into_has_not_let_go(
    tmp_path: Path, hanging: Hanging
) -> None:
    watched = Watched(tmp_path, wrap=lambda _: hanging, patience=0.05)
    with holding(tmp_path / "dev/npu0pe0") as pid:
        assert ("foreign", "npu0pe0") in await watched.look()
        hanging.stuck = {f"pid {pid}"}
        assert await watched.look(3) == []
        assert [holder.pid for holder in watched.inventory.foreign[PE0]] == [pid]
        hanging.stuck = set()
        hanging.go_on.set()
    await until_foreign_is_gone(watched)


async def until_foreign_is_gone(watched: Watched) -> None:
    while watched.inventory.foreign:
        await watched.look()


async def test_a_slow_look_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    class Slow:
        def look(self, before: Sight, progress: Progress) -> Sight:
            for step in range(20):
                threading.Event().wait(0.02)
                progress.enter(f"pid {step}")
            return Looker(tmp_path).look(before, progress)

    watched = Watched(tmp_path, wrap=lambda _: Slow(), patience=0.15)
    assert await watched.look() == [("cards", 0, 1)]


async def test_when_everything_hangs_the_broker_stops_looking(
    tmp_path: Path, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watched = Watched(tmp_path, cards=1, wrap=lambda _: hanging, patience=0.005)
    await watched.look()
    hanging.stuck = {f"pid {pid}" for pid in range(MOST_STUCK + 5)}
    assert await watched.look(3) == [("unavailable", 0, "the card cannot be read")]
    assert hanging.threads == 1 + MOST_STUCK
    hanging.stuck = set()
    hanging.go_on.set()
    await came_back(caplog, MOST_STUCK)
    assert await watched.look(11) == [("unavailable", 0, None)]


async def test_the_monitor_is_cancelled_in_the_middle_of_a_look(
    tmp_path: Path, hanging: Hanging
) -> None:
    hanging.stuck = {"npu0"}
    watched = Watched(tmp_path, wrap=lambda _: hanging)
    running = asyncio.create_task(watched.monitor.run())
    await until(lambda: hanging.threads > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    hanging.go_on.set()
    assert watched.said == []


async def test_the_monitor_looks_again_and_again(tmp_path: Path, hanging: Hanging) -> None:
    watched = Watched(tmp_path, wrap=lambda _: hanging)
    running = asyncio.create_task(watched.monitor.run())
    await until(lambda: hanging.threads >= 3)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert watched.said == [("cards", 0, 1)]
