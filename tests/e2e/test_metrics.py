"""/metrics and /healthz of a real broker, read as Prometheus reads them."""

import http.client
import os
import re
import signal
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy
from furiosa.common.selector import DeviceSpec
from support.clients import Raised, Steered
from support.daemon import Daemon
from support.waiting import until

ANSWER_SECONDS = 5  # no page may take longer, whatever the broker does
PE0 = DeviceSpec.parse("npu:0:0")

ADDRESS = re.compile(r"metrics.listening address=(\S+)\n")

Labels = frozenset[tuple[str, str]]


@pytest.fixture
async def daemon(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    daemon = Daemon(2, "--metrics-listen", "127.0.0.1:0", "--drain-grace", "60")
    daemon.start()
    await until(lambda: ADDRESS.search(daemon.log) is not None)
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    yield daemon
    daemon.stop()


def page(daemon: Daemon, path: str) -> tuple[int, str]:
    found = ADDRESS.search(daemon.log)
    assert found
    connection = http.client.HTTPConnection(found[1], timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(daemon: Daemon) -> dict[str, dict[Labels, float]]:
    """Samples by name, without the prefix, and labels."""
    status, text = page(daemon, "/metrics")
    assert status == 200, text
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            name = sample.name.removeprefix("furiosa_broker_")
            found.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
    return found


class Scrapes:
    """The newest numbers; a page may be a moment old."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._now = scrape(daemon)

    def get(self, name: str, **labels: str) -> float:
        return self._now.get(name, {}).get(frozenset(labels.items()), 0.0)

    async def become(self, name: str, value: float, **labels: str) -> None:
        def became() -> bool:
            self._now = scrape(self._daemon)
            return self.get(name, **labels) == value

        await until(became)


async def test_numbers_move_with_what_happens(daemon: Daemon) -> None:
    numbers = Scrapes(daemon)
    assert numbers.get("cores", state="available") == 4
    assert numbers.get("grants_total", tenant=f"uid:{os.getuid()}") == 0
    with Connection.open(client="test") as connection, Steered(daemon.environ) as waiter:
        tenant = connection.acquire(PE0).tenant
        (lease,) = connection.leases()
        with pytest.raises(DeviceBusy):
            connection.acquire(PE0)
        waiter.order("acquire('npu:0:0', 60)")
        await numbers.become("waiters", 1, tenant=tenant)
        assert numbers.get("grants_total", tenant=tenant) == 1
        assert numbers.get("refusals_total", reason="DEVICE_BUSY") == 1
        assert numbers.get("leases", tenant=tenant, state="granted") == 1
        assert numbers.get("lease_cores", tenant=tenant) == 1
        assert numbers.get("cores", state="occupied") == 1
        assert numbers.get("sessions") == 2
        connection.release(lease.id)
        waiter.answer()
        await numbers.become("grants_total", 2, tenant=tenant)
        assert numbers.get("ended_total", cause="released") == 1
        assert numbers.get("grant_wait_seconds_count") == 2
        assert numbers.get("grant_wait_seconds_bucket", le="+Inf") == 2
        assert numbers.get("lease_held_seconds_count") == 1
        connection.cordon(1)
        await numbers.become("card_available", 0, npu="1")
        assert numbers.get("cores", state="unavailable") == 2
        waiter.kill()
        await numbers.become("ended_total", 1, cause="died")
        await numbers.become("sessions", 1)


async def test_a_broker_that_hangs_is_not_healthy(daemon: Daemon) -> None:
    assert page(daemon, "/healthz") == (200, "ok\n")
    assert page(daemon, "/readyz") == (200, "ready\n")
    daemon.signal(signal.SIGSTOP)
    try:
        for path in ("/healthz", "/readyz"):
            await until(lambda path=path: page(daemon, path)[0] == 503)  # type: ignore[misc]  # bound
            assert "no answer within 1 s" in page(daemon, path)[1]
    finally:
        daemon.signal(signal.SIGCONT)
    assert page(daemon, "/healthz") == (200, "ok\n")


async def test_a_broker_that_drains_is_healthy_and_not_ready(daemon: Daemon) -> None:
    with Steered(daemon.environ) as owner:
        lease = owner.ask("acquire('npu:0:0')")
        daemon.signal(signal.SIGTERM)
        await until(lambda: page(daemon, "/readyz") == (503, "it is shutting down\n"))
        assert page(daemon, "/healthz") == (200, "ok\n")
        with pytest.raises(Raised, match="BrokerDraining"):
            owner.ask("acquire('npu:0:1')")
        assert owner.ask(f"notice({lease!r})") == [
            ["LeaseRecalledNotice", "the broker is shutting down"]
        ]
        owner.ask(f"connection.release({lease!r})")
        assert daemon.wait() == 0
