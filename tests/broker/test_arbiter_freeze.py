"""An arbiter that leaves everything to a successor: who was granted something knows it, and then nothing."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker.journal import Journal, Record, Sync
from furiosa.broker.lease import Claim, Terms
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.arbiters import BOOT, Bench
from support.owners import FakeSession

SPEC, CLAIM = DeviceSpec.parse("npu:0:0"), Claim("uid:1000")


@pytest.fixture(params=list(Sync))
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path, stops_at_once=True, sync=request.param)
    yield made
    made.journal.close()


def records(bench: Bench) -> tuple[Record, ...]:
    journal = Journal(bench.path, boot=BOOT)
    try:
        return journal.recover()
    finally:
        journal.close()


def recorded(bench: Bench) -> list[tuple[str, LeaseState]]:
    """What a successor finds."""
    return [(record.lease.id, record.lease.state) for record in records(bench)]


async def test_what_was_granted_is_told_before_it_is_frozen(bench: Bench) -> None:
    heard: list[str] = []
    first = bench.arbiter.request(FakeSession(7).session, SPEC, math.inf, CLAIM)
    first.add_done_callback(lambda answer: heard.append(answer.result().lease.id))
    second = bench.arbiter.request(FakeSession(8).session, SPEC, math.inf, CLAIM)
    await bench.arbiter.freeze()
    assert heard == ["l0"]
    assert not second.done()
    second.cancel()


async def test_nothing_changes_any_more(bench: Bench) -> None:
    owner, other = bench.connect(FakeSession(7)), FakeSession(8)
    lease = await bench.acquire(owner, terms=Terms(time_to_live=10.0))
    waiting = bench.arbiter.request(other.session, SPEC, math.inf, CLAIM)
    await bench.arbiter.freeze()
    bench.clock.advance(100)
    bench.arbiter.elapsed()
    bench.arbiter.session_gone(owner.session, "it hung up")
    bench.arbiter.revoke(lease.id, "somebody wants it", 0.0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert owner.notices == []
    assert recorded(bench) == [(lease.id, LeaseState.GRANTED)]
    waiting.cancel()


async def test_a_successor_knows_when_a_lease_that_is_taken_back_ends(bench: Bench) -> None:
    owner = bench.connect(FakeSession(7))
    lease = await bench.acquire(owner)
    bench.arbiter.revoke(lease.id, "somebody wants it", 30.0)
    [record] = records(bench)
    assert (record.lease.state, record.lease.ends_at) == (LeaseState.RECALLED, 130.0)
    assert record.lease.expires_at == math.inf
