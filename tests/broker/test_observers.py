"""Who watches the arbiter is told after whoever asked it, of everything and in order."""

import asyncio
import errno
from types import SimpleNamespace
from typing import Any

import pytest

from furiosa.broker.lease.states import Lease
from furiosa.broker.observers import AtTurnsEnd, Everybody
from furiosa.common.views import LeaseState

LEASE = Lease("l", 1, (), LeaseState.GRANTED)
GRANT: Any = object()
FULL = OSError(errno.ENOSPC, "full")


class Heard:
    """Any observer: which of its methods were called, and with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: self.calls.append((name, *facts))


async def test_all_of_a_turn_is_told_at_its_end_in_order() -> None:
    heard = Heard()
    observer = AtTurnsEnd(heard)
    observer.granted(LEASE, GRANT, 0.5)
    observer.changed(LEASE, LEASE, GRANT)
    observer.ended(LEASE, GRANT, 2.0)
    observer.journal_failed("l", FULL)
    assert heard.calls == []
    await asyncio.sleep(0)
    assert heard.calls == [
        ("granted", LEASE, GRANT, 0.5),
        ("changed", LEASE, LEASE, GRANT),
        ("ended", LEASE, GRANT, 2.0),
        ("journal_failed", "l", FULL),
    ]


async def test_the_next_turn_is_told_as_well() -> None:
    heard = Heard()
    observer = AtTurnsEnd(heard)
    for seconds in (1.0, 2.0):
        observer.journal_synced(seconds)
        await asyncio.sleep(0)
    assert heard.calls == [("journal_synced", 1.0), ("journal_synced", 2.0)]


async def test_the_last_turn_of_all_is_told_when_asked_for_and_once() -> None:
    heard = Heard()
    observer = AtTurnsEnd(heard)
    observer.adopted(LEASE, GRANT)
    observer.tell()
    assert heard.calls == [("adopted", LEASE, GRANT)]
    await asyncio.sleep(0)
    assert len(heard.calls) == 1


@pytest.mark.parametrize(
    ("cause", "counted"),
    [
        ("released by its owner", "released"),
        ("its owner asked for devices anew", "released"),
        ("its owner died", "died"),
        ("the broker was restarted", "disconnected"),
        ("the broker is shutting down", "shutdown"),
        ("npu0: too hot", "device"),
        ("something new", "other"),
    ],
)
def test_ends_are_counted_by_what_they_come_from(cause: str, counted: str) -> None:
    metrics: Any = Heard()
    audit: Any = Heard()
    grant: Any = SimpleNamespace(owner=SimpleNamespace(pid=1))
    audit.is_kept = False
    lease = Lease("l", 1, (), LeaseState.ENDED, cause=cause)
    Everybody(audit, metrics).ended(lease, grant, 2.0)
    assert metrics.calls == [("ended", counted, 2.0)]
