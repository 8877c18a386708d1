"""Asking the broker, and going on when it has come back."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from furiosa.cli.monitor.sample import Sample
from furiosa.cli.monitor.source import Lost, Source, user_name
from furiosa.common.errors import BrokerUnavailable, LimitExceeded, NotAllowed
from furiosa.common.views import DeviceView, UtilizationView
from support.shown_devices import ShownBroker
from support.shown_samples import a_card, a_use

GONE = BrokerUnavailable("unix:/b.sock", "it hung up")


@dataclass
class PacedBroker(ShownBroker):
    """Measures when it is told to; `ways` are what further connections are: a broker, or an error."""

    held: tuple[DeviceView, ...] = (a_card(0),)
    windows: list[int] = field(default_factory=list)
    tick: "queue.Queue[BaseException | None]" = field(default_factory=queue.Queue)
    ways: "list[ShownBroker | BaseException]" = field(default_factory=list)

    def utilization(self, window_ms: int = 1000) -> tuple[UtilizationView, ...]:
        self.windows.append(window_ms)
        if (error := self.tick.get()) is not None:
            raise error
        return (a_use("npu0pe0", 0.5),)

    def reopen(self, *, client: str) -> ShownBroker:
        way = self.ways.pop(0)
        if isinstance(way, BaseException):
            raise way
        return way

    def close(self) -> None:
        super().close()
        self.tick.put(GONE)


@dataclass
class Followed:
    source: Source
    news: "queue.Queue[Sample | Lost]"

    def next(self) -> Sample | Lost:
        return self.news.get(timeout=20)

    def sample(self) -> Sample:
        news = self.next()
        assert isinstance(news, Sample)
        return news


@pytest.fixture
def broker() -> PacedBroker:
    return PacedBroker()


@pytest.fixture
def followed(broker: PacedBroker) -> Iterator[Followed]:
    made = Followed(Source(broker, 700), queue.Queue())
    made.source.start(made.news.put)
    yield made
    made.source.close()
    assert threading.active_count() == 1


def test_the_first_sample_does_not_wait_for_a_measurement(followed: Followed) -> None:
    sample = followed.sample()
    assert (sample.devices, sample.uses, sample.is_measured) == ((a_card(0),), (), False)


def test_further_samples_come_with_each_measurement(
    broker: PacedBroker, followed: Followed
) -> None:
    followed.sample()
    broker.tick.put(None)
    assert (sample := followed.sample()).uses == (a_use("npu0pe0", 0.5),)
    assert sample.is_measured
    followed.source.interval_ms = 200
    broker.tick.put(None)
    followed.sample()
    broker.tick.put(None)
    followed.sample()
    assert broker.windows[0] == 700
    assert broker.windows[2] == 200


def test_a_lost_broker_is_said_and_another_connection_made(
    broker: PacedBroker, followed: Followed
) -> None:
    after = PacedBroker(held=(a_card(5),))
    broker.ways = [GONE, after]
    followed.sample()
    broker.error = GONE
    broker.tick.put(GONE)
    assert followed.next() == Lost("no broker at unix:/b.sock: it hung up")
    assert followed.next() == Lost("no broker at unix:/b.sock: it hung up")
    assert followed.sample().devices == (a_card(5),)
    assert broker.closed == 1
    after.tick.put(None)
    assert followed.sample().is_measured


def test_a_refusal_is_said_and_the_connection_kept(broker: PacedBroker, followed: Followed) -> None:
    followed.sample()
    broker.tick.put(LimitExceeded("measurements", 5, 4))
    assert isinstance(followed.next(), Lost)
    assert followed.sample().devices == (a_card(0),)
    assert broker.closed == 0


def test_nothing_is_asked_while_it_is_paused(broker: PacedBroker, followed: Followed) -> None:
    followed.sample()
    followed.source.pause(True)
    broker.tick.put(None)  # the measurement that is underway
    followed.sample()
    broker.held = (a_card(1),)
    followed.source.pause(False)
    broker.tick.put(None)
    assert followed.sample().devices == (a_card(1),)
    assert len(broker.windows) <= 3


def test_what_an_act_changed_is_told_at_once(broker: PacedBroker, followed: Followed) -> None:
    followed.sample()
    broker.tick.put(None)
    followed.sample()
    said = followed.source.act(lambda asked: f"{asked.drain(0)} revoked")
    sample = followed.sample()
    assert said == "0 revoked"
    assert broker.done == [("drain", 0, None, "")]
    assert (sample.uses, sample.is_measured) == ((a_use("npu0pe0", 0.5),), False)


def test_an_act_raises_what_the_broker_says(broker: PacedBroker, followed: Followed) -> None:
    followed.sample()
    broker.error = NotAllowed("uid:1000", "drain cards")
    with pytest.raises(NotAllowed):
        followed.source.act(lambda asked: str(asked.drain(0)))
    broker.error = None


def test_users_have_names_where_they_are_known() -> None:
    assert user_name(0) == "root"
    assert user_name(2**31 - 7) == str(2**31 - 7)
