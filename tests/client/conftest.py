from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from support.fake_broker import FakeBroker, fake_broker
from support.leaks import nothing_left_open


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with nothing_left_open(), fake_broker() as broker:
        yield broker


@pytest.fixture
def connection(broker: FakeBroker) -> Iterator[Connection]:
    with Connection.open(broker.address, client="t") as connection:
        yield connection
