import os
from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from support.fake_broker import FakeBroker, fake_broker


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    before = open_files()
    with fake_broker() as broker:
        yield broker
    assert open_files() <= before, "descriptors were left open"


@pytest.fixture
def connection(broker: FakeBroker) -> Iterator[Connection]:
    with Connection.open(broker.address, client="t") as connection:
        yield connection
