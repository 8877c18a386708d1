"""Leases with a time to live, of a runtime at a real broker."""

import math
from collections.abc import Iterator

import pytest

from furiosa import runtime
from furiosa.common.views import LeaseState
from furiosa.runtime import FuriosaRuntimeError, sync
from support import digits
from support.daemon import Daemon
from support.waiting import block_until

IMAGE = digits.held_out_images()[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon(1, "--recall-grace", "2")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(autouse=True)
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("FURIOSA_BROKER", shared.environ["FURIOSA_BROKER"])
    return shared


async def test_a_lease_is_renewed_in_time() -> None:
    with sync.Runtime("npu:0:0", time_to_live=60) as blocking:
        assert blocking.lease is not None
        first = blocking.lease.ends_at
        assert first is not None
        assert blocking.renew(600) == blocking.lease
        assert blocking.lease.ends_at is not None
        assert 500 < blocking.lease.ends_at - first < 700
        second = blocking.lease.ends_at
        assert (blocking.renew().ends_at or 0) >= second, "as long as before"
    async with runtime.Runtime("npu:0:0") as waiting:
        assert waiting.lease is not None
        assert waiting.lease.ends_at is None
        renewed = await waiting.renew(60.0)
        assert renewed.ends_at is not None
        assert waiting.lease == renewed


def test_a_lease_that_nobody_renews_ends() -> None:
    with sync.Runtime("npu:0:0", time_to_live=600) as blocking:
        runner = blocking.create_runner(digits.program())
        lease = blocking.lease
        assert lease is not None
        blocking.renew(0.1)
        block_until(lambda: state(blocking) is LeaseState.EXPIRING)
        assert blocking.renew(0.1).state is LeaseState.GRANTED
        block_until(lambda: state(blocking) is LeaseState.ENDED)
        with pytest.raises(FuriosaRuntimeError, match="time to live is over"):
            runner.run(IMAGE)
        with pytest.raises(FuriosaRuntimeError, match=f"lease {lease.id} has ended"):
            blocking.renew()
        with sync.Runtime("npu:0:0", wait=60) as other:  # its workers may still be being stopped
            assert other.devices == ("npu0pe0",)


def state(of: sync.Runtime) -> LeaseState | None:
    return None if of.lease is None else of.lease.state


@pytest.mark.parametrize(
    ("value", "error"), [("60", TypeError), (-1, ValueError), (math.nan, ValueError)]
)
def test_what_is_no_time(value: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="time_to_live"):
        sync.Runtime("npu:0:0", time_to_live=value)
    with sync.Runtime("npu:0:0") as blocking, pytest.raises(error, match="time_to_live"):
        blocking.renew(value)


@pytest.mark.parametrize("value", [None, 0])
def test_without_an_end_it_holds(value: float | None) -> None:
    with sync.Runtime("npu:0:0", time_to_live=value) as blocking:
        assert blocking.lease is not None
        assert blocking.lease.ends_at is None
